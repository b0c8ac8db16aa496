"""What stopping rules save and what they decide, on real test images.

    python -m benchmarks.stopping --out docs/results/stopping

`exact` runs beside `fixed` on every test image. `confidence` is repeated with fresh seeds on some images
and compared with the mode of 10,000 votes on each; that reference is cast under `exact`, which provably
decides as all 10,000 would. In one process, multiplicative noise, variant `auto` for the budget.
"""

import argparse
import asyncio
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.report import write
from benchmarks.serving_core import Core, load_core
from noisevote.service.cpus import usable_cpus
from noisevote.service.scheduling.dispatcher import Dispatcher
from noisevote.training.data.files import DataSource
from noisevote.training.data.registry import load
from noisevote.voting.decision import decide
from noisevote.voting.stopping import Confidence, Exact, Fixed, StopRule
from noisevote.voting.tally import Tally

TITLE = "Stopping rules on MNIST test images"
SIGMAS = (0.2, 0.4, 0.6, 0.8, 1.0)
FIXED_VOTES = 20
BUDGET = 100
REFERENCE_VOTES = 10_000
IMAGES_AT_ONCE = 100
ALPHA = 0.05
EXACT_HEADER = (
    f"| sigma | images | decisions that differ | mean votes of {FIXED_VOTES} | share | fixed right | exact right |"
)
CONFIDENCE_HEADER = (
    "| sigma | decisions | stopped by the rule | of these wrong about the mode | all wrong about the mode "
    "| mean votes | most votes | images whose reference is not significant |"
)


@dataclass(frozen=True)
class ExactPoint:
    """`exact` beside `fixed` at one sigma."""

    sigma: float
    images: int
    differing: int
    mean_votes: float
    accuracy_fixed: float
    accuracy_exact: float


@dataclass(frozen=True)
class ConfidencePoint:
    """`confidence` beside the reference at one sigma; counts are decisions, one a repetition and image."""

    sigma: float
    decisions: int
    by_rule: int
    by_rule_wrong: int
    wrong: int
    mean_votes: float
    most_votes: int
    images: int
    unsure_references: int


