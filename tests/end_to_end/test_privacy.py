"""What runs here tells nobody else."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.process import ROOT, TIMEOUT_S, clean_environment


@pytest.mark.parametrize(
    "module", ["noisevote.engine.session", "noisevote.evaluation.onnx_runtime", "benchmarks.graphs"]
)
def test_onnx_runtime_reports_to_nobody(module: str, tmp_path: Path) -> None:
    """Imported through ours, it makes neither the device id nor the queue of reports that it makes by itself."""
    environment = clean_environment(HOME=str(tmp_path))
    for name in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME"):
        environment.pop(name, None)
    code = f"import {module}, sys; assert 'onnxruntime' in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, timeout=TIMEOUT_S, check=True)
    assert list(tmp_path.iterdir()) == []
