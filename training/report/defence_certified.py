"""Certified accuracy at radii: by the fixed rule, on the card and on ONNX Runtime together, and by the anytime rule."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from noisevote.training.attack.certified import ALPHA, CertifiedPaths, N, Outcomes, outcomes
from noisevote.training.attack.records import in_order
from noisevote.training.report.defence_numbers import certified_radii, share
from noisevote.training.report.defence_records import Defence
from noisevote.training.report.defence_runs import Certified
from noisevote.training.report.rows import header, row, with_interval
from noisevote.voting.certificates import anytime_failure, certified_radius
from noisevote.voting.certification import look_times

RADII: Final = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5)
# Public code's best over methods and sigmas, of all 10,000 test images, as its repositories' tables have them.
PUBLIC: Final = (99.0, 98.3, 97.1, 93.3, 88.6, 82.2, 70.9, 45.7, 29.8)
LEAST_CERTIFIED: Final = 100  # images of a cell
TEST_IMAGES: Final = 10_000
FIXED_STRIDE: Final = 20  # every 20th test image is certified by the fixed rule


@dataclass(frozen=True)
class FixedRule:
    """What all n votes on each of some images certify at one sigma.

    `radii` are the certified ones of images whose certified class is their label, else −1, [images]. `card` of the
    images have votes of the torch twin on a graphics card, `runtime` those of the published file on ONNX Runtime.
    """

    sigma: float
    radii: NDArray[np.float64]
    card: int
    runtime: int


def fixed_rules(defence: Defence) -> list[FixedRule]:
    """The fixed rule at each sigma, the smallest first."""
    card = {
        run.certified.sigma: run.certified
        for run in defence.runs.values()
        if run.certified and run.certified.n == N and run.run.startswith("mnist")
    }
    paths = {record.sigma: record for record in defence.certified.values()}
    return [fixed_rule(sigma, card.get(sigma), paths.get(sigma)) for sigma in sorted({*card, *paths})]


def fixed_rule(sigma: float, card: Certified | None, paths: CertifiedPaths | None) -> FixedRule:
    """Both records put together, each image once: the card's votes where it has them, else a whole path.

    It ends before the first image, in their order, that neither has all votes of. Otherwise what the anytime rule
    could not decide, which takes all votes as well, would weigh more than what it could.
    """
    ours, theirs = _card_votes(card) if card else {}, _whole_paths(paths) if paths else {}
    found, on_card = [], 0
    for image in in_order(TEST_IMAGES, (FIXED_STRIDE,)):
        if image not in ours and image not in theirs:
            break
        found.append(ours.get(image) or theirs[image])
        on_card += image in ours
    own, counts = np.array([one for one, _ in found], bool), np.array([count for _, count in found], np.int64)
    radii = certified_radii(sigma, own, counts, N, ALPHA)
    return FixedRule(sigma, radii, on_card, len(found) - on_card)


Votes: TypeAlias = tuple[bool, int]  # whether the selected class is the label, and estimating votes for it


def _card_votes(record: Certified) -> dict[int, Votes]:
    chosen = {image: int(np.argmax(selecting)) for image, (selecting, _) in record.counts.items()}
    return {
        image: (chosen[image] == label, estimating[chosen[image]])
        for label, (image, (_, estimating)) in zip(record.labels, record.counts.items(), strict=True)
    }


def _whole_paths(record: CertifiedPaths) -> dict[int, Votes]:
    looks, found = len(look_times(record.n)), {}
    for image in record.paths:
        kept = record.path(image)
        assert kept is not None  # it is one of the record's
        label, path = kept
        if len(path.failures) == looks:
            found[image] = label == path.index, record.n - sum(path.failures)
    return found


def fixed_table(rules: Iterable[FixedRule]) -> Iterable[str]:
    """Certified accuracy by the fixed rule, each sigma, beside public code's best."""
    best: dict[float, float] = {}
    yield from header(["", "images", "card", "ONNX Runtime", *(f"r {radius:g}" for radius in RADII)])
    for rule in rules:
        rates = [share(rule.radii >= radius) for radius in RADII]
        best = {radius: max(best.get(radius, 0.0), 100 * rate.high) for radius, rate in zip(RADII, rates, strict=True)}
        counts = (len(rule.radii), rule.card, rule.runtime)
        yield row([f"sigma {rule.sigma:g}", *(str(count) for count in counts), *map(with_interval, rates)])
    yield row(["public code's best", "10,000", "", "", *(f"{value:.1f}" for value in PUBLIC)])
    yield row(["reached", "", "", "", *("yes" if _reached(best, *each) else "no" for each in _public())])


def anytime_table(records: Iterable[CertifiedPaths]) -> Iterable[str]:
    """Certified accuracy and votes of the anytime rule, a table row each of every sigma."""
    best: dict[float, float] = {}
    open_ones: set[float] = set()  # that some sigma has yet to be measured at
    yield from header(["", "", *(f"r {radius:g}" for radius in RADII)])
    for record in records:
        cells = {radius: ["beyond n" if radius > _reach(record) else "–", *["–"] * 3] for radius in RADII}
        for one in anytime_cells(record):
            rate, mean = share(one.right), float(one.votes.mean())
            best[one.radius] = max(best.get(one.radius, 0.0), 100 * rate.high)
            cells[one.radius] = [
                with_interval(rate), f"{len(one.votes):,}", f"{mean:,.0f}", f"{record.n / mean:,.0f}"
            ]  # fmt: skip
        open_ones |= {radius for radius, cell in cells.items() if cell[0] == "–"}
        for number, title in enumerate(("accuracy", "images", "votes an image", "times fewer than n")):
            name = "" if number else f"**sigma {record.sigma:g}**"
            yield row([name, title, *(cell[number] for cell in cells.values())])
    yield row(["public code's best", "", *(f"{value:.1f}" for value in PUBLIC)])
    told = ["yes" if _reached(best, *each) else "–" if each[0] in open_ones else "no" for each in _public()]
    yield row(["reached", "", *told])


def anytime_cells(record: CertifiedPaths) -> list[Outcomes]:
    """What the anytime rule made of enough images, at each radius that it has done with."""
    within = [radius for radius in RADII if radius <= _reach(record)]
    return [one for one in outcomes(record, within, TEST_IMAGES) if len(one.votes) >= LEAST_CERTIFIED]


def _reach(record: CertifiedPaths) -> float:
    """The radius that n votes of one accord certify."""
    return certified_radius(record.sigma, anytime_failure(record.n, record.n, record.alpha))


def _public() -> Iterable[tuple[float, float]]:
    return zip(RADII, PUBLIC, strict=True)


def _reached(best: dict[float, float], radius: float, public: float) -> bool:
    """Whether public code's figure lies inside or below some sigma's interval; `best`: highest ends, in %."""
    return public <= best.get(radius, 0.0)
