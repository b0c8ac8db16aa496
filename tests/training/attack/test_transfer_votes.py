from pathlib import Path

import numpy as np
import pytest

from noisevote.evaluation.examples import Examples
from noisevote.evaluation.onnx_runtime import OnnxRuntime
from noisevote.evaluation.plan import Plan
from noisevote.evaluation.results import sha256_of
from noisevote.evaluation.votes import cast_votes
from noisevote.training.attack import transfer_votes
from noisevote.training.attack.records import TransferVotes
from noisevote.training.attack.transfer_votes import Asked, ask_all, fresh_record

VOTES = 4


@pytest.fixture
def attacked(digits: Examples) -> Examples:
    """The digits in float32, inverted in their upper half."""
    inputs = digits.values(slice(None)).copy()
    inputs[:, :, :14] = 1 - inputs[:, :, :14]
    return Examples(inputs, digits.labels)


def asked(exported: Path, file: Path) -> Asked:
    """The exported file, to be asked."""
    fresh = fresh_record({"data_set": "mnist"}, "net", "mul-0.3", sha256_of(exported), seed=5)
    return Asked(file, fresh, OnnxRuntime(exported), VOTES)


def test_votes_are_those_of_one_request(
    exported: Path, digits: Examples, attacked: Examples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked block by block, and stopped in between, image i still draws with seed + i and votes from 0 on."""
    monkeypatch.setattr(transfer_votes, "BLOCK", 10)
    for images in (17, None):
        ask_all([asked(exported, tmp_path / "r.json")], digits, attacked, [0.0, 0.4], lambda _: None, images)
    record = TransferVotes.read(tmp_path / "r.json")
    plan = Plan(("multiplicative",), (0.4,), VOTES, 5)
    expected = cast_votes(OnnxRuntime(exported), attacked, ("multiplicative", 0.4), plan) == attacked.labels[:, None]
    cell, natural = record.cell("adversarial", 0.4), record.cell("natural", 0.0)
    assert cell is not None
    assert natural is not None
    assert np.array_equal(cell.outcome.counts, expected.sum(axis=1))
    assert cell.runs == tuple(expected.sum(axis=0))
    assert len(natural.outcome) == len(digits)
    assert natural.votes == 1


def test_what_is_there_is_not_asked_again(exported: Path, digits: Examples, attacked: Examples, tmp_path: Path) -> None:
    """A complete record is left as it is, and no vote is cast."""
    cast: list[int] = []
    for _ in range(2):
        ask_all([asked(exported, tmp_path / "r.json")], digits, attacked, [0.0], cast.append)
    assert cast == [2 * len(digits)]
