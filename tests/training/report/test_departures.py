"""What of a run is not the paper's recipe."""

from pathlib import Path
from typing import Any

import pytest

from noisevote.training.networks.registry import NETWORKS
from noisevote.training.report import paper
from noisevote.training.report.departures import KEPT, OWN_NETWORKS, common, departures, departures_of, keeping
from noisevote.training.report.record import Record, read_all
from noisevote.training.runs.recipe import Recipe

RECORDS = Path(__file__).parents[3] / "docs" / "results" / "runs"
PLAIN = {"network": "cifar10-densenet40", "shift_pixels": 0.0, "rotate_degrees": 0.0, "scale": 0.0}

LEAVING: dict[str, tuple[dict[str, Any], str]] = {
    "network": ({"network": "cifar10-cnn"}, "another network"),
    "shift_pixels": ({"shift_pixels": 1.0}, "augmented"),
    "rotate_degrees": ({"rotate_degrees": 5.0}, "augmented"),
    "scale": ({"scale": 0.1}, "augmented"),
    "crop_pixels": ({"crop_pixels": 4}, "augmented"),
    "flip": ({"flip": True}, "augmented"),
    "loss_votes": ({"loss_votes": 2}, "loss of 2 × 1 votes"),
    "output_votes": ({"output_votes": 16}, "loss of 1 × 16 votes"),
    "loss_power": ({"loss_power": 0.3}, "loss power 0.3"),
    "label_smoothing": ({"label_smoothing": 0.1}, "label smoothing 0.1"),
    "norm_sigma": ({"norm_sigma": 0.0}, "calibrated"),
    "adversarial_share": ({"adversarial_share": 0.5}, "adversarial examples"),
    "consistency": ({"consistency": 1.0}, "consistency of votes"),
    "mix_weight": ({"mix_weight": 1.0}, "SmoothMix"),
}
KEEPING: dict[str, Any] = {
    "noise": "additive", "sigma_train": 0.0, "ramp_epochs": 9.0, "epochs": 300, "batch": 64, "lr": 0.3,
    "clip_norm": 1.0, "optimizer": "sgd", "weight_decay": 0.1, "average_decay": 0.9, "norm_batches": 0,
    "precision": "float32", "images": 9, "holdout": 9, "init": "runs/other", "seed": 9, "adversarial_eps": 0.1,
    "adversarial_step": 0.1, "adversarial_iterations": 9, "adversarial_start": False, "adversarial_ramp_epochs": 9.0,
    "mix_iterations": 9, "mix_step": 9.0, "mix_one_step": True,
}  # fmt: skip  # each another value than the default


@pytest.mark.parametrize("field", LEAVING)
def test_field_that_leaves_the_recipe_is_named(field: str) -> None:
    """One such value is the run's one departure, in words."""
    given, words = LEAVING[field]
    assert departures_of(Recipe.model_validate(PLAIN | given)) == (words,)


@pytest.mark.parametrize("field", sorted(KEPT))
def test_field_that_may_differ_does_not_leave_the_recipe(field: str) -> None:
    """Another value than the default is no departure."""
    recipe = Recipe.model_validate(PLAIN | {field: KEEPING[field]})
    assert getattr(recipe, field) != Recipe.model_fields[field].default
    assert departures_of(recipe) == ()


def test_every_field_is_judged() -> None:
    """A field that is added to the recipe must be put with those that leave the paper's, or those that may differ."""
    assert LEAVING.keys() | KEPT == Recipe.model_fields.keys()
    assert not LEAVING.keys() & KEPT


def test_networks_of_our_own_depart() -> None:
    """Whatever stands beside another network of the paper does, and so does noise on the input alone."""
    assert paper.STANDS_BESIDE.keys() <= OWN_NETWORKS.keys() <= NETWORKS.keys()
    plain = PLAIN | {"network": "mnist-smoothed"}
    assert departures_of(Recipe.model_validate(plain)) == ("noise on the input",)
    assert departures_of(Recipe.model_validate(PLAIN | {"network": "stroke-lstm"})) == (OWN_NETWORKS["stroke-lstm"],)


@pytest.fixture(scope="module")
def recorded() -> dict[str, Record]:
    """Records of the repository by network and variant."""
    return {f"{run.network}/{run.variant}": run for runs in read_all(RECORDS).values() for run in runs}


def test_recipe_of_a_record_is_the_one_that_was_trained_by(recorded: dict[str, Record]) -> None:
    """The network's defaults count where the record names no other value."""
    run = recorded["cifar10-cnn/mul-0.8-at-1.0"]
    assert (run.recipe.flip, run.recipe.loss_votes, run.recipe.variant) == (True, 2, "mul-0.8-at-1.0")
    assert departures(run) == ("another network", "augmented", "loss of 2 × 16 votes", "calibrated")
    assert departures(recorded["cifar10-densenet40/mul-0.0"]) == ()


def test_weights_that_training_started_from_count(recorded: dict[str, Record]) -> None:
    """What they were trained by and the run was not is named once; calibration leaves weights as they were."""
    run = recorded["cifar10-densenet40/mul-0.0"]
    on = run.model_copy(update={"began": ({"crop_pixels": 4}, {"flip": True, "norm_sigma": 0.6, "loss_power": 0.5})})
    assert departures(on) == ("before: augmented", "before: loss power 0.5")
    same = recorded["cifar10-densenet40/mul-0.6"].model_copy(update={"began": ({"output_votes": 16},)})
    assert departures(same) == ("loss of 1 × 16 votes",)
    assert keeping([run, on, same]) == [run]


def test_what_all_runs_share_is_found(recorded: dict[str, Record]) -> None:
    """The departures of the first that every other one has too."""
    ours = [recorded[f"cifar10-cnn/{variant}"] for variant in ("mul-0.0", "mul-0.6", "mul-0.6-at-0.8")]
    assert common(ours) == ("another network", "augmented")
    assert common(ours[1:]) == ("another network", "augmented", "loss of 1 × 16 votes")
    assert common([]) == ()
