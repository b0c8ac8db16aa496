"""Tables of the defence's page, a function each, made of the records."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np

from noisevote.training.attack.records import FullAccess, TransferVotes
from noisevote.training.report.defence_floor import by_number_of_votes
from noisevote.training.report.defence_numbers import Interval, by_image, difference, over_noise, paired, share
from noisevote.training.report.defence_runs import DefenceRun
from noisevote.training.report.defence_worst import worst_cases
from noisevote.training.report.rows import header, in_points, percent, row

# The paper's Table 11; which sigmas its noisy rows belong to did not survive.
PAPER: Final = {"mnist": (97.40, 97.79, 97.90, 97.71, 97.00), "cifar10": (66.52, 67.65, 67.43, 66.57, 63.39)}
LEAST_IMAGES: Final = 20  # of a comparison


def networks(runs: Iterable[DefenceRun]) -> Iterable[str]:
    """What was trained, and how it stands PGD by the measurements of the card."""
    yield from header(
        ["run", "trained on", "sigma_train", "best of epochs", "eps", "natural", "PGD-20", "PGD-100, 10 restarts"]
    )
    for run in (run for run in runs if "natural" in run.measured):
        adversarial = run.recipe["adversarial_share"]
        kinds = {0.0: "images", 1.0: "adversarial examples"}
        yield row([
            f"`{run.run}`", kinds.get(adversarial, "half of each"), f"{run.recipe['sigma_train']:g}",
            f"{run.best_epoch} of {len(run.epochs)}" if run.best_epoch else f"{len(run.epochs)}",
            f"{run.recipe['adversarial_eps'] if adversarial else 0.3:.3g}",
            *(percent(run.measured.get(key)) for key in ("natural", "pgd-20", "pgd-100-first-1000")),
        ])  # fmt: skip


def transfer(records: Sequence[TransferVotes], data_set: str) -> Iterable[str]:
    """Table 11: each network's accuracy about the set, over sigma, with intervals."""
    sigmas = sorted({cell.sigma for record in records for cell in record.cells if cell.inputs == "adversarial"})
    yield from header(["", *(f"sigma {sigma:g}" for sigma in sigmas)])
    for record in records:
        yield from _transfer_rows(record, sigmas)
    paper = [f"{value:.2f}" for value in PAPER[data_set]][: len(sigmas)]
    yield row(["paper (sigmas of the noisy rows: most likely)", *paper, *["–"] * (len(sigmas) - len(paper))])


def _transfer_rows(record: TransferVotes, sigmas: Sequence[float]) -> Iterable[str]:
    cells = [record.cell("adversarial", sigma) for sigma in sigmas]
    noiseless, natural = record.cell("adversarial", 0.0), record.cell("natural", 0.0)
    counts = sorted({len(cell.outcome) for cell in cells if cell})
    planned = int(record.set["images"])
    of = f"{counts[0]:,}" if counts[0] == counts[-1] else f"{counts[0]:,} to {counts[-1]:,}"
    known = f", natural {percent(float(natural.outcome.decisions.mean()))}" if natural else ""
    yield row([f"**{record.variant}**, {of} images of {planned:,}{known}", *[""] * len(sigmas)])
    yield row(["one run, ± over noise", *(_plus_minus(over_noise(cell)) if cell else "–" for cell in cells)])
    yield row(["20 votes", *(percent(float(cell.outcome.decisions.mean())) if cell else "–" for cell in cells)])
    for title, voted in (("gain of one run", False), ("gain of 20 votes", True)):
        gains = [paired(c, noiseless, voted=voted) if c and noiseless and c.sigma > 0 else None for c in cells]
        yield row([f"{title}, points", *(in_points(gain) if gain else "–" for gain in gains)])


def verdicts(records: Sequence[TransferVotes]) -> Iterable[str]:
    """A sentence for each network: whether any sigma gains something outside its interval."""
    for record in records:
        noiseless = record.cell("adversarial", 0.0)
        places = 2 * sum(cell.inputs == "adversarial" and cell.sigma > 0 for cell in record.cells)
        if noiseless is None or places == 0:
            continue
        found = [
            (cell.sigma, votes, paired(cell, noiseless, voted=votes > 1, places=places))
            for cell in record.cells
            if cell.inputs == "adversarial" and cell.sigma > 0
            for votes in (1, cell.votes)
        ]
        gains = [(sigma, votes, gain) for sigma, votes, gain in found if gain.verdict == "gain"]
        losses = sum(gain.verdict == "loss" for _, _, gain in found)
        name = f"- `{record.model}`, variant `{record.variant}`: "
        if gains:
            sigma, votes, best = max(gains, key=lambda one: one[2].estimate)
            yield f"{name}gains most at sigma {sigma:g} with {votes} votes, by {in_points(best)} points."
        else:
            sigma, votes, best = max(found, key=lambda one: one[2].estimate)
            yield (
                f"{name}**no gain** outside its interval at any of {len(found)} places (largest: {in_points(best)} "
                f"points at sigma {sigma:g}, {votes} votes); at {losses} a loss outside it."
            )