def main() -> None:
    """Measure both rules at every sigma, and print and write the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stopping", description=__doc__)
    parser.add_argument("--model-store", type=Path, default=Path("model_store/models"))
    parser.add_argument("--images", type=int, default=10_000, help="images of `exact`")
    parser.add_argument("--reference-images", type=int, default=100, help="images of `confidence`, spread over the set")
    parser.add_argument("--repetitions", type=int, default=20, help="seeds of `confidence` for each image")
    parser.add_argument("--delta", type=float, default=0.05)
    parser.add_argument("--lanes", type=int, default=usable_cpus())
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    core = load_core(options.model_store)
    test = load("mnist", DataSource.from_environment()).test
    exact, confidence = asyncio.run(_measure(core, test.values(slice(None)), test.labels, options))
    table = _tables(exact, confidence, options.delta)
    print(*table, sep="\n")
    if options.out:
        figures = {"exact": [asdict(point) for point in exact], "confidence": [asdict(point) for point in confidence]}
        write(options.out, figures, table, TITLE, core.model)


async def _measure(
    core: Core, images: NDArray[np.float32], labels: NDArray[np.integer[Any]], options: argparse.Namespace
) -> tuple[list[ExactPoint], list[ConfidencePoint]]:
    exact, confidence = [], []
    few = images[np.linspace(0, len(images) - 1, options.reference_images).astype(int)]
    async with core.dispatching(options.lanes) as dispatcher:
        for sigma in tqdm(SIGMAS, desc="sigma", disable=None):
            exact.append(await _exact(core, dispatcher, images[: options.images], labels[: options.images], sigma))
            confidence.append(await _confidence(core, dispatcher, few, sigma, options))
            print(json.dumps([asdict(exact[-1]), asdict(confidence[-1])]), flush=True)
    return exact, confidence


async def _cast(
    core: Core,
    dispatcher: Dispatcher,
    images: NDArray[np.float32],
    noise: tuple[float, int],
    rule: StopRule,
    seed: int = 0,
    variant_votes: int | None = None,
) -> Tally:
    """The votes on all images, as requests of some images each; image i draws with seed + i."""
    sigma, budget = noise
    tallies = []
    for start in range(0, len(images), IMAGES_AT_ONCE):
        part = images[start : start + IMAGES_AT_ONCE]
        request = core.request(part, sigma, budget, rule, seed + start, variant_votes)
        tallies.append((await dispatcher.vote(request)).tally)
    histogram, probabilities = zip(*((tally.histogram, tally.probabilities) for tally in tallies), strict=True)
    return Tally(np.concatenate(histogram), np.concatenate(probabilities))


async def _exact(
    core: Core, dispatcher: Dispatcher, images: NDArray[np.float32], labels: NDArray[np.integer[Any]], sigma: float
) -> ExactPoint:
    noise = sigma, FIXED_VOTES
    fixed = await _cast(core, dispatcher, images, noise, Fixed())
    exact = await _cast(core, dispatcher, images, noise, Exact())
    decided = [decide(tally, ALPHA).index for tally in (fixed, exact)]
    return ExactPoint(
        sigma=sigma,
        images=len(images),
        differing=int((decided[0] != decided[1]).sum()),
        mean_votes=float(exact.votes_used.mean()),
        accuracy_fixed=float((decided[0] == labels).mean()),
        accuracy_exact=float((decided[1] == labels).mean()),
    )


async def _confidence(
    core: Core, dispatcher: Dispatcher, images: NDArray[np.float32], sigma: float, options: argparse.Namespace
) -> ConfidencePoint:
    reference = decide(await _cast(core, dispatcher, images, (sigma, REFERENCE_VOTES), Exact(), 1 << 40, BUDGET), ALPHA)
    rule = Confidence(options.delta)
    used, by_rule, wrong = [], [], []
    for repetition in range(options.repetitions):
        tally = await _cast(core, dispatcher, images, (sigma, BUDGET), rule, (repetition + 1) << 20)
        used.append(tally.votes_used)
        by_rule.append(rule.met(tally.histogram, BUDGET))
        wrong.append(decide(tally, ALPHA).index != reference.index)
    stopped, missed = np.array(by_rule), np.array(wrong)  # [repetitions, images]
    return ConfidencePoint(
        sigma=sigma,
        decisions=missed.size,
        by_rule=int(stopped.sum()),
        by_rule_wrong=int((stopped & missed).sum()),
        wrong=int(missed.sum()),
        mean_votes=float(np.mean(used)),
        most_votes=int(np.max(used)),
        images=len(images),
        unsure_references=int(reference.abstain.sum()),
    )


def _tables(exact: list[ExactPoint], confidence: list[ConfidencePoint], delta: float) -> list[str]:
    lines = [f"`exact` beside `fixed`, {FIXED_VOTES} votes:", "", EXACT_HEADER, "|---|---|---|---|---|---|---|"]
    lines += [
        f"| {p.sigma:.1f} | {p.images} | {p.differing} | {p.mean_votes:.2f} | {p.mean_votes / FIXED_VOTES:.0%} "
        f"| {p.accuracy_fixed:.2%} | {p.accuracy_exact:.2%} |"
        for p in exact
    ]
    about = f"`confidence`, delta {delta}, budget {BUDGET}, beside the mode of {REFERENCE_VOTES} votes:"
    lines += ["", about, "", CONFIDENCE_HEADER, "|---|---|---|---|---|---|---|---|"]
    lines += [
        f"| {p.sigma:.1f} | {p.decisions} | {p.by_rule} | {p.by_rule_wrong} ({p.by_rule_wrong / p.by_rule:.2%}) "
        f"| {p.wrong} ({p.wrong / p.decisions:.2%}) | {p.mean_votes:.1f} | {p.most_votes} "
        f"| {p.unsure_references} of {p.images} |"
        for p in confidence
    ]
    return lines


if __name__ == "__main__":
    main()
