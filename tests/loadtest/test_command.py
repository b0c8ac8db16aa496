import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from noisevote.__main__ import main as noisevote
from noisevote.loadtest.__main__ import main as loadtest

ROOT = Path(__file__).parents[2]
LOADED = """
import sys
import noisevote.loadtest.command
unwanted = {"locust", "gevent", "onnxruntime"}
rooms = {f"noisevote.{room}" for room in ("service", "training", "model_store", "engine", "noise_op")}
print(sorted((unwanted | rooms) & set(sys.modules)))
"""


def test_the_command_loads_neither_locust_nor_the_service() -> None:
    """Gevent would replace the sockets of whoever imports it, and the target is an address."""
    done = subprocess.run([sys.executable, "-c", LOADED], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("missing", ["locust", "matplotlib", "orjson", "pydantic_settings"])
def test_without_the_extra_it_says_how_to_install_it(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, before anything is measured."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "noisevote.loadtest.__main__.find_spec", lambda name: None if name == missing else find_spec(name)
    )
    assert loadtest([]) == 1
    told = capsys.readouterr().err
    assert told.startswith(
        f'noisevote loadtest: package {missing} is not installed; pip install "noisevote[loadtest]" '
    )
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--votes", "1,zero"], "votes: 'zero': "),
        (["--votes", "[1"], "Parsing error encountered for votes: "),
        (["--concurrency", "1,1"], "concurrency: 1,1 names a value twice"),
        (["--seconds", "-1"], "seconds: '-1': "),
        (["--url", "127.0.0.1"], "url 127.0.0.1: no address that begins with http:// or https://"),
        (["--in-process", "absent.json"], "record absent.json: No such file"),
        (["--out", "README.md/x"], "out README.md/x: "),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    flags: list[str], problem: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the key and the value, before a request is sent, and with a status that is not 0."""
    monkeypatch.chdir(ROOT)
    assert noisevote(["loadtest", *flags]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"noisevote loadtest: {problem}")
    assert told.count("\n") == 1


def test_unknown_flags_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelt flag is never silently the default, nor an abbreviated one another's."""
    with pytest.raises(SystemExit) as caught:
        noisevote(["loadtest", "--vote", "3"])
    assert caught.value.code == 2
    assert "--vote" in capsys.readouterr().err