def attacks(records: dict[str, FullAccess]) -> Iterable[str]:
    """Attacks with full access and from a substitute: what they leave of fresh votes."""
    yield from header([
        "record", "network", "sigma", "attacker", "eps", "steps × restarts", "images", "natural", "one vote",
        "1 / 5 / 20 / 100 votes decide", "95 % interval",
    ])  # fmt: skip
    for name, record in records.items():
        if name.startswith("robust-eps"):
            continue
        done, last = len(record.attacked), share(record.attacked.decisions)
        yield row([
            f"`{name}`", f"{record.model} {record.variant}", f"{record.sigma:g}", attacker(record),
            f"{record.steps['eps']:.3g}", f"{record.steps['iterations']} × {record.restarts}",
            f"{done}" if record.complete else f"{done} of {record.images}",
            percent(float(record.natural.counts.mean() / record.votes)),
            percent(float(record.attacked.counts.mean() / record.votes)),
            by_number_of_votes(record), f"{percent(last.low)} … {percent(last.high)}",
        ])  # fmt: skip


def beside_noiseless(records: dict[str, FullAccess]) -> Iterable[str]:
    """Each attack under noise beside PGD on the same weights without noise, on the images that both attacked."""
    yield from header(["under noise", "without noise", "images", "under noise", "without", "difference, points", "is"])
    noiseless_ones = [(name, r) for name, r in records.items() if r.sigma == 0 and not name.startswith("robust-eps")]
    plain = {(r.model, r.variant, r.source, _kind(r)): (name, r) for name, r in noiseless_ones}
    for name, record in records.items():
        source = "" if record.source == record.sha256 else record.source
        key = record.model, record.variant, source, _kind(record)
        if record.sigma == 0 or key not in plain:
            continue
        other, noiseless = plain[key]
        ours, theirs = by_image(record), by_image(noiseless)
        both = sorted(set(ours) & set(theirs))
        if len(both) < LEAST_IMAGES:
            continue
        under, without = np.array([ours[image] for image in both]), np.array([theirs[image] for image in both])
        found = difference(under, without)
        shares = (percent(float(some.mean())) for some in (under, without))
        yield row([f"`{name}`", f"`{other}`", str(len(both)), *shares, in_points(found), found.verdict])


def _kind(record: FullAccess) -> bool:
    """Whether an attack is a library's, or was made through answers."""
    return "attack" in record.steps


def worst(records: dict[str, FullAccess]) -> Iterable[str]:
    """The worst example of each image over all attacks, chosen on some votes and judged by fresh ones."""
    yield from header([
        "network", "sigma", "eps", "attacks", "images", "natural", "one vote", "all votes decide", "95 % interval",
        "by the votes that chose",
    ])  # fmt: skip
    for found in worst_cases(records):
        yield row([
            f"{found.model} {found.variant}", f"{found.sigma:g}", f"{found.eps:.3g}",
            ", ".join(f"`{name}`" for name in found.attacks), str(found.images), percent(found.natural),
            percent(found.one_vote), percent(found.decided.estimate),
            f"{percent(found.decided.low)} … {percent(found.decided.high)}", percent(found.same_votes),
        ])  # fmt: skip


def attacker(record: FullAccess) -> str:
    """What the attacker does and knows."""
    if "attack" in record.steps:
        draws = f"; {record.draws} draws a gradient" if record.sigma > 0 and "rand" in record.steps["attack"] else ""
        return f"{record.steps['attack']}{draws}"
    if record.source and record.source == record.sha256:
        return "all weights; gradients without noise"
    if record.source and record.steps["momentum"] == 0:
        return "transfer from another network, the worst of its restarts"
    if record.source:
        return "transfer from a substitute, momentum and diverse inputs"
    if record.known:
        return f"all weights and the seed: the {record.draws} votes themselves"
    return "all weights" if record.sigma == 0 else f"all weights; {record.draws} draws a gradient"


def over_eps(records: dict[str, FullAccess]) -> list[tuple[float, Interval, int]]:
    """Accuracy of the published noiseless network against eps, from 0: eps, accuracy, images."""
    chosen = [r for name, r in records.items() if name.startswith("robust-eps") or name == "robust-pgd-20"]
    chosen.sort(key=lambda record: float(record.steps["eps"]))
    natural = [(0.0, share(chosen[0].natural.decisions), len(chosen[0].natural))] if chosen else []
    return natural + [(float(r.steps["eps"]), share(r.attacked.decisions), len(r.attacked)) for r in chosen]


def library(rows: Sequence[dict[str, Any]]) -> Iterable[str]:
    """Accuracy after our attack and after the library's, on the same network and images."""
    yield from header(["network", "attack", "eps", "sigma", "images", "after ours", "after torchattacks'"])
    for one in rows:
        mine = "–" if one["ours"] is None else percent(one["ours"])
        yield row([
            f"`{one['run']}`", one["attack"], f"{one['eps']:.3g}", f"{one['sigma']:g}", str(one["images"]), mine,
            percent(one["library"]),
        ])  # fmt: skip


def square_order(curve: dict[str, Any]) -> tuple[Any, ...]:
    """How curves of the Square attack follow each other: by network, sigma and votes."""
    return curve["model"], curve["sigma"], curve["votes"], curve["images"]


def square(rows: Sequence[dict[str, Any]]) -> Iterable[str]:
    """Accuracy against queries of the Square attack over HTTP."""
    asked = sorted({query for one in rows for query, _ in one["curve"]})
    yield from header(["network", "sigma", "votes a query", "images", *(f"{query} queries" for query in asked)])
    for one in sorted(rows, key=square_order):
        curve = dict(one["curve"])
        name, cells = f"{one['model']} {one['variant']}", [percent(curve.get(query)) for query in asked]
        yield row([name, f"{one['sigma']:g}", str(one["votes"]), str(one["images"]), *cells])


def _plus_minus(found: Interval) -> str:
    half = (found.high - found.low) / 2
    return percent(found.estimate) + (f" ± {100 * half:.2f}" if half > 0 else "")
