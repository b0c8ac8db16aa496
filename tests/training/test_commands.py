import gzip
import hashlib
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from noisevote.evaluation.examples import Examples
from noisevote.evaluation.onnx_runtime import OnnxRuntime
from noisevote.evaluation.plan import Plan
from noisevote.evaluation.votes import cast_logits
from noisevote.model_store.store import ModelStore
from noisevote.training.__main__ import main
from noisevote.training.attack.certified import CertifiedPaths
from noisevote.training.attack.records import FullAccess, TransferVotes
from noisevote.training.attack.target import Noise, Target
from noisevote.training.commands import fit
from noisevote.training.commands.options import STORE
from noisevote.training.commands.victims import victim_of
from noisevote.training.data import files, mnist
from noisevote.training.networks.registry import NETWORKS, named
from noisevote.training.report.defence_runs import DefenceRun
from noisevote.training.report.record import read_all
from noisevote.training.runs.recipe import Recipe
from tests.support.networks import NarrowCnn

# Float32, because bfloat16, the default, is many times slower where the processor does not multiply it.
SHORT = ["--epochs", "1", "--batch", "32", "--norm-batches", "1", "--precision", "float32"]


@pytest.fixture
def folder(digits: Examples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """NOISEVOTE_DATA names a folder of a tiny MNIST whose hashes are the published ones."""
    hashes = {}
    for name in mnist.MD5:
        array = digits.inputs[:, 0] if "images" in name else digits.labels
        content = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()
        hashes[name] = hashlib.md5(content).hexdigest()
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content))
    monkeypatch.setattr(mnist, "MD5", hashes)
    monkeypatch.setenv(files.DATA_VARIABLE, str(tmp_path))
    return tmp_path


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """`mnist-cnn` with an eighth of its channels: commands do the same with it in a third of the time."""
    monkeypatch.setitem(NETWORKS, "mnist-cnn", NarrowCnn)


@pytest.mark.usefixtures("narrow")
def test_four_commands_make_a_published_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """train, export, evaluate and publish, one after the other, leave a version that the store serves."""
    run = str(folder / "run")
    assert main(["train", "--run", run, *SHORT, "--noise", "additive", "--sigma-train", "0.6"]) == 0
    assert main(["export", run]) == 0
    assert main(["evaluate", run, "--sigmas", "0", "0.6", "--votes", "2", "--images", "10"]) == 0
    assert main(["publish", run, "--version", "7", "--store", str(folder / "store")]) == 0
    assert str(folder / "store" / "mnist-cnn" / "7") in capsys.readouterr().out
    publication = ModelStore(folder / "store").publication("mnist-cnn", "7")
    assert list(publication.files) == ["add-0.6"]
    assert {point.noise for point in publication.manifest.variants[0].accuracy} == {"multiplicative", "additive"}


