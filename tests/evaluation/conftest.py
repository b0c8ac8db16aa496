from pathlib import Path

import pytest

from noisevote.evaluation.examples import Examples
from noisevote.model_store.manifest import InputSpec
from noisevote.model_store.store import ModelStore
from tests.support.digits import stored_digits
from tests.support.process import ROOT


@pytest.fixture(scope="session")
def digits() -> Examples:
    """The 64 digits that are kept with the tests."""
    return stored_digits()


@pytest.fixture(scope="session")
def exported() -> Path:
    """A published ONNX file that reads digits."""
    return ROOT / "model_store" / "models" / "mnist-cnn" / "3" / "mul-0.8.onnx"


def exported_by(model: str) -> tuple[bytes, InputSpec, int]:
    """A published file `<model>/<version>/<variant>`, what it takes, and how many classes it has."""
    name, version, variant = model.split("/")
    store = ModelStore(ROOT / "model_store" / "models")
    manifest = store.manifest(name, version)
    found = manifest.variant(variant)
    assert found is not None
    return store.read(manifest, found), manifest.input, len(manifest.classes)
