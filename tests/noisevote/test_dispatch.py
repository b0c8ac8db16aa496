import sys
from importlib.abc import MetaPathFinder

import pytest

from noisevote.__main__ import main as noisevote


class Absent(MetaPathFinder):
    """Finds no `loadtest`, wherever it is."""

    def find_spec(self, fullname: str, *_: object) -> None:
        """As the import system does at the end of its search."""
        if fullname == "noisevote.loadtest":
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


def test_an_image_that_only_serves_says_that_there_is_no_load_test(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """There the room itself is missing."""
    for name in [name for name in sys.modules if name.startswith("noisevote.loadtest")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    assert noisevote(["loadtest"]) == 1
    assert capsys.readouterr().err.endswith('pip install "noisevote[loadtest]"\n')


@pytest.mark.parametrize(
    ("arguments", "program"),
    [(["serve", "--help"], "serve"), (["--help"], "serve"), (["loadtest", "--help"], "loadtest")],
)
def test_a_command_gets_what_follows_it(arguments: list[str], program: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a command's name, flags are those of `serve`."""
    with pytest.raises(SystemExit) as caught:
        noisevote(arguments)
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: noisevote {program} ")
