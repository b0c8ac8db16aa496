"""Tables of how low full access goes: over draws and steps, with the seed known, by AutoAttack, and part by part."""

from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from noisevote.training.attack.records import FullAccess
from noisevote.training.report.defence_numbers import Interval, by_image, difference, share
from noisevote.training.report.rows import header, in_points, percent, row, with_interval

# What a network was trained on, and its noise there.
TRAINED: Final = {
    ("mnist-cnn-robust", "robust-mul-0.3"): ("adversarial examples", "0.3"),
    ("mnist-cnn-robust", "robust"): ("adversarial examples", "0"),
    ("mnist-cnn", "mul-0.4"): ("images", "0.4"),
}
Records = dict[str, FullAccess]


def draws(records: Records) -> Iterable[str]:
    """EOT-PGD on the same images: more draws a gradient, and twice the steps."""
    yield from header(["draws a gradient", "steps", "images", "one vote", "all votes decide", "95 % interval"])
    for record in over_draws(records):
        decided = share(record.attacked.decisions)
        yield row([
            str(record.draws), str(record.steps["iterations"]), str(len(record.attacked)), percent(one_vote(record)),
            percent(decided.estimate), f"{percent(decided.low)} … {percent(decided.high)}",
        ])  # fmt: skip


def over_draws(records: Records) -> list[FullAccess]:
    """EOT-PGD of `robust-mul-0.3` at sigma 0.3 on every 200th image, the fewest draws and steps first."""
    chosen = [r for name, r in records.items() if name.startswith("robust-noise-eot-") and r.every == 200]
    return sorted(chosen, key=lambda record: (record.draws, record.steps["iterations"]))


def one_vote(record: FullAccess) -> float:
    """Share of right fresh votes after the attack."""
    return float(record.attacked.counts.mean() / record.votes)


def over_images(record: FullAccess) -> Interval:
    """The same, with Student's interval over images, within 0 and 1."""
    shares = record.attacked.counts / record.votes
    found = difference(shares, np.zeros_like(shares))
    return Interval(found.estimate, max(0.0, found.low), min(1.0, found.high))


def seeds(records: Records) -> Iterable[str]:
    """Attackers who know the seed, beside those who do not, by as many votes on the same images."""
    yield from header(["seed known", "not known", "images", "votes", "known", "not known", "difference, points", "is"])
    for name, known in records.items():
        alike = {n: r for n, r in records.items() if not r.known and _how(r) == _how(known)}
        other = _most_images(alike, known)
        if not known.known or other is None:
            continue
        ours, theirs = _by_votes(known, known.votes), _by_votes(records[other], known.votes)
        both = sorted(set(ours) & set(theirs))
        left, right = (np.array([each[image] for image in both]) for each in (ours, theirs))
        found = difference(left, right)
        yield row([
            f"`{name}`", f"`{other}`", str(len(both)), str(known.votes), percent(left.mean()), percent(right.mean()),
            in_points(found), found.verdict,
        ])  # fmt: skip


def autoattack(records: Records) -> Iterable[str]:
    """AutoAttack beside PGD on the same network, noise and images."""
    yield from header([
        "record", "network", "sigma", "version", "images", "natural", "one vote", "all votes decide",
        "PGD on these images",
    ])  # fmt: skip
    for name, record in autoattacks(records).items():
        _, version = record.steps["attack"].split(", ")
        other = _most_images({n: r for n, r in records.items() if _same(r, record)}, record)
        yield row([
            f"`{name}`", f"{record.model} {record.variant}", f"{record.sigma:g}", version, _done(record),
            percent(record.natural.decisions.mean()), percent(one_vote(record)),
            with_interval(share(record.attacked.decisions)),
            "–" if other is None else _beside(record, other, records[other]),
        ])  # fmt: skip


def autoattacks(records: Records) -> Records:
    """The records of the authors' AutoAttack."""
    return {name: r for name, r in records.items() if str(r.steps.get("attack", "")).startswith("AutoAttack")}


def ablation(records: Records) -> Iterable[str]:
    """What training and serving noise are worth, each left out, by numbers of votes."""
    yield from header([
        "trained on", "sigma in training", "sigma served", "record", "images", "natural",
        "1 / 5 / 20 / 100 votes decide", "95 % interval",
    ])  # fmt: skip
    for (model, variant), (kind, sigma_train) in TRAINED.items():
        for noisy in (True, False):
            own = {
                n: r
                for n, r in records.items()
                if (r.model, r.variant, r.steps["eps"], r.sigma > 0) == (model, variant, 0.3, noisy)
                and _plain(r) and r.steps["iterations"] == 20
            }  # fmt: skip
            if (name := _most_images(own)) is None:
                continue
            record = own[name]
            yield row([
                kind, sigma_train, f"{record.sigma:g}", f"`{name}`", _done(record),
                percent(record.natural.decisions.mean()), by_number_of_votes(record),
                with_interval(share(record.attacked.decisions)),
            ])  # fmt: skip


def by_number_of_votes(record: FullAccess) -> str:
    """Accuracy of the decisions of the first 1, 5, 20 and 100 votes, as many as were cast."""
    bits = [np.frombuffer(text.encode(), np.uint8) == ord("1") for text in record.by_votes.values()]
    return " / ".join(percent(float(one.mean())) for one in bits)


def _plain(record: FullAccess) -> bool:
    return not record.known and not record.source and "attack" not in record.steps


def _same(record: FullAccess, other: FullAccess) -> bool:
    """Whether PGD with full access attacked the same network under the same noise in the same ball."""
    keys = ("model", "variant", "sigma")
    same = all(getattr(record, key) == getattr(other, key) for key in keys)
    return same and _plain(record) and record.steps["eps"] == other.steps["eps"]


def _how(record: FullAccess) -> tuple[object, ...]:
    steps = record.steps
    return record.model, record.variant, record.sigma, record.source, record.draws, steps["iterations"], steps["eps"]


def _most_images(records: Records, beside: FullAccess | None = None) -> str | None:
    """The record of most images, or of most of those that another one has."""
    counts = {name: len({*r.places} & {*(beside or r).places}) for name, r in records.items()}
    return max(counts, key=lambda name: counts[name], default=None)


def _by_votes(record: FullAccess, votes: int) -> dict[int, bool]:
    text = record.by_votes[votes]
    return {image: text[place] == "1" for image, place in record.places.items()}


def _beside(record: FullAccess, name: str, other: FullAccess) -> str:
    theirs = by_image(other)
    right: list[bool] = [theirs[image] for image in record.places if image in theirs]
    shown: NDArray[np.bool_] = np.array(right, bool)
    return f"{percent(float(shown.mean()))} of {len(shown)} (`{name}`)" if right else "–"


def _done(record: FullAccess) -> str:
    done = len(record.attacked)
    return f"{done}" if record.complete else f"{done} of {record.images}"
