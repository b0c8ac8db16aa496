"""The seed of a certificate's noise: fixed by the file, the input and the server's nonce, chosen by nobody."""

import hashlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

NONCE_BYTES: Final = 16
SEED_BYTES: Final = 8


def certificate_seed(sha256: str, example: NDArray[np.float32], nonce: str) -> int:
    """First 64 bits, big-endian, of SHA-256(file's sha256 ‖ the input's bytes ‖ nonce).

    Args:
        sha256: of the ONNX file, in hexadecimal digits; its 32 bytes are hashed.
        example: float32 of the input's shape; its little-endian bytes in C order are hashed.
        nonce: in hexadecimal digits; its 16 bytes are hashed.

    Raises:
        ValueError: the nonce or the hash is not written so.
    """
    file, drawn = bytes.fromhex(sha256), bytes.fromhex(nonce)
    if len(drawn) != NONCE_BYTES:
        raise ValueError(f"nonce: {nonce!r} is not {NONCE_BYTES} bytes in hexadecimal digits")
    hashed = hashlib.sha256(file + np.ascontiguousarray(example, "<f4").tobytes() + drawn).digest()
    return int.from_bytes(hashed[:SEED_BYTES], "big")
