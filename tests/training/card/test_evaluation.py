"""The jobs that a card is lent for are commands that exist, and none writes what another one writes."""

from pathlib import Path

import pytest

from benchmarks import autoattack
from noisevote.training.__main__ import parser
from noisevote.training.card.evaluation import PLAN, Job


@pytest.mark.parametrize("job", PLAN, ids=lambda job: job.name)
@pytest.mark.parametrize("miniature", [True, False])
def test_every_job_is_a_command(job: Job, tmp_path: Path, *, miniature: bool) -> None:
    """Its flags are read by the command's own parser, and its record lies below the folder that is given."""
    module, *words = job.line(tmp_path, "cpu", 2, miniature=miniature)
    known = {"noisevote.training": parser, "benchmarks.autoattack": autoattack.parser}
    read = known[module]().parse_args(words)
    place = read.record if job.on_card else read.records / Path(job.record).name
    assert place == tmp_path / job.record


def test_attacks_have_records_of_their_own() -> None:
    """Only certificates go on with one record after the other, which `main` keeps apart."""
    records = [job.record for job in PLAN if job.on_card]
    assert len(set(records)) == len(records)
    assert len({job.name for job in PLAN}) == len(PLAN)
