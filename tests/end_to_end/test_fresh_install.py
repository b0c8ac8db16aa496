"""As a new user would: the base installation alone, from the wheel, and an answer."""

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.end_to_end.test_installed import built
from tests.support.process import DIGIT, ROOT, TIMEOUT_S, clean_environment

MARK = "<!-- example: tests/end_to_end/test_fresh_install.py"
NOT_IN_THE_BASE = ("onnxruntime", "fastapi", "uvicorn", "scipy", "torch", "orjson")
INSTALL_S = 300


def five_lines() -> str:
    """The first example of docs/client.md."""
    page = (ROOT / "docs" / "client.md").read_text()
    found = re.search(r"```python\n(.*?)```", page[page.index(MARK) :], re.DOTALL)
    assert found is not None
    assert len(found[1].splitlines()) == 5  # one of them empty
    return found[1]


@pytest.mark.prove
def test_from_a_fresh_environment_five_lines_get_an_answer(
    published: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`pip install` of the base brings no ONNX Runtime; the example and the command answer, and it tells how soon."""
    if not _index_can_be_reached(tmp_path):
        pytest.skip("no package index can be reached")
    wheel = built("wheel", ROOT, tmp_path / "wheel")
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True, timeout=INSTALL_S)
    python = str(tmp_path / "venv" / "bin" / "python")
    pip = [python, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True, timeout=INSTALL_S)
    installed = time.perf_counter()
    code = five_lines().replace("http://127.0.0.1:8000", published)
    shutil.copy(DIGIT, tmp_path / "digit.png")
    run = [python, "-c", code]
    answered = subprocess.run(
        run, cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, check=True, timeout=TIMEOUT_S
    )
    done = time.perf_counter()
    assert (answered.stdout, answered.stderr) == ("7 (1, 0, 0, 0, 1, 0, 1, 46, 0, 1)\n", "")
    present = f"import importlib.util as u; print([n for n in {NOT_IN_THE_BASE} if u.find_spec(n)])"
    assert subprocess.run([python, "-c", present], capture_output=True, text=True, check=True).stdout == "[]\n"
    for command, expected in (
        (["predict", "digit.png", "--sigma", "0.8", "--votes", "50", "--seed", "7"], "digit.png: 7: 46 of 50 votes"),
        (["models"], "model "),
        (["--version"], "noisevote "),
        (["completion", "bash"], "# AUTOMATICALLY GENERATED"),
        (["doctor", "--port", "0"], "ok    noisevote: "),
    ):
        shown = subprocess.run(
            [tmp_path / "venv" / "bin" / "noisevote", *command],
            cwd=tmp_path, env=clean_environment(NOISEVOTE_URL=published), capture_output=True, text=True, check=False,
            timeout=TIMEOUT_S,
        )  # fmt: skip
        assert (shown.stdout[: len(expected)], shown.stderr) == (expected, "")
    with capsys.disabled():
        print(f"\nvenv and pip install {installed - began:.1f} s, import and answer {done - installed:.2f} s")


def _index_can_be_reached(folder: Path) -> bool:
    """Whether pip can find a package where it is configured to look."""
    asked = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder / "probe"), "shtab"]
    return subprocess.run(asked, capture_output=True, check=False, timeout=INSTALL_S).returncode == 0
