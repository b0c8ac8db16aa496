from pathlib import Path

import numpy as np
import pytest
import torch

from noisevote.evaluation.examples import Examples
from noisevote.evaluation.plan import Plan
from noisevote.evaluation.votes import cast_votes
from noisevote.training.data.data_set import DataSet
from noisevote.training.fit.quick_eval import one_vote_accuracy
from noisevote.training.fit.train import Training, train
from noisevote.training.measure.torch_twin import TorchTwin
from noisevote.training.runs.recipe import Recipe
from noisevote.training.runs.run_folder import RunFolder

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

CUDA = torch.device("cuda")


def test_replayed_training_learns(data: DataSet, tiny_recipe: Recipe, tmp_path: Path) -> None:
    """Training on a CUDA device, stopped once on the way, learns the 64 digits as it does on the CPU."""
    folder = RunFolder(tmp_path / "run")
    train(tiny_recipe, data, folder, stop_after=4, device=CUDA)
    train(tiny_recipe, data, folder, device=CUDA)
    assert one_vote_accuracy(folder.read_network(), tiny_recipe, data.test, tiny_recipe.sigma_train) >= 0.9


@pytest.mark.parametrize("votes", [(1, 1), (2, 4)])
def test_replayed_gradients_are_those_of_the_cpu(
    data: DataSet, tiny_recipe: Recipe, votes: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each of several steps the replayed loss and gradients are those that the CPU computes, but for rounding.

    Rounding can turn a ReLU or a maximum over, so gradients are compared as a whole.
    """
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    recipe = tiny_recipe.model_copy(update={"loss_votes": votes[0], "output_votes": votes[1], "lr": 1e-6})
    here, there = Training(recipe, data.train), Training(recipe, data.train, CUDA)
    for step in range(3):
        batches = zip(here._batches(step), there._batches(step), strict=True)
        (inputs, labels), (inputs_there, labels_there) = next(batches)
        expected = here.compute(inputs, labels, here._draws(step))
        found = there.compute(inputs_there, labels_there, there._draws(step))
        torch.testing.assert_close([answer.cpu() for answer in found], list(expected), rtol=1e-2, atol=1e-3)
        for own, other in zip(here.network.parameters(), there.network.parameters(), strict=True):
            assert own.grad is not None
            assert other.grad is not None
            assert torch.linalg.vector_norm(other.grad.cpu() - own.grad) <= 0.05 * torch.linalg.vector_norm(own.grad)


def test_device_casts_the_same_votes(trained: RunFolder, data: DataSet) -> None:
    """Of the votes of the 64 digits at sigma 0.7, at most two in a thousand differ between CPU and CUDA device."""
    plan = Plan(("multiplicative",), (0.7,), 20, seed=3)
    here = cast_votes(TorchTwin(trained, torch.device("cpu")), data.test, ("multiplicative", 0.7), plan)
    there = cast_votes(TorchTwin(trained, CUDA), data.test, ("multiplicative", 0.7), plan)
    assert np.mean(here != there) <= 0.002


def test_dense_blocks_are_those_of_the_cpu() -> None:
    """With shared norms, whose kernels are others there, gradients of DenseNet-40 agree but for rounding."""
    recipe = Recipe(network="cifar10-densenet40", batch=8, precision="float32", weight_decay=0.0)
    images = np.random.default_rng(0).integers(0, 256, (8, 3, 32, 32), dtype=np.uint8)
    examples = Examples(images, np.arange(8, dtype=np.int64))
    gradients = []
    for device in (torch.device("cpu"), CUDA):
        training = Training(recipe, examples, device)
        training.network.train().shared_norms = True
        inputs, labels = next(training._batches(0))
        training.compute(inputs, labels, training._draws(0))
        own = [
            parameter.grad.cpu().flatten() for parameter in training.network.parameters() if parameter.grad is not None
        ]
        gradients.append(torch.cat(own))
    assert torch.linalg.vector_norm(gradients[0] - gradients[1]) <= 0.05 * torch.linalg.vector_norm(gradients[0])
