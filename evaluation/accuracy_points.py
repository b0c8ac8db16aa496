"""The measured table of a manifest, made of a file of results."""

from collections.abc import Iterator

from noisevote.evaluation.results import Cell, Evaluation, Measured
from noisevote.model_store.manifest import AccuracyPoint


def accuracy_points(evaluation: Evaluation) -> tuple[AccuracyPoint, ...]:
    """The measured cells as the manifest's points.

    Without noise every vote is the same, so what was measured at sigma 0 with one vote holds, exactly,
    for each number of votes of the table.
    """
    counts = sorted({measured.votes for cell in evaluation.cells for measured in cell.measured})
    return tuple(
        AccuracyPoint(
            noise=cell.noise,
            sigma=cell.sigma,
            votes=votes,
            reads=cell.reads,
            accuracy=measured.accuracy,
            spread=measured.spread,
            images=evaluation.images,
            seed=evaluation.seed,
        )
        for cell in evaluation.cells
        for votes, measured in _at_counts(cell, counts)
    )


def _at_counts(cell: Cell, counts: list[int]) -> Iterator[tuple[int, Measured]]:
    """The cell's measurements with the numbers of votes that they hold for."""
    if cell.sigma == 0:
        (once,) = cell.measured
        yield from ((votes, once) for votes in counts)
    else:
        yield from ((measured.votes, measured) for measured in cell.measured)
