from pathlib import Path

import pytest

from noisevote.evaluation.examples import Examples
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
