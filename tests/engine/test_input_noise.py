"""What a file that certifies must be, and whose choice its noise is."""

import hashlib

import numpy as np
import pytest

from noisevote.engine.certificate_seed import certificate_seed
from noisevote.engine.errors import BadModelError
from noisevote.engine.onnx_engine import OnnxEngine
from noisevote.engine.session_key import SessionKey
from noisevote.noise_op.library import load_kernel
from tests.support.graphs import tiny_network
from tests.support.manifests import manifest, variant
from tests.support.smoothed import SHAPE, SIGMA, smoothed_network

KEY = SessionKey("smooth", "1", "a")


def load(content: bytes, certifies: float | None, *, kernel: bool = True) -> None:
    """Load a file as the engine does when it is published with this claim."""
    published = manifest({"a": content}, shape=SHAPE, variants=(variant("a", content, certifies=certifies),))
    OnnxEngine(load_kernel() if kernel else None).load(KEY, published, content)


@pytest.mark.parametrize("kernel", [True, False])
def test_noise_added_to_the_input_certifies(kernel: bool) -> None:
    """On the kernel as on the function body."""
    load(smoothed_network(), SIGMA, kernel=kernel)


def test_noise_elsewhere_does_not_certify() -> None:
    """Noise on outputs or signals inside is refused when the file is loaded; without the claim it is served."""
    with pytest.raises(BadModelError, match=r"certifies: 0\.5, but its noise is not additive at the input alone"):
        load(smoothed_network(noisy_input=False), SIGMA)
    tiny = tiny_network(classes=3, shape=SHAPE)
    with pytest.raises(BadModelError, match="certifies"):
        load(tiny, SIGMA)
    load(tiny, None)


def test_the_seed_is_the_first_64_bits_of_the_hash() -> None:
    """Of the file's hash, the input's float32 bytes and the nonce; another of either is another seed."""
    sha256, nonce = "ab" * 32, "01" * 16
    example = np.arange(4, dtype=np.float32).reshape(1, 2, 2)
    whole = bytes.fromhex(sha256) + b"".join(np.float32(value).tobytes() for value in range(4)) + bytes.fromhex(nonce)
    seed = certificate_seed(sha256, example, nonce)
    assert seed == int(hashlib.sha256(whole).hexdigest()[:16], 16)
    others = {
        certificate_seed("ac" * 32, example, nonce),
        certificate_seed(sha256, example + 1, nonce),
        certificate_seed(sha256, example, "02" * 16),
    }
    assert len(others | {seed}) == 4


def test_a_short_nonce_is_no_nonce() -> None:
    """Sixteen bytes are hashed, neither more nor fewer."""
    with pytest.raises(ValueError, match="16 bytes"):
        certificate_seed("ab" * 32, np.zeros(1, np.float32), "01")
