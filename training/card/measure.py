"""What a card measures of finished networks while it is at hand: attacks, votes for certificates, accuracies."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from noisevote.evaluation.accuracy import evaluate
from noisevote.evaluation.examples import Examples
from noisevote.evaluation.plan import Plan
from noisevote.evaluation.results import sha256_of
from noisevote.noise_op.torch_twin import drawing
from noisevote.training.attack.craft import accuracy_under, craft
from noisevote.training.attack.steps import Steps, pgd
from noisevote.training.attack.target import Target
from noisevote.training.attack.transfer_set import TransferRecipe, append, open_set
from noisevote.training.card.run import Run
from noisevote.training.data.data_set import DataSet
from noisevote.training.fit.calibration import calibrate
from noisevote.training.fit.quick_eval import one_vote_accuracy
from noisevote.training.measure.torch_twin import TorchTwin
from noisevote.training.networks.network import Network
from noisevote.training.noise.draws import constant_draws
from noisevote.training.runs.recipe import Recipe
from noisevote.training.runs.run_folder import RunFolder

EVERY: Final = 20  # every 20th test image is certified
SELECTING: Final = 100  # votes that pick the class; the following ones estimate it
ROWS: Final = 10_000
CRAFTED_AT_ONCE: Final = 500
VOTES: Final = 20


def measure(folder: RunFolder, data: DataSet, device: torch.device, deadline: float, small: bool = False) -> None:
    """Measure a finished run into `<run>/measured.json`, part by part, until the deadline."""
    network, recipe = folder.read_network().to(device), folder.read_recipe()
    file = folder.path / "measured.json"
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    parts = _certificates if recipe.network.endswith("smoothed") else _attacks
    for name, value in parts(network, recipe, data.test, device, deadline, small):
        found[name] = value
        file.write_text(json.dumps(found) + "\n")


def measure_accuracy(
    folder: RunFolder, run: Run, data: DataSet, device: torch.device, deadline: float, small: bool = False
) -> None:
    """Measure a finished run by the torch twin, sigma by sigma, then calibrate it and measure that, until the deadline.

    A calibrated network is measured where it was calibrated. A measurement that would end too late, if it took as long
    as the longest so far, is not begun.
    """
    cells = [(folder, sigma) for sigma in run.sigmas]
    cells += [(RunFolder(folder.path.parent / f"{run.name}-at-{sigma}"), sigma) for sigma in run.calibrated]
    longest = 0.0
    for measured, sigma in cells:
        began = time.time()
        if began + longest > deadline:
            break
        if measured != folder:
            calibrate(folder, sigma, data, measured, device, batches=2 if small else None)
        twin, recipe = TorchTwin(measured, device), measured.read_recipe()
        plan = Plan((recipe.noise,), (sigma,), 2 if small else VOTES, seed=0)
        evaluate(twin, measured.evaluation_by(twin.name), data.test.first(20) if small else data.test, plan)
        longest = max(longest, time.time() - began)


def _attacks(
    network: Network, recipe: Recipe, test: Examples, device: torch.device, deadline: float, small: bool
) -> Iterator[tuple[str, Any]]:
    yield "natural", one_vote_accuracy(network, recipe, test.first(100 if small else 10_000), 0.0)
    target, eps = Target(network), recipe.adversarial_eps if recipe.adversarial_share > 0 else 0.3
    some = test.first(10 if small else 10_000)
    if time.time() < deadline:
        yield "pgd-20", accuracy_under(target, pgd(eps, eps / 8, 20), some, device, rows=1000)
    if time.time() < deadline:
        some, restarts = test.first(4 if small else 1000), 1 if small else 10
        yield (
            "pgd-100-first-1000",
            accuracy_under(target, pgd(eps, eps / 30, 100), some, device, restarts=restarts, rows=1000),
        )


def _certificates(
    network: Network, recipe: Recipe, test: Examples, device: torch.device, deadline: float, small: bool
) -> Iterator[tuple[str, Any]]:
    """Votes per class of every 20th image: [first 100 votes, the following ones], image i drawing with seed i."""
    yield "one-vote", one_vote_accuracy(network, recipe, test.first(100 if small else 10_000), recipe.sigma_train)
    estimating = 300 if small else (100_000 if recipe.network == "mnist-smoothed" else 10_000)
    counts: dict[int, list[list[int]]] = {}
    for image in range(0, len(test), EVERY):
        if time.time() > deadline or (small and len(counts) == 3):
            break
        values = torch.from_numpy(test.values(slice(image, image + 1))).to(device)
        counts[image] = [
            vote_counts(network, recipe, values, image, first, count).tolist()
            for first, count in ((0, SELECTING), (SELECTING, estimating))
        ]
    yield "certificates", {"sigma": recipe.sigma_train, "n0": SELECTING, "n": estimating, "counts": counts}


@torch.no_grad()
def vote_counts(network: Network, recipe: Recipe, image: Tensor, seed: int, first_vote: int, votes: int) -> Tensor:
    """Votes per class, int64 [classes], of votes first_vote, first_vote + 1, … of one image [1, ...] at sigma_train."""
    counted = torch.zeros(10, dtype=torch.int64, device=image.device)
    for first in range(first_vote, first_vote + votes, ROWS):
        rows = min(ROWS, first_vote + votes - first)
        draws = constant_draws(recipe.noise, recipe.sigma_train, seed, rows, first, image.device)
        with drawing(replace(draws, row=torch.zeros_like(draws.vote))):
            logits = network(image)
        counted += torch.bincount(logits.argmax(dim=1), minlength=10)
    return counted.cpu()


def craft_set(
    source: RunFolder, folder: Path, data: DataSet, device: torch.device, deadline: float, small: bool = False
) -> None:
    """Craft the paper's Table 11 set of a data set on a finished run, from where it stopped until the deadline."""
    recipe, test = source.read_recipe(), data.test.first(20) if small else data.test
    steps, restarts, per_byte = table_11(data.name)
    restarts = 2 if small else restarts
    told = TransferRecipe(
        data.name, recipe.network, sha256_of(source.weights), steps, restarts, seed=0, per_byte=per_byte
    )
    target = Target(source.read_network().to(device), bfloat16=device.type == "cuda")
    for first in range(open_set(folder, told), len(test), CRAFTED_AT_ONCE):
        if time.time() > deadline:
            break
        chosen = slice(first, first + CRAFTED_AT_ONCE)
        inputs = torch.from_numpy(test.values(chosen)).to(device)
        labels = torch.from_numpy(test.labels[chosen]).long().to(device)
        crafted = craft(target, steps, inputs, labels, restarts=restarts, first_input=first)
        append(folder, told, first, crafted.inputs, test.inputs[chosen])
        print(f"{folder.name}: {first + len(inputs)} images, {float(crafted.wrong.mean()):.4f} wrong", flush=True)


def table_11(data_set: str) -> tuple[Steps, int, int]:
    """Steps, restarts and grid of the paper's Table 11."""
    if data_set == "mnist":
        return pgd(0.3, 0.05, 20), 20, 2
    return pgd(8 / 255, 2 / 255, 7), 10, 1
