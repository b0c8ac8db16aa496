"""`noisevote verify answer.json --input …`: whether a published file gives the certificates of an answer."""

import argparse
import base64
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError

from noisevote.engine.errors import BadModelError
from noisevote.engine.input_noise import refuse_other_noise
from noisevote.engine.session import open_session
from noisevote.engine.trial import Expectation
from noisevote.evaluation.certificates import CertifyAnswer, differences, differences_from_manifest, summary
from noisevote.model_store.manifest import InputSpec
from noisevote.model_store.store import BadManifestError, ModelStore, RefusedFileError, UnknownVersionError
from noisevote.noise_op.library import load_kernel

STORE: Final = Path(__file__).resolve().parent.parent / "model_store" / "models"
VERIFIED, DIFFERENT, UNUSABLE = 0, 1, 2
PICTURES: Final = {"L": 1, "RGB": 3}  # Pillow's modes of 8 bits, and their channels


class VerifyError(Exception):
    """An answer, an input or a model cannot be used; the message names it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Verify an answer. Returns 0 if it is what the file gives, 1 if it is not, 2 if that cannot be told."""
    asked = command_parser().parse_args(arguments)
    try:
        answer = CertifyAnswer.model_validate_json(asked.answer.read_bytes())
        found, told = _verified(answer, asked.input, ModelStore(asked.model_store))
    except (VerifyError, ValidationError, OSError, ValueError, BadModelError) as error:
        print(f"noisevote verify: {error}", file=sys.stderr)
        return UNUSABLE
    except (BadManifestError, RefusedFileError, UnknownVersionError) as error:
        print(f"noisevote verify: {error}", file=sys.stderr)
        return UNUSABLE
    print(json.dumps(found) if asked.json else told)
    return VERIFIED if found["verified"] else DIFFERENT


def _verified(answer: CertifyAnswer, file: Path, store: ModelStore) -> tuple[Any, str]:
    manifest = store.manifest(answer.model, answer.version)
    variant = manifest.variant(answer.variant)
    if variant is None:
        raise VerifyError(f"{answer.model} {answer.version} has no variant {answer.variant!r}")
    stated = differences_from_manifest(answer, manifest, variant)
    if stated:
        return summary(answer, [stated]), "\n".join(map(str, stated))
    inputs = read_inputs(file, manifest.input)
    if len(inputs) != len(answer.certificates):
        raise VerifyError(f"{file}: {len(inputs)} inputs, but the answer has {len(answer.certificates)} certificates")
    session = open_session(store.read(manifest, variant), Expectation.of(manifest), load_kernel())
    refuse_other_noise(session, manifest.input, answer.sigma)
    found = list(differences(answer, inputs, session, len(manifest.classes)))
    lines = [
        "\n".join(map(str, differing)) or f"certificates[{number}]: as answered, radius {each.radius:.6g}"
        for number, (differing, each) in enumerate(zip(found, answer.certificates, strict=True))
    ]
    return summary(answer, found), "\n".join(lines)


def read_inputs(file: Path, spec: InputSpec) -> NDArray[np.float32]:
    """Inputs float32 [n, *shape] from a file: .npy, an image of 8 bits, or JSON (a request's body, or its inputs).

    Raises:
        VerifyError: it is none of these, or does not fit the model.
    """
    if file.suffix == ".npy":
        given: list[Any] = list(np.load(file, allow_pickle=False))
    elif file.suffix == ".json":
        body = json.loads(file.read_bytes())
        given = body["inputs"] if isinstance(body, dict) else body
    else:
        given = [{"image": base64.b64encode(file.read_bytes()).decode()}]
    return np.stack([_read(item, spec, f"{file}: inputs[{number}]") for number, item in enumerate(given)])


def _read(item: Any, spec: InputSpec, place: str) -> NDArray[np.float32]:
    values = _values(item, spec, place)
    if values.shape != spec.shape:
        raise VerifyError(f"{place}: shape {list(values.shape)}; the model takes {list(spec.shape)}")
    return values


def _values(item: Any, spec: InputSpec, place: str) -> NDArray[np.float32]:
    match item:
        case {"b64": content, "dtype": "float32"}:
            return np.frombuffer(base64.b64decode(content), "<f4").reshape(spec.shape).astype(np.float32)
        case {"b64": content, "dtype": "uint8"}:
            return _scaled(np.frombuffer(base64.b64decode(content), np.uint8).reshape(spec.shape), spec)
        case {"image": content}:
            return _picture(base64.b64decode(content), spec, place)
    return np.asarray(item, np.float64).astype(np.float32)


def _picture(content: bytes, spec: InputSpec, place: str) -> NDArray[np.float32]:
    """A picture that is read in one way only: 8 bits, grey or colour as the model takes it, lossless."""
    with Image.open(io.BytesIO(content)) as image:
        if image.format != "PNG" or PICTURES.get(image.mode) != spec.shape[0]:
            kind = f"{image.format} of mode {image.mode}"
            raise VerifyError(f"{place}: {kind} is not read here as exactly as by the service; give the numbers")
        pixels = np.asarray(image)
    return _scaled(pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1), spec)


def _scaled(samples: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.float32]:
    """As the service scales samples of 8 bits onto the value range."""
    low, high = spec.value_range
    scaled = samples.astype(np.float32) / np.float32(255) * np.float32(high - low) + np.float32(low)
    return np.asarray(np.minimum(scaled, np.float32(high)))


def command_parser() -> argparse.ArgumentParser:
    """The flags of `noisevote verify`."""
    parser = argparse.ArgumentParser(
        prog="noisevote verify",
        description="Recompute the votes, counts and radii of certificates from the published file.",
        epilog="Exit status: 0 as answered, 1 different, 2 cannot be told.",
        allow_abbrev=False,
    )
    parser.add_argument("answer", type=Path, help="the answer of …/certify, JSON")
    parser.add_argument(
        "--input", type=Path, required=True, help="what was certified: .npy, .png, or .json (the request's body)"
    )
    parser.add_argument("--model-store", type=Path, default=STORE, help="folder of published models")
    parser.add_argument("--json", action="store_true", help="for programs")
    return parser


if __name__ == "__main__":
    sys.exit(main())
