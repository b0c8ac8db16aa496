from pathlib import Path

import numpy as np
import pytest

from noisevote.evaluation.examples import Examples
from noisevote.training.measure import outputs
from noisevote.training.measure.outputs import QUANTILES, SIGMAS, OutputsError
from noisevote.training.runs.run_folder import RunFolder
from tests.support.onnx_sessions import session as session_of

VOTES = 9


def test_quantiles_are_those_of_single_runs(measured: RunFolder, digits: Examples, tmp_path: Path) -> None:
    """Quantiles of each logit over the votes equal those of votes cast one by one, and are read back as made."""
    made = outputs.outputs([measured], digits, 5, VOTES)
    session = session_of(measured.exported, kernel=True)
    for sigma, by_class in zip(SIGMAS, made.logits["mul-0.3"], strict=True):
        single = []
        for vote in range(VOTES):
            feed = {
                "input": digits.values(slice(5, 6)),
                "sigma": np.array([[sigma, 0.0]], np.float32),
                "seed": np.array([5]),
                "vote": np.array([vote]),
                "row": np.array([0]),
            }
            single.append(session.run(None, feed)[0][0])
        expected = np.quantile(np.array(single), QUANTILES, axis=0).T
        np.testing.assert_allclose(by_class, expected, rtol=1e-3, atol=1e-3)
    assert made.label == digits.labels[5]
    outputs.write(made, tmp_path)
    assert outputs.read(tmp_path, "mnist-cnn") == made
    assert outputs.read(tmp_path, "stroke-lstm") is None


def test_damaged_outputs_are_named(tmp_path: Path) -> None:
    """A file of something else is neither drawn nor skipped."""
    (tmp_path / "mnist-cnn.json").write_text("[]")
    with pytest.raises(OutputsError, match=r"mnist-cnn\.json"):
        outputs.read(tmp_path, "mnist-cnn")
