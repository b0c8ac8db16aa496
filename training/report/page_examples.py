"""The test examples that the playground's page carries: easy and hard ones, and adversarial ones with their originals.

Chosen by what published variants make of the first test images, so that the page shows what they do and not what would
look well: of each class the first image on which all votes agree, and those whose votes are split or wrong. Adversarial
examples are crafted on the published undefended network itself.
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from noisevote.evaluation.examples import Examples
from noisevote.evaluation.onnx_runtime import OnnxRuntime
from noisevote.evaluation.plan import Plan
from noisevote.evaluation.votes import cast_logits
from noisevote.model_store.store import ModelStore
from noisevote.training.attack.craft import craft
from noisevote.training.attack.steps import Steps, pgd
from noisevote.training.attack.target import Target
from noisevote.training.attack.transfer_votes import outcomes
from noisevote.training.data import strokes
from noisevote.training.data.files import DataSource
from noisevote.training.data.registry import load
from noisevote.training.fit.warm_start import start_from
from noisevote.training.networks.registry import build

FILE: Final = Path(__file__).resolve().parents[2] / "service" / "rest" / "playground" / "page" / "examples.json"
VOTES: Final = 20
SEED: Final = 0


@dataclass(frozen=True)
class Choice:
    """How examples of a data set are chosen.

    Attributes:
        data_set: its name.
        looked_at: the first so many test images are.
        judge: published `model/version/variant` whose votes tell easy from hard.
        sigma: of the noise it is asked under.
        easy: classes of which one is taken.
        hard: how many hard ones, half of them wrong, half right with the most wrong votes.
        undefended: published variant that is attacked.
        defended: the variant that has to stand for an attack to be shown.
        steps: of the attack.
        attacks: how many adversarial examples.
    """

    data_set: str
    looked_at: int
    judge: str
    sigma: float
    easy: Sequence[int]
    hard: int
    undefended: str
    defended: str
    steps: Steps
    attacks: int


DIGITS: Final = Choice(
    "mnist", 1000, "mnist-cnn/3/mul-0.9", 0.8, range(10), 4,
    "mnist-cnn/3/mul-0.0", "mnist-cnn-robust/1/robust", pgd(76 / 255, 76 / 2550, 40), 6,
)  # fmt: skip
PICTURES: Final = Choice(
    "cifar10", 300, "cifar10-cnn/3/mul-0.6", 0.6, (0, 1, 2, 4, 6, 8), 2,
    "cifar10-cnn/3/mul-0.2", "cifar10-cnn-robust/1/robust", pgd(8 / 255, 2 / 255, 20), 3,
)  # fmt: skip


def write(store: ModelStore, source: DataSource, file: Path = FILE) -> None:
    """Choose and craft all examples, and write the page's file.

    Raises:
        DataError: a data set cannot be read.
        StoreError: a variant is not published.
    """
    digits, pictures = (_chosen(choice, store, source) for choice in (DIGITS, PICTURES))
    points = _pen_points(source)
    for entry in digits["examples"]:
        entry["points"] = _text(points[entry["number"]])
    content = {"made_by": "python -m training playground", "digits": digits, "pictures": pictures}
    file.write_text(json.dumps(content, indent=1) + "\n")


def _chosen(choice: Choice, store: ModelStore, source: DataSource) -> dict[str, Any]:
    data = load(choice.data_set, source)
    test = data.test.first(choice.looked_at)
    wrong = _wrong_votes(store, choice.judge, test, choice.sigma)
    easy = [_first(test, wrong == 0, label) for label in choice.easy]
    hard = hard_ones(wrong, choice.hard)
    shown = [_example(choice, test, number, hard=number in hard) for number in (*easy, *hard)]
    attacks = [_attack(choice, number, crafted) for number, crafted in _crafted(choice, store, test, easy)]
    judged = {"judge": choice.judge, "sigma": choice.sigma, "votes": VOTES, "looked_at": choice.looked_at}
    attacked = {"network": choice.undefended, "stands": choice.defended, "eps": choice.steps.eps}
    return {"chosen_by": judged, "attack": attacked, "examples": shown, "attacks": attacks}


def _wrong_votes(store: ModelStore, chosen: str, examples: Examples, sigma: float) -> NDArray[np.int64]:
    """How many of the votes on each example are not its label; without noise one vote tells."""
    votes = VOTES if sigma else 1
    plan = Plan(("multiplicative",), (sigma,), votes, SEED)
    logits = cast_logits(OnnxRuntime(_file(store, chosen)), examples, ("multiplicative", sigma), plan)
    right, _ = outcomes(logits, examples.labels)
    return np.asarray(votes - right.sum(axis=1), np.int64)


def _first(test: Examples, among: NDArray[np.bool_], label: int) -> int:
    return int(np.flatnonzero(among & (test.labels == label))[0])


def hard_ones(wrong: NDArray[np.int64], count: int) -> list[int]:
    """Numbers of those that most votes read wrong, and of those that most votes still read right."""
    ordered = np.argsort(-wrong, kind="stable")
    beyond, within = ordered[wrong[ordered] > VOTES // 2], ordered[wrong[ordered] <= VOTES // 2]
    return [int(number) for number in (*beyond[: count // 2], *within[: count - count // 2])]


def _crafted(
    choice: Choice, store: ModelStore, test: Examples, numbers: list[int]
) -> list[tuple[int, NDArray[np.uint8]]]:
    """Adversarial bytes of the first examples that the undefended network falls for and the defended one withstands."""
    name = choice.undefended.partition("/")[0]
    network = build(name, "multiplicative")
    start_from(network, _file(store, choice.undefended), torch.from_numpy(test.values(slice(0, 512))))
    inputs = torch.from_numpy(test.values(np.array(numbers)))
    labels = torch.from_numpy(test.labels[numbers]).long()
    found = craft(Target(network), choice.steps, inputs, labels, seed=SEED).inputs.numpy()
    placed = np.rint(found * 255).astype(np.uint8)
    placed_examples = Examples(placed, test.labels[numbers])
    fallen, stood = (
        _wrong_votes(store, variant, placed_examples, 0.0) for variant in (choice.undefended, choice.defended)
    )
    kept = np.flatnonzero((fallen > 0) & (stood == 0))[: choice.attacks]
    return [(numbers[index], placed[index]) for index in kept]


def _example(choice: Choice, test: Examples, number: int, *, hard: bool) -> dict[str, Any]:
    return {
        "id": f"{choice.data_set}-{number}",
        "number": number,
        "label": int(test.labels[number]),
        "hard": hard,
        "image": _text(test.inputs[number]),
    }


def _attack(choice: Choice, number: int, crafted: NDArray[np.uint8]) -> dict[str, Any]:
    return {"id": f"{choice.data_set}-{number}-attacked", "of": f"{choice.data_set}-{number}", "image": _text(crafted)}


def _pen_points(source: DataSource) -> list[NDArray[np.uint8]]:
    """The pen points of MNIST's test digits as `stroke-lstm` takes them, each followed by its last one."""
    inputs = strokes.load(source).test.inputs
    return [points.astype(np.uint8) for points in inputs]


def _file(store: ModelStore, chosen: str) -> Path:
    model, version, name = chosen.split("/")
    variant = store.manifest(model, version).variant(name)
    assert variant is not None, chosen  # the names above are of what the repository publishes
    return store.root / model / version / variant.file


def _text(array: NDArray[Any]) -> str:
    """Bytes in C order, in base64."""
    return base64.b64encode(np.ascontiguousarray(array, np.uint8).tobytes()).decode()
