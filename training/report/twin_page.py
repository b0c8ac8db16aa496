"""The page of twins beside their float32 variants, made from the records alone."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from noisevote.evaluation.outcomes import LEVEL_95
from noisevote.training.publish.differences import MOST_BELOW
from noisevote.training.publish.twin_record import Place, TwinRecord, read_all

PAGE: Final = "twins.md"
ABOUT: Final = (
    "# Twins beside their float32 variants",
    "",
    "Accuracy in percent on all test images, of int8 twins; in brackets what it is above the float32 variant's, with",
    "the same images, seeds and draws. A twin that draws with a newer version of the noise operator stands beside its",
    "variant with the draws of that version, so that votes are paired image by image, and the difference has its 95 %",
    "interval over images. Any other stands beside what its variant was published with. Twins are calibrated for the",
    f"sigmas of their tables, and published if they are nowhere there more than {100 * MOST_BELOW:g} points below.",
    "Made by `python -m training quantize … --publish`, which writes the records, and `python -m training report`.",
)


def report(folder: Path, out: Path) -> list[Path]:
    """Write OUT/twins.md of the records in a folder; returns what was written, nothing where there is none."""
    records = read_all(folder)
    if not records:
        return []
    page = out / PAGE
    page.write_text("\n".join([*ABOUT, *(line for each in records for line in _section(each))]) + "\n")
    return [page]


def _section(made: TwinRecord) -> Iterable[str]:
    worst = min(made.places, key=lambda place: place.int8 - place.float32)
    counts = sorted({place.votes for place in made.places})
    yield from ("", f"## {made.model} {made.version}, {made.twin}", "")
    yield (
        f"{made.bytes:,} bytes, operator version {made.operator}, {made.images:,} images, seed {made.seed}. "
        f"Lowest beside float32: {_gain(worst)} points at sigma {worst.sigma:.4g} with {_votes(worst.votes)}."
    )
    yield from ("", f"| sigma | {' | '.join(map(_votes, counts))} |", f"|---{'|---' * len(counts)}|")
    for sigma in sorted({place.sigma for place in made.places}):
        of = {place.votes: place for place in made.places if place.sigma == sigma}
        yield f"| {sigma:.4g} | {' | '.join(_cell(of.get(count)) for count in counts)} |"


def _votes(count: int) -> str:
    return "1 vote" if count == 1 else f"{count} votes"


def _cell(place: Place | None) -> str:
    return "–" if place is None else f"{100 * place.int8:.2f} ({_gain(place)})"


def _gain(place: Place) -> str:
    gain = f"{100 * (place.int8 - place.float32):+.2f}"
    return gain if place.error is None else f"{gain} ± {100 * LEVEL_95 * place.error:.2f}"
