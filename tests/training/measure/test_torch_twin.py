"""What the torch twin casts, beside ONNX Runtime."""

from pathlib import Path

import numpy as np
import pytest
import torch

from noisevote.evaluation import results
from noisevote.evaluation.accuracy import evaluate
from noisevote.evaluation.examples import Examples
from noisevote.evaluation.onnx_runtime import OnnxRuntime
from noisevote.evaluation.plan import Plan
from noisevote.evaluation.votes import cast_logits
from noisevote.noise_op.contract import NoiseKind
from noisevote.training.fit.quick_eval import one_vote_accuracy
from noisevote.training.measure.torch_twin import TorchTwin
from noisevote.training.runs.run_folder import RunFolder
from noisevote.voting.tally import softmax

CPU = torch.device("cpu")


def test_noiseless_accuracy_is_that_of_the_network(
    exported: Path, trained: RunFolder, digits: Examples, tmp_path: Path
) -> None:
    """At sigma 0 the file scores exactly what the torch network scores, from one vote an image."""
    plan = Plan(("multiplicative", "additive"), (0.0, 0.7), votes=4, seed=11)
    evaluation = evaluate(OnnxRuntime(exported), tmp_path / "results.json", digits, plan)
    cell = evaluation.cell("multiplicative", 0.0)
    assert cell is not None
    assert cell.passes == 1
    expected = one_vote_accuracy(trained.read_network(), trained.read_recipe(), digits, 0.0)
    assert cell.measured[0].accuracy == expected
    assert evaluation.cell("additive", 0.0) is None  # the same thing, measured once


@pytest.mark.parametrize("noise", ["multiplicative", "additive"])
def test_both_engines_cast_the_same_votes(
    exported: Path, trained: RunFolder, digits: Examples, noise: NoiseKind
) -> None:
    """The torch twin and ONNX Runtime cast the same 20 votes for each of 64 digits, and are as sure of them."""
    plan = Plan((noise,), (0.7,), 20, seed=5)
    logits = cast_logits(OnnxRuntime(exported), digits, (noise, 0.7), plan)
    logits_of_twin = cast_logits(TorchTwin(trained, CPU), digits, (noise, 0.7), plan)
    np.testing.assert_array_equal(logits.argmax(axis=2), logits_of_twin.argmax(axis=2))
    np.testing.assert_allclose(softmax(logits), softmax(logits_of_twin), atol=1e-4)


def test_measurements_of_another_engine_are_not_mixed(
    exported: Path, trained: RunFolder, digits: Examples, tmp_path: Path
) -> None:
    """What ONNX Runtime measured of the exported file is dropped when the twin measures the weights."""
    kept, plan = tmp_path / "results.json", Plan(("multiplicative",), (0.7,), 2, 11)
    first = evaluate(OnnxRuntime(exported), kept, digits, plan)
    second = evaluate(TorchTwin(trained, CPU), kept, digits, Plan(("multiplicative",), (0.3,), 2, 11))
    assert (first.engine, first.sha256) == ("onnxruntime", results.sha256_of(exported))
    assert (second.engine, second.sha256) == ("torch", results.sha256_of(trained.weights))
    assert [cell.sigma for cell in second.cells] == [0.3]
