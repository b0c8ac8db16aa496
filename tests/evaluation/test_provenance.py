import subprocess
import sys
from importlib.metadata import PackageNotFoundError

import pytest

from noisevote.evaluation import provenance
from tests.support.process import ROOT, TIMEOUT_S, clean_environment
from tests.test_imports import LOOKING_INTO_FILES

pytestmark = pytest.mark.slow

MODULES = sorted(f"noisevote.evaluation.{path.stem}" for path in (ROOT / "evaluation").glob("[a-z]*.py"))


def test_evaluation_runs_without_the_training_packages() -> None:
    """Importing all of the room leaves torch unloaded, and onnx where nothing looks into files; versions are told."""
    looking = [f"noisevote.evaluation.{name.removesuffix('.py')}" for name in LOOKING_INTO_FILES]
    measuring = [name for name in MODULES if name not in looking]
    assert "noisevote.evaluation.accuracy" in measuring
    code = f"""
import importlib, sys
for name in {measuring!r}:
    importlib.import_module(name)
assert "onnx" not in sys.modules
for name in {MODULES!r}:
    importlib.import_module(name)
assert "torch" in sys.modules["noisevote.evaluation.provenance"].versions()
print(sorted({{"torch", "onnxscript", "safetensors"}} & set(sys.modules)))
"""
    command = [sys.executable, "-c", code]
    answer = subprocess.run(
        command, cwd=ROOT, env=clean_environment(), timeout=TIMEOUT_S, check=True, capture_output=True, text=True
    )
    assert answer.stdout.strip() == "[]"


def test_packages_that_are_not_installed_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions are of what is there: a machine without torch measures too."""

    def version(package: str) -> str:
        if package == "torch":
            raise PackageNotFoundError(package)
        return "1.2"

    monkeypatch.setattr(provenance, "version", version)
    assert provenance.versions().keys() == {"python", "numpy", "onnx", "onnxruntime"}


def test_copy_without_history_is_told_its_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """NOISEVOTE_COMMIT names the commit where there is no git."""
    monkeypatch.setenv(provenance.COMMIT_VARIABLE, "abc")
    assert provenance.git_commit() == "abc"
