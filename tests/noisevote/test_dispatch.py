import subprocess
import sys
from importlib.metadata import version

import pytest

from noisevote.__main__ import main as noisevote
from noisevote.console.command import NAMES, find
from tests.support.process import ROOT

pytestmark = pytest.mark.slow

WITH_EXTRA = [name for name in NAMES if find(name).EXTRA]

# The command where some modules, the first argument, are found nowhere.
COMMAND_WITHOUT = """
import sys
from importlib.machinery import PathFinder

absent, finders = sys.argv.pop(1).split(","), list(sys.meta_path)


class Finder:
    find_distributions = PathFinder.find_distributions

    def find_spec(name, *context):
        found = (finder.find_spec(name, *context) for finder in finders if name not in absent)
        return next(filter(None, found), None)


sys.meta_path[:] = [Finder]
from noisevote.__main__ import main

sys.exit(main())
"""
BEYOND_A_CLIENT = "fastapi,uvicorn,onnxruntime,scipy,pydantic_settings,prometheus_client,orjson,locust,matplotlib,torch"


def without(absent: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, where some modules are not installed."""
    command = [sys.executable, "-c", COMMAND_WITHOUT, absent, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_an_image_that_only_serves_says_that_there_is_no_load_test() -> None:
    """There the room itself is missing."""
    done = without("noisevote.loadtest", "loadtest")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith('pip install "noisevote[loadtest]"\n')


def test_a_defect_is_not_taken_for_a_missing_package() -> None:
    """A file of a room that is not there is no matter of what is installed."""
    assert "Traceback" in without("noisevote.loadtest.errors", "loadtest").stderr


@pytest.mark.parametrize("name", WITH_EXTRA)
def test_without_its_packages_a_command_says_which_extra_has_them(name: str) -> None:
    """One line and status 1, whatever its flags."""
    done = without(BEYOND_A_CLIENT, name, "--help")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"noisevote {name}")
    assert f' is not installed; pip install "noisevote[{find(name).EXTRA}]"' in done.stderr
    assert done.stderr.count("\n") == 1


def test_version_and_help_need_no_extra() -> None:
    """A client's installation has both; help names every command."""
    assert without(BEYOND_A_CLIENT, "--version").stdout == f"noisevote {version('noisevote')}\n"
    shown = without(BEYOND_A_CLIENT, "--help").stdout
    assert all(f"\n  {name} " in shown for name in NAMES)


def test_every_command_is_listed_and_is_a_file_of_its_own() -> None:
    """A file that is not listed would be no command, and a name without a file would end in a traceback."""
    files = {path.stem for path in (ROOT / "noisevote" / "commands").glob("*.py")} - {"__init__"}
    assert files == set(NAMES)
    assert len(NAMES) == len(files)


@pytest.mark.parametrize("name", NAMES)
def test_a_command_describes_itself(name: str) -> None:
    """What lists and completes commands finds the same in each."""
    command = find(name)
    assert command.parser().prog == f"noisevote {name}"
    assert command.ABOUT[0].islower()
    assert not command.ABOUT.endswith(".")


def test_an_unknown_command_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    """Not served as if it were none."""
    assert noisevote(["predcit", "digit.png"]) == 2
    refused = capsys.readouterr().err
    assert refused.startswith("noisevote: 'predcit' is no command; known are serve, ")
    assert refused.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "program"),
    [
        (["serve", "--help"], "serve"),
        (["--port", "1", "--help"], "serve"),
        (["loadtest", "--help"], "loadtest"),
        (["--help"], "[-h"),
    ],
)
def test_a_command_gets_what_follows_it(arguments: list[str], program: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a command's name, flags are those of `serve`; `--help` alone lists the commands."""
    with pytest.raises(SystemExit) as caught:
        noisevote(arguments)
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: noisevote {program} ")
