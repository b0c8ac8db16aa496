"""The recipes behind the weights that a run started from."""

from pathlib import Path

from noisevote.training.commands.options import STORE
from noisevote.training.runs.ancestry import starts
from noisevote.training.runs.recipe import Recipe
from noisevote.training.runs.run_folder import RunFolder


def test_starts_are_followed_through_folders_and_published_files(tmp_path: Path) -> None:
    """The last one first: a run folder, and the published file that this one started from."""
    (file,) = STORE.glob("cifar10-densenet40/*/mul-0.6.onnx")
    middle = Recipe(network="cifar10-densenet40", init=str(file), flip=True)
    RunFolder(tmp_path / "middle").open(middle)
    found = starts(Recipe(network="cifar10-densenet40", init=str(tmp_path / "middle")))
    assert found[0] == middle
    assert (found[1].sigma_train, found[1].output_votes) == (0.6, 16)
    assert len(found) == 2  # the published run's own start is no longer there


def test_what_cannot_be_read_ends_the_list(tmp_path: Path) -> None:
    """From scratch there is none; a missing folder, a file of no manifest, and a folder of itself tell nothing more."""
    assert starts(Recipe()) == []
    assert starts(Recipe(init=str(tmp_path / "gone"))) == []
    assert starts(Recipe(init=str(tmp_path / "lone.onnx"))) == []
    again = Recipe(init=str(tmp_path / "again"))
    RunFolder(tmp_path / "again").open(again)
    assert starts(again) == [again]


def test_network_that_was_trained_elsewhere_has_no_recipe(tmp_path: Path) -> None:
    """A manifest that is not ours, or names other fields, ends the list without an error."""
    (tmp_path / "manifest.json").write_text('{"name": "other"}')
    assert starts(Recipe(init=str(tmp_path / "other.onnx"))) == []
