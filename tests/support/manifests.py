"""Small manifests that are valid, for tests to change."""

from collections.abc import Mapping, Sequence
from typing import Any

from noisevote.model_store.manifest import AccuracyPoint, InputSpec, Manifest, Operator, Provenance, Variant
from noisevote.model_store.store import digest
from noisevote.noise_op.contract import NoiseKind


def point(sigma: float, accuracy: float, votes: int = 20, **fields: Any) -> AccuracyPoint:
    """A measured accuracy, multiplicative unless said otherwise."""
    known: dict[str, Any] = {"noise": "multiplicative", "reads": 1, "images": 100, "seed": 0}
    return AccuracyPoint(sigma=sigma, accuracy=accuracy, votes=votes, **(known | fields))


def variant(
    name: str = "mul-0.8",
    content: bytes = b"onnx",
    *,
    noise: NoiseKind = "multiplicative",
    sigma_train: float = 0.8,
    accuracy: Sequence[AccuracyPoint] = (),
    **fields: Any,
) -> Variant:
    """A variant whose file has the given content."""
    known: dict[str, Any] = {
        "network": "tiny",
        "recipe": {"epochs": 1, "sigma_train": sigma_train},
        "provenance": Provenance(data_set="none", files={}, train_images=1),
        "parameters": 10,
        "multiply_accumulates": 10,
        "samples": 5,
        "layers": 2,
    }
    return Variant(
        name=name,
        file=f"{name}.onnx",
        sha256=digest(content),
        bytes=len(content),
        noise=noise,
        sigma_train=sigma_train,
        accuracy=tuple(accuracy),
        **(known | fields),
    )


def manifest(
    files: Mapping[str, bytes],
    name: str = "tiny",
    version: str = "1",
    shape: tuple[int, ...] = (1, 4, 4),
    **fields: Any,
) -> Manifest:
    """A manifest with one variant for each file."""
    known: dict[str, Any] = {
        "title": "A tiny model",
        "classes": ("a", "b", "c"),
        "operator": Operator(domain="noisevote", version=1),
        "variants": tuple(variant(each, content) for each, content in files.items()),
    }
    return Manifest(
        name=name,
        version=version,
        input=InputSpec(shape=shape),
        **(known | fields),
    )
