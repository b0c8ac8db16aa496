"""How honest estimates are on the published model: each measured place against an estimate without it."""

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from noisevote.model_store.accuracy_table import accuracy_table
from noisevote.model_store.manifest import AccuracyPoint, Variant
from noisevote.model_store.store import ModelStore
from noisevote.noise_op.contract import NOISE_KINDS, NoiseKind
from noisevote.service.settings import Settings

STORE = ModelStore(Settings.model_fields["model_store"].default)
VARIANTS = STORE.manifest("mnist-cnn", STORE.versions("mnist-cnn")[-1]).variants
Coordinate = Callable[[AccuracyPoint], float]


def sigma_of(point: AccuracyPoint) -> float:
    """A place on the sigma axis."""
    return point.sigma


def log_votes_of(point: AccuracyPoint) -> float:
    """A place on the votes axis."""
    return math.log(point.votes)


def left_out(coordinate: Coordinate, same: Coordinate) -> Iterator[tuple[float, float]]:
    """Errors of our estimate and of a straight line's, at each noisy place between others on an axis.

    All points at that coordinate are left out; the line goes through the two neighbours with the same other coordinate.
    """
    for variant in VARIANTS:
        for kind in NOISE_KINDS:
            points = [p for p in variant.accuracy if p.noise == kind or p.sigma == 0]
            inner = sorted({coordinate(p) for p in points})[1:-1]
            for place in inner if any(p.sigma > 0 for p in points) else ():
                rest = [p for p in points if coordinate(p) != place]
                for point in (p for p in points if coordinate(p) == place and p.sigma > 0):
                    line = np.array(sorted((coordinate(p), p.accuracy) for p in rest if same(p) == same(point)))
                    straight = float(np.interp(place, line[:, 0], line[:, 1]))
                    yield ours(variant, rest, kind, point) - point.accuracy, straight - point.accuracy


def ours(variant: Variant, rest: list[AccuracyPoint], kind: NoiseKind, wanted: AccuracyPoint) -> float:
    """The estimate at a point by other points."""
    table = accuracy_table(variant.model_copy(update={"accuracy": tuple(rest)}), kind, wanted.sigma)
    assert table is not None
    found = table.estimate(wanted.sigma, wanted.votes)
    assert found.inside
    return found.accuracy


@pytest.mark.parametrize(
    ("coordinate", "same", "most", "gain"), [(sigma_of, log_votes_of, 0.005, 2), (log_votes_of, sigma_of, 0.004, 1.25)]
)
def test_a_place_left_out_is_estimated_better_than_by_a_straight_line(
    coordinate: Coordinate, same: Coordinate, most: float, gain: float
) -> None:
    """The mean error is below half a point, though leaving out makes every gap twice as wide as it is."""
    errors = np.abs(list(left_out(coordinate, same)))
    mean, straight = errors.mean(axis=0)
    assert mean < most
    assert mean < straight / gain
