"""One process of a card's work: a training run, crafting on one, or a published network calibrated."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from noisevote.training.networks.registry import named
from noisevote.training.runs.recipe import Recipe


@dataclass(frozen=True)
class Run:
    """What the process is to do.

    Attributes:
        name: of its run folder.
        kind: training, crafting with the network of the run named in `source`, or calibrating that of `init`.
        network: what it trains or calibrates; for crafting, empty.
        given: recipe fields that differ from the network's own defaults.
        until: share of the whole time after which it has ended.
        half: its weights are brought back in 16 bits, as there is only so much room.
        common: whether it yields to the others where the card can do so.
        source: for crafting, the run that is attacked.
        init: model and variant of the published file whose weights it starts from, or calibrates.
        sigmas: where accuracy over noise and votes is measured, in that order; none: attacks, or certificates.
        calibrated: sigmas under which its batch norms are estimated too, each a folder of its own.
    """

    name: str
    kind: Literal["train", "craft", "calibrate"]
    until: float
    network: str = ""
    given: dict[str, Any] = field(default_factory=dict)
    half: bool = False
    common: bool = False
    source: str = ""
    init: tuple[str, str] | None = None
    sigmas: Sequence[float] = ()
    calibrated: Sequence[float] = ()

    def recipe(self, init: str | None = None) -> Recipe:
        """The whole recipe."""
        start = {} if init is None else {"init": init}
        return Recipe.model_validate(
            {**named(self.network).recipe_defaults, **self.given, **start, "network": self.network}
        )

    def folders(self, runs: Path) -> list[Path]:
        """Its run folders below `runs`: its own, and one for each sigma that it is calibrated at."""
        return [runs / self.name, *(runs / f"{self.name}-at-{sigma}" for sigma in self.calibrated)]


def miniature(recipe: Recipe) -> Recipe:
    """The same kind of training, of a minute on a processor."""
    given = {
        "precision": "float32",  # many times faster where a processor does not multiply bfloat16
        "images": 96, "holdout": 32, "batch": 32, "epochs": 3, "norm_batches": min(2, recipe.norm_batches),
        "adversarial_iterations": min(2, recipe.adversarial_iterations), "mix_iterations": 2,
    }  # fmt: skip
    return Recipe.model_validate({**recipe.model_dump(), **given})
