"""What shells are given, tried in the shells that are installed."""

import shutil
import subprocess
from pathlib import Path

import pytest

from noisevote.commands.completion import SHELLS, main
from noisevote.console.command import NAMES
from tests.noisevote.test_dispatch import BEYOND_A_CLIENT, without


def printed(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The completion of a shell."""
    assert main([shell]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_can_read_what_it_is_given(shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It names every command, and flags of all that can be described."""
    script = printed(shell, capsys)
    assert all(name in script for name in NAMES)
    assert "snr-db" in script
    if (path := shutil.which(shell)) is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "script").write_text(script)
    done = subprocess.run([path, "-n", str(tmp_path / "script")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["pre"], {"predict"}),
        (["predict", "--si"], {"--sigma"}),
        (["predict", "--noise", "m"], {"multiplicative"}),
        (["plan", "--ex"], {"--execution"}),
        (["completion", ""], set(SHELLS)),
        (["predict", "dig"], {"digit.png"}),
    ],
)
def test_bash_completes(
    words: list[str], offered: set[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Commands, flags, choices and files."""
    (tmp_path / "digit.png").touch()
    (tmp_path / "script").write_text(printed("bash", capsys))
    line = " ".join(repr(word) for word in ["noisevote", *words])
    asked = f"source ./script; COMP_WORDS=({line}); COMP_CWORD={len(words)}; _shtab_noisevote; echo ${{COMPREPLY[@]}}"
    done = subprocess.run(["bash", "-c", asked], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == offered


def test_without_extras_flags_of_others_are_left_out() -> None:
    """The base installation completes what it can."""
    done = without(BEYOND_A_CLIENT, "completion", "bash")
    assert (done.returncode, done.stderr) == (0, "")
    assert "--snr-db" in done.stdout
    assert "--batch-rows" not in done.stdout
