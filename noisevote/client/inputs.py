"""What can be sent as inputs, and how it is written into a request's body."""

import base64
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisevote.client.errors import InputError

# An array alone is a batch, [inputs, *shape]; a path or a picture's bytes alone are what the file holds.
Input = NDArray[Any] | bytes | str | os.PathLike[str] | Sequence[Any]
Inputs = NDArray[Any] | bytes | str | os.PathLike[str] | Sequence[Input]


def written(inputs: Inputs) -> list[Any]:
    """The value of the key `inputs`.

    Args:
        inputs: an array [inputs, *shape] of uint8 (0 … 255 is scaled onto the model's range) or floating point (taken
            as it is); the path of a file or the bytes of a picture (PNG or JPEG); or a list of inputs, each an array
            of the model's shape, a path, a picture's bytes, or nested numbers. A file is a picture, a `.npy` of inputs
            [inputs, *shape], or a `.json` of a request's body or its list of inputs.

    Raises:
        InputError: it is nothing of these, or a file cannot be read.
    """
    if isinstance(inputs, str | os.PathLike | bytes):
        return list(_inputs_of(inputs))
    if isinstance(inputs, np.ndarray) and inputs.ndim == 0:
        raise InputError("inputs: an array without axes; its first axis is that of the inputs")
    return [each for given in inputs for each in _inputs_of(given)]


def _inputs_of(given: Input) -> Iterator[Any]:
    if isinstance(given, bytes):
        yield {"image": base64.b64encode(given).decode()}
    elif isinstance(given, str | os.PathLike):
        yield from _inputs_in(Path(given))
    elif isinstance(given, np.ndarray | np.generic):
        yield _array(np.asarray(given))
    else:
        yield given


def _array(values: NDArray[Any]) -> dict[str, str]:
    """An array's bytes, C order, little-endian."""
    if values.dtype == np.uint8:
        kind, content = "uint8", values.tobytes()
    elif np.issubdtype(values.dtype, np.floating):
        kind, content = "float32", values.astype("<f4").tobytes()
    else:
        raise InputError(f"inputs: an array of {values.dtype}; samples of 8 bits are uint8, other values float32")
    return {"b64": base64.b64encode(content).decode(), "dtype": kind}


def _inputs_in(file: Path) -> Iterator[Any]:
    try:
        if file.suffix == ".npy":
            yield from map(_array, np.load(file, allow_pickle=False))
        elif file.suffix == ".json":
            body = json.loads(file.read_bytes())
            yield from body["inputs"] if isinstance(body, dict) else body
        else:
            yield {"image": base64.b64encode(file.read_bytes()).decode()}
    except OSError as error:
        raise InputError(f"{file}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file}: no {file.suffix} of inputs: {error}") from error
