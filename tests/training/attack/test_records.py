from pathlib import Path

import numpy as np
import pytest

from noisevote.training.attack.records import AttackRecordError, Outcome, TransferVotes, started
from noisevote.training.attack.transfer_votes import TOLD, fresh_record


def fresh(seed: int = 0) -> TransferVotes:
    """A record without votes."""
    return fresh_record({"data_set": "mnist"}, "net", "mul-0.3", "0" * 64, seed=seed)


def test_outcomes_keep_each_image() -> None:
    """Counts up to 255 and decisions come back as they were given, over several additions."""
    outcome = Outcome().with_more([0, 20], [False, True]).with_more([255], [True])
    assert outcome.counts.tolist() == [0, 20, 255]
    assert outcome.decisions.tolist() == [False, True, True]
    assert len(outcome) == 3
    assert np.array_equal(Outcome.model_validate_json(outcome.model_dump_json()).counts, outcome.counts)


def test_a_record_goes_on_only_with_the_same_measurement(tmp_path: Path) -> None:
    """A file of another seed is refused, and so is what is no record; the same measurement goes on."""
    file = tmp_path / "record.json"
    assert started(fresh(), file, TOLD) == fresh()
    fresh().write(file)
    assert started(fresh(), file, TOLD) == fresh()
    with pytest.raises(AttackRecordError, match="other values of seed"):
        started(fresh(seed=1), file, TOLD)
    file.write_text("{}")
    with pytest.raises(AttackRecordError):
        TransferVotes.read(file)