@pytest.mark.usefixtures("narrow")
def test_published_variant_is_calibrated_without_its_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`calibrate MODEL/VERSION/VARIANT` makes a run folder of the file, and one calibrated at each sigma beside it."""
    monkeypatch.chdir(folder)
    run, store = str(folder / "run"), str(folder / "store")
    assert main(["train", "--run", run, *SHORT, "--sigma-train", "0.6"]) == 0
    assert main(["export", run]) == 0
    assert main(["evaluate", run, "--kinds", "multiplicative", "--sigmas", "0", "--images", "10"]) == 0
    assert main(["publish", run, "--version", "7", "--store", store]) == 0
    capsys.readouterr()
    asked = ["calibrate", "mnist-cnn/7/mul-0.6", "--store", store, "--norm-batches", "2"]
    assert main([*asked, "--sigmas", "0.8", "1"]) == 0
    made = [f"runs/mnist-cnn-7-mul-0.6-at-{sigma}" for sigma in ("0.8", "1.0")]
    assert capsys.readouterr().out.splitlines() == made
    recipes = [Recipe.model_validate_json(Path(place, "recipe.json").read_text()) for place in made]
    assert [(recipe.variant, recipe.norm_batches) for recipe in recipes] == [
        ("mul-0.6-at-0.8", 2), ("mul-0.6-at-1.0", 2),
    ]  # fmt: skip  # a run each
    assert main(["export", *made]) == 0


@pytest.mark.usefixtures("narrow")
def test_published_variant_is_measured_further(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`evaluate MODEL/VERSION/VARIANT` goes on from what is on record; `record` and `publish` take all of it."""
    monkeypatch.chdir(folder)
    run, store, records = str(folder / "run"), str(folder / "store"), str(folder / "records")
    plan = ["--kinds", "multiplicative", "--images", "10", "--votes", "2", "--records", records, "--store", store]
    assert main(["train", "--run", run, *SHORT, "--sigma-train", "0.6"]) == 0
    assert main(["export", run]) == 0
    assert main(["evaluate", run, "--sigmas", "0", *plan]) == 0
    assert main(["record", run, "--records", records]) == 0
    assert main(["publish", run, "--version", "7", "--store", store]) == 0
    assert main(["evaluate", "mnist-cnn/7/mul-0.6", "--sigmas", "0.4", *plan]) == 0
    again = "runs/mnist-cnn-7-mul-0.6"
    assert main(["record", again, "--records", records]) == 0
    (found,) = read_all(Path(records))["mnist-cnn"]
    assert [(cell.sigma, cell.passes) for cell in found.evaluation.cells] == [(0.0, 1), (0.4, 2)]
    assert len(found.epochs) == 1
    assert main(["publish", again, "--version", "8", "--store", store]) == 0
    (variant,) = ModelStore(folder / "store").manifest("mnist-cnn", "8").variants
    assert {(point.sigma, point.votes) for point in variant.accuracy} >= {(0.0, 1), (0.4, 1), (0.4, 2)}
    assert main(["record", again, "--records", str(folder / "others")]) == 1
    assert "restored from mnist-cnn/7/mul-0.6" in capsys.readouterr().err


