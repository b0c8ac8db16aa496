import os
import subprocess
import sys
import sysconfig
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noisevote.noise_op import library
from noisevote.noise_op.function_body import gaussian_noise_function
from noisevote.noise_op.library import Kernel, NoKernelWarning, load_kernel, open_kernel
from tests.noise_op.conftest import FLOAT, graph, session

PROJECT = Path(__file__).parents[2]

# Run against an install without a kernel: one warning, no kernel, and noise from the function body.
WITHOUT_KERNEL = """
import sys, warnings
import numpy as np, onnxruntime
from noisevote.noise_op.library import load_kernel
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    assert load_kernel() is None
    assert load_kernel() is None
feeds = dict(np.load("feeds.npz"))
session = onnxruntime.InferenceSession("one_node.onnx", providers=["CPUExecutionProvider"])
np.save("y.npy", session.run(["y"], feeds)[0])
print(len(caught), caught[0].category.__name__)
"""


@pytest.fixture
def fresh_loading() -> object:
    """Forget the loaded kernel before and after."""
    load_kernel.cache_clear()
    yield
    load_kernel.cache_clear()


def test_one_warning_where_the_library_is_missing(
    fresh_loading: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the shared library there is no kernel and one warning, not one for each session."""
    monkeypatch.setattr(library, "LIBRARY_FILE", tmp_path / "missing.so")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert load_kernel() is None
        assert load_kernel() is None
    assert [warning.category for warning in caught] == [NoKernelWarning]
    assert "C++ compiler" in str(caught[0].message)


def test_a_file_that_is_no_library_is_an_error(tmp_path: Path) -> None:
    """A damaged library is an OSError with its path, never a crash."""
    damaged = tmp_path / "damaged.so"
    damaged.write_bytes(b"not a library")
    with pytest.raises(OSError, match="damaged"):
        open_kernel(damaged)


def test_the_kernel_picks_the_widest_runnable_instruction_set(kernel: Kernel) -> None:
    """What it uses is the first of those that can run here, and the portable one always can."""
    assert kernel.isa == kernel.isas()[0]
    assert kernel.isas()[-1] == "portable"


def test_threads_do_not_change_a_bit(kernel: Kernel) -> None:
    """The batch entry point gives the same signal with any number of threads."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((7, 300), dtype=np.float32)
    sigma = np.ones((7, 2), np.float32)
    seed, vote = np.arange(7), np.arange(7)
    outputs = []
    for threads in (1, 2, 5, 16):
        y = np.empty_like(x)
        batch = library.Batch(
            rows=7, channels=1, positions=300, channels_last=False, sigma=sigma.ctypes.data, seed=seed.ctypes.data,
            vote=vote.ctypes.data, source=None, site=1, step=0, relu=False, version=1,
        )  # fmt: skip
        kernel.forward(batch, False, x.ctypes.data, y.ctypes.data, library.Team(threads, None))
        outputs.append(y)
    assert all((y == outputs[0]).all() for y in outputs)


@pytest.mark.slow
def test_install_without_a_compiler_works_on_the_function_body(kernel: Kernel, tmp_path: Path) -> None:
    """Where no C++ compiler works the install succeeds, without a kernel, and says so once at use."""
    environment = os.environ | {"CXX": "/bin/false", "CC": "/bin/false", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    build = ["--config-settings", f"build-dir={tmp_path / 'build'}"]
    target = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", *build]
    subprocess.run([*command, "--target", str(target), str(PROJECT)], check=True, env=environment, timeout=120)
    assert (target / "noisevote" / "noise_op" / "library.py").exists()
    assert not list(target.rglob("*.so"))

    feeds: dict[str, Any] = {
        "x": np.ones((2, 9), np.float32), "sigma": np.ones((2, 2), np.float32), "seed": np.array([1, -2]),
        "vote": np.array([0, 5]), "row": np.array([1, 0]), "step": np.array(0),
    }  # fmt: skip
    model = graph(gaussian_noise_function(), {"y": FLOAT}, site=0, activation="none")
    (tmp_path / "one_node.onnx").write_bytes(model.SerializeToString())
    np.savez(tmp_path / "feeds.npz", **feeds)
    # -S: no .pth files, so that the editable install of this checkout does not step in front
    environment["PYTHONPATH"] = os.pathsep.join([str(target), sysconfig.get_path("purelib")])
    python = [sys.executable, "-S", "-c", WITHOUT_KERNEL]
    shown = subprocess.run(
        python, check=True, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert shown.stdout.split() == ["1", "NoKernelWarning"]
    expected = session(model, kernel).run(["y"], feeds)[0]
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), expected, rtol=1e-5, atol=1e-5)
