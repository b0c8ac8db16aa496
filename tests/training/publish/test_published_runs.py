"""The published models beside the recorded runs."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from noisevote.model_store.store import ModelStore
from noisevote.noise_op.contract import NOISE_KINDS, NoiseKind
from noisevote.service.settings import Settings
from noisevote.training.report import paper
from noisevote.training.report.record import best, read_all

STORE = ModelStore(Settings.model_fields["model_store"].default)
RECORDS = read_all(Path(__file__).parents[3] / "docs" / "results" / "runs")


class Best(NamedTuple):
    """What the report has at one sigma."""

    variant: str
    noise: NoiseKind
    sigma: float
    votes: int
    accuracy: float


def bests(network: str) -> Iterator[Best]:
    """At each sigma, with one vote and with many, the best of the runs that were trained for that noise."""
    trained = [run for run in RECORDS[network] if run.calibrated_at is None]
    for noise in (kind for kind in NOISE_KINDS if any(run.noise == kind for run in trained)):
        for sigma in paper.SIGMAS:
            for votes in (1, paper.VOTES):
                if found := best(trained, noise, sigma, votes):
                    yield Best(found[0].variant, noise, sigma, votes, found[1].accuracy)


@pytest.mark.parametrize("network", sorted(RECORDS))
def test_what_is_best_somewhere_is_published(network: str) -> None:
    """The newest version holds every σ_train that the report calls best at some sigma, and says as much of it.

    To 0.05 points: a run may have been measured with more votes since it was published.
    """
    published = {variant.name: variant for variant in STORE.manifest(network).variants}
    wanted = list(bests(network))
    assert len(wanted) >= len(paper.SIGMAS)
    for variant, noise, sigma, votes, accuracy in wanted:
        at = {(p.noise if p.sigma else noise, p.sigma, p.votes): p.accuracy for p in published[variant].accuracy}
        assert at[noise, sigma, votes] == pytest.approx(accuracy, abs=5e-4)