def test_certify_keeps_the_votes_on_test_images(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`certify` asks the published file about the first images, a second time without a vote; others are refused."""
    asked = ["certify", "mnist-smoothed/1/add-0.5", "--images", "3", "--records", str(folder / "records")]
    assert main([*asked, "--radii", "0.25", "0.5"]) == 0
    before = (folder / "records" / "mnist-smoothed-add-0.5.json").read_bytes()
    assert main([*asked, "--radii", "0.5"]) == 0
    assert (folder / "records" / "mnist-smoothed-add-0.5.json").read_bytes() == before
    record = CertifiedPaths.read(folder / "records" / "mnist-smoothed-add-0.5.json")
    assert list(record.paths) == [0, 20, 40]
    assert main(["certify", "mnist-cnn/3/mul-0.4", "--radii", "0.5"]) == 1
    assert "'mnist-cnn/3/mul-0.4': does not certify" in capsys.readouterr().err
    assert main(["certify", "mnist-smoothed/1/none", "--radii", "0.5"]) == 1
    assert "'mnist-smoothed/1/none': no published MODEL/VERSION/VARIANT" in capsys.readouterr().err


def test_a_published_network_is_attacked_as_its_file_answers(folder: Path, digits: Examples) -> None:
    """The network of torch that attacks see gives the logits of the published file, vote by vote, under its noise."""
    victim = victim_of("mnist-cnn-robust/1/robust-mul-0.3", STORE)
    inputs = torch.from_numpy(digits.values(slice(0, 16)))
    with torch.no_grad():
        seen = Target(victim.network, Noise(sigma=0.3, seed=7), draws=3).logits(inputs, 3).numpy()
    answers = cast_logits(
        OnnxRuntime(STORE / "mnist-cnn-robust" / "1" / "robust-mul-0.3.onnx"), digits.first(16),
        ("multiplicative", 0.3), Plan(("multiplicative",), (0.3,), 3, seed=7),
    )  # fmt: skip
    assert np.abs(seen - answers).max() < 1e-3 * np.abs(answers).max()


@pytest.mark.usefixtures("narrow")
def test_attack_commands_go_from_training_to_records(folder: Path) -> None:
    """An adversarial run is published as `mnist-cnn-robust`, attacked, asked about a set made on it, and recorded."""
    run, store, crafted, records = (str(folder / name) for name in ("run", "store", "digits", "records"))
    adversarial = ["--adversarial-share", "1", "--adversarial-iterations", "1", "--sigma-train", "0"]
    assert main(["train", "--run", run, *SHORT, *adversarial]) == 0
    assert main(["export", run]) == 0
    assert main(["evaluate", run, "--kinds", "multiplicative", "--sigmas", "0", "--images", "10"]) == 0
    assert main(["publish", run, "--version", "1", "--store", store]) == 0
    assert main(["attack", "craft", run, crafted, "--iterations", "2", "--images", "20"]) == 0
    asked = ["attack", "votes", crafted, "mnist-cnn-robust/1/robust", "--sigmas", "0", "0.3", "--votes", "2"]
    assert main([*asked, "--store", store, "--records", records]) == 0
    (votes,) = (TransferVotes.read(path) for path in Path(records).glob("*.json"))
    assert [len(cell.outcome) for cell in votes.cells] == [20, 20, 20]
    assert main(["attack", "full", run, f"{folder}/full.json", "--iterations", "2", "--every", "8"]) == 0
    assert FullAccess.read(folder / "full.json").complete
    published = ["attack", "full", "mnist-cnn-robust/1/robust", f"{folder}/published.json", "--source", run]
    assert main([*published, "--store", store, "--iterations", "2", "--every", "8"]) == 0
    of_run, of_file = (FullAccess.read(folder / name) for name in ("full.json", "published.json"))
    assert of_file.sha256 == ModelStore(folder / "store").manifest("mnist-cnn-robust", "1").variants[0].sha256
    assert of_file.source == of_run.sha256
    assert of_file.natural == of_run.natural
    assert main(["attack", "full", f"{folder}/none", f"{folder}/none.json"]) == 1
    assert main(["attack", "record", run, "--records", f"{folder}/training"]) == 0
    assert DefenceRun.read(folder / "training" / "run.json").variant == "robust"


@pytest.mark.usefixtures("narrow")
def test_options_reach_the_recipe(folder: Path) -> None:
    """Every field of the recipe is an option, and what is not given keeps its default."""
    run = folder / "run"
    arguments = ["--run", str(run), *SHORT, "--epochs", "2", "--stop-after", "1"]
    assert main(["train", "--seed", "5", "--sigma-train", "0.25", *arguments]) == 0
    recipe = json.loads((run / "recipe.json").read_text())
    assert (recipe["seed"], recipe["sigma_train"], recipe["batch"], recipe["epochs"]) == (5, 0.25, 32, 2)
    assert recipe["noise"] == "multiplicative"
    assert not (run / "weights.safetensors").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--sigma-train", "loud"], "sigma_train"),
        (["train", "--network", "mnist-rnn"], "mnist-rnn"),
        (["export", "no/such/run"], "no/such/run"),
        (["attack", "full", "no/such/run", "record.json"], "model 'no' version 'such'"),
        (["calibrate", "no/such/run", "--sigmas", "0.5"], "model 'no' version 'such'"),
        (["calibrate", "nowhere", "--sigmas", "0.5"], "'nowhere': no published MODEL"),
    ],
)
def test_mistakes_are_told_in_a_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A mistake ends with status 1 and a message that names it, without a stack trace."""
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


@pytest.mark.usefixtures("narrow")
def test_weights_are_measured_and_published_by_the_twin(folder: Path) -> None:
    """With `--engine torch` the weights are measured before they are exported, and the manifest says by what."""
    run = str(folder / "run")
    assert main(["train", "--run", run, *SHORT]) == 0
    few = ["--kinds", "multiplicative", "--sigmas", "0.6", "--votes", "2", "--images", "10"]
    assert main(["evaluate", run, "--engine", "torch", *few]) == 0
    assert main(["export", run]) == 0
    assert main(["publish", run, "--version", "1", "--store", str(folder / "store")]) == 0
    (variant,) = ModelStore(folder / "store").publication("mnist-cnn", "1").manifest.variants
    assert variant.measured_by == "torch"


@pytest.mark.parametrize(
    ("device", "why"),
    [
        ("tpu", "'tpu' is not one of cpu, cuda"),
        pytest.param(
            "cuda", "torch finds no CUDA device here",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device"),
        ),
    ],
)  # fmt: skip  # a case a line
def test_device_that_is_not_there_is_told_in_a_line(device: str, why: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown device, or a graphics card that is missing, ends the command before it does anything."""
    with pytest.raises(SystemExit):
        main(["train", "--device", device])
    assert why in capsys.readouterr().err


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize(("able", "warned"), [({"avx512_bf16": True}, False), ({"avx2": True}, True), ({}, True)])
def test_slow_precision_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], able: dict[str, bool],
    warned: bool,
) -> None:  # fmt: skip  # as above
    """Where the processor does not multiply bfloat16, `train` says that float32 is faster, and trains."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    few = ["--epochs", "1", "--batch", "16", "--images", "16", "--norm-batches", "1"]  # in bfloat16
    assert main(["train", "--run", str(folder / "run"), *few]) == 0
    assert ("--precision float32" in capsys.readouterr().err) == warned


@pytest.mark.usefixtures("narrow")
def test_experiment_goes_on_where_it_stopped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One command trains, exports, measures and records each σ_train; again, it repeats nothing."""
    monkeypatch.chdir(folder)
    few = [*SHORT, "--votes", "2"]
    command = ["experiment", "--sigmas-train", "0.2", "0.5", *few, "--records", str(folder / "records")]
    assert main(command) == 0
    written = {path.name: path.read_text() for path in (folder / "records" / "mnist-cnn").iterdir()}
    assert sorted(written) == ["mul-0.2.json", "mul-0.5.json"]
    assert main(command) == 0
    assert {path.name: path.read_text() for path in (folder / "records" / "mnist-cnn").iterdir()} == written


@pytest.mark.usefixtures("narrow")
def test_choices_can_be_judged_on_held_out_images(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Evaluating on held-out training images writes a file of its own, and is refused where none were held out."""
    run = folder / "run"
    few = [*SHORT, "--batch", "16"]
    assert main(["train", "--run", str(run), "--holdout", "24", *few]) == 0
    assert main(["export", str(run)]) == 0
    assert main(["evaluate", str(run), "--holdout", "--sigmas", "0", "--votes", "1"]) == 0
    assert json.loads((run / "holdout.json").read_text())["images"] == 24
    assert not (run / "evaluation.json").exists()
    assert main(["train", "--run", str(folder / "other"), *few]) == 0
    assert main(["evaluate", str(folder / "other"), "--holdout"]) == 1
    assert "holdout is 0" in capsys.readouterr().err


def test_network_brings_its_own_recipe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a network needs in training takes the place of the general defaults, and an option that of both."""
    recipes: list[Recipe] = []
    monkeypatch.setattr(fit, "train", lambda recipe, *_, **__: recipes.append(recipe))
    monkeypatch.setattr(fit, "data_of", lambda _: None)
    assert main(["train", "--network", "cifar10-cnn", "--batch", "99"]) == 0
    (recipe,) = recipes
    expected = {**named("cifar10-cnn").recipe_defaults, "network": "cifar10-cnn", "batch": 99}
    assert expected.items() <= recipe.model_dump().items()
    assert recipe == Recipe.model_validate(expected)


def test_measuring_asks_for_the_export(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Evaluating a run that was never exported says what to do first."""
    run = str(folder / "run")
    assert main(["train", "--run", run, *SHORT]) == 0
    assert main(["evaluate", run]) == 1
    assert "export the run first" in capsys.readouterr().err


def test_missing_data_is_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder without the data is named, and nothing is downloaded or written."""
    monkeypatch.setenv(files.DATA_VARIABLE, str(tmp_path))
    assert main(["train", "--run", str(tmp_path / "run")]) == 1
    assert str(tmp_path) in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("narrow")
def test_finished_run_is_calibrated_and_measured(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`calibrate` leaves a run for each sigma, which is exported and measured like any other; a mistake is named."""
    run = folder / "run"
    assert main(["train", "--run", str(run), "--stop-after", "0", *SHORT]) == 0
    assert main(["calibrate", str(run), "--sigmas", "0.5"]) == 1
    assert "not finished" in capsys.readouterr().err
    assert main(["train", "--run", str(run), *SHORT]) == 0
    assert main(["calibrate", str(run), "--sigmas", "0.5", "1"]) == 0
    made = [folder / f"run-at-{sigma}" for sigma in ("0.5", "1.0")]
    assert capsys.readouterr().out.splitlines()[-2:] == [str(path) for path in made]
    assert main(["export", *map(str, made)]) == 0
    assert (made[1] / "mul-0.8-at-1.0.onnx").exists()
