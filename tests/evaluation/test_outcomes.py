"""What is kept of each example, and how two files are compared by it."""

from pathlib import Path

import numpy as np
import pytest

from noisevote.evaluation.accuracy import evaluate
from noisevote.evaluation.cell_arrays import CellArrays
from noisevote.evaluation.examples import Examples
from noisevote.evaluation.onnx_runtime import OnnxRuntime
from noisevote.evaluation.outcomes import Outcomes, paired_error
from noisevote.evaluation.plan import Noise, Plan
from noisevote.evaluation.results import sha256_of
from tests.support.graphs import CLASSES, SHAPE, tiny_network

PLAN = Plan(("multiplicative",), (0.0, 0.5), votes=5, seed=0)
NOISY: Noise = ("multiplicative", 0.5)


def examples() -> Examples:
    """Random inputs with random labels."""
    rng = np.random.default_rng(3)
    return Examples(rng.integers(0, 256, (50, *SHAPE), np.uint8), rng.integers(0, CLASSES, 50))


def test_outcomes_of_examples_make_the_accuracy(tmp_path: Path) -> None:
    """At every number of votes the mean over examples is the accuracy; without noise one vote stands for all.

    What is read again, after the evaluation, is the same.
    """
    (tmp_path / "tiny.onnx").write_bytes(tiny_network())
    engine, data = OnnxRuntime(tmp_path / "tiny.onnx"), examples()
    sha256, file = sha256_of(engine.file), tmp_path / "tiny.npz"
    watching = Outcomes.beside(file, data.labels, sha256)
    found = evaluate(engine, tmp_path / "tiny.json", data, PLAN, watching)
    read = Outcomes.beside(file, data.labels, sha256)
    for outcomes in (watching, read):
        for cell in found.cells:
            for measured in cell.measured:
                shares = outcomes.shares((cell.noise, cell.sigma), measured.votes)
                assert shares is not None
                assert shares.mean() == pytest.approx(measured.accuracy, abs=1e-12)
        quiet = outcomes.shares(("multiplicative", 0.0), 5)
        assert quiet is not None
        assert quiet.mean() == found.cells[0].measured[0].accuracy
    assert read.shares(NOISY, 20) is None
    assert Outcomes.beside(file, data.labels, "of another file").shares(NOISY, 5) is None


def test_the_paired_error_is_the_spread_of_repeated_comparisons(tmp_path: Path) -> None:
    """Of simulated pairs that agree on nearly all images, it is what the difference of their accuracies varies by.

    That is a fraction of what two unpaired accuracies would.
    """
    rng, errors, gains = np.random.default_rng(8), [], []
    for _ in range(300):
        likely = rng.beta(6, 1, 400)
        right = rng.random((20, 400)) < likely
        other = np.where(rng.random((20, 400)) < 0.02, ~right, right)  # 2 % of the votes tip
        pair = [Outcomes(CellArrays(tmp_path / "none", 400, ""), np.zeros(400, int)) for _ in range(2)]
        for outcomes, each in zip(pair, (right, other), strict=True):
            outcomes.kept.cells["multiplicative", 0.5, 1] = {"1": each.T}
        error = paired_error(pair[0], pair[1], NOISY, 1)
        assert error is not None
        errors.append(error)
        gains.append(other.mean() - right.mean())
    assert np.mean(errors) == pytest.approx(np.std(gains), rel=0.15)
    assert np.mean(errors) < 0.2 * np.sqrt(2 * 0.86 * 0.14 / 400)
    assert paired_error(pair[0], pair[1], NOISY, 20) is None
