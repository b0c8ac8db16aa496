"""What of a run is not the paper's recipe, in words.

The paper's recipe, as pages mean it: noise after every product, drawn once for each example of a step; plain cross
entropy of that one noisy run; examples as they are; batch norms estimated under the noise of training. How long, by
what optimiser and learning rate, in what precision, with a ramp of sigma and a moving average of the weights or
without: that may differ.
"""

from collections.abc import Sequence
from typing import Final

from noisevote.training.networks.registry import named
from noisevote.training.report.record import Record
from noisevote.training.runs.recipe import Recipe

# Whatever they are, a run keeps to the paper's recipe; an attack and a mix count by their share and weight alone.
KEPT: Final = frozenset({
    "noise", "sigma_train", "ramp_epochs", "epochs", "batch", "lr", "clip_norm", "optimizer", "weight_decay",
    "average_decay", "norm_batches", "precision", "images", "holdout", "init", "seed",
    "adversarial_eps", "adversarial_step", "adversarial_iterations", "adversarial_start", "adversarial_ramp_epochs",
    "mix_iterations", "mix_step", "mix_one_step",
})  # fmt: skip  # fields of the recipe, a group a line

# Networks of ours that stand beside one of the paper's and are known not to be it.
OWN_NETWORKS: Final = {"cifar10-cnn": "another network", "stroke-lstm": "a cell that sees displacements too"}


def departures(run: Record) -> tuple[str, ...]:
    """Name in a few words each what of a run is not the paper's recipe; nothing: the run keeps to it.

    A run that went on from other weights departs as they did, as far as its record tells.
    """
    found = departures_of(run.recipe)
    weights = [recipe.model_copy(update={"norm_sigma": None}) for recipe in run.starts]  # calibration leaves them
    before = [departure for recipe in weights for departure in departures_of(recipe)]
    inherited = tuple(f"before: {departure}" for departure in dict.fromkeys(before) if departure not in found)
    return (*found, *inherited)


def departures_of(recipe: Recipe) -> tuple[str, ...]:
    """The same of a recipe, whatever weights it starts from."""
    maps = (recipe.shift_pixels, recipe.rotate_degrees, recipe.scale, recipe.crop_pixels, recipe.flip)
    told = {
        OWN_NETWORKS.get(recipe.network, ""): recipe.network in OWN_NETWORKS,
        "noise on the input": named(recipe.network).noise_on_input,
        "augmented": any(maps),
        f"loss of {recipe.loss_votes} × {recipe.output_votes} votes": recipe.loss_votes * recipe.output_votes > 1,
        f"loss power {recipe.loss_power:g}": recipe.loss_power > 0,
        f"label smoothing {recipe.label_smoothing:g}": recipe.label_smoothing > 0,
        "adversarial examples": recipe.adversarial_share > 0,
        "consistency of votes": recipe.consistency > 0,
        "SmoothMix": recipe.mix_weight > 0,
        "calibrated": recipe.norm_sigma is not None,
    }
    return tuple(departure for departure, is_so in told.items() if is_so)


def common(runs: Sequence[Record]) -> tuple[str, ...]:
    """Departures that all of the runs have in common."""
    found = [departures(run) for run in runs]
    return tuple(departure for departure in found[0] if all(departure in each for each in found)) if found else ()


def keeping(runs: Sequence[Record]) -> list[Record]:
    """Those of the runs that keep to the paper's recipe."""
    return [run for run in runs if not departures(run)]
