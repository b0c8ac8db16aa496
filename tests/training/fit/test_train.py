import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, softmax
from tqdm import tqdm

from noisevote.evaluation.examples import Examples
from noisevote.training.data.data_set import DataSet
from noisevote.training.fit import gradients
from noisevote.training.fit.gradients import loss_of, voted
from noisevote.training.fit.quick_eval import one_vote_accuracy
from noisevote.training.fit.train import TooFewImagesError, Training, train, values
from noisevote.training.networks.layers import NoisyLayer
from noisevote.training.networks.mnist_cnn import MnistCnn
from noisevote.training.networks.network import Network
from noisevote.training.networks.registry import NETWORKS
from noisevote.training.noise.draws import presentation_draws, sigma_at
from noisevote.training.runs import checkpoint
from noisevote.training.runs.recipe import Recipe
from noisevote.training.runs.run_folder import NoRunError, RecipeChangedError, RunFolder
from tests.support.networks import NarrowCifarCnn, NarrowCnn, ShallowestDenseNet


def log_of(folder: RunFolder) -> list[dict[str, Any]]:
    """The run's log, line by line."""
    return [json.loads(line) for line in folder.log.read_text().splitlines()]


def test_noisy_training_learns(trained: RunFolder, data: DataSet, tiny_recipe: Recipe) -> None:
    """A few epochs under noise read 64 digits well, noiseless and with one vote at sigma_train."""
    network = trained.read_network()
    assert one_vote_accuracy(network, tiny_recipe, data.test, 0.0) >= 0.9
    assert one_vote_accuracy(network, tiny_recipe, data.test, tiny_recipe.sigma_train) >= 0.9


def test_log_tells_where_the_weights_come_from(trained: RunFolder, data: DataSet, tiny_recipe: Recipe) -> None:
    """The first line holds recipe, versions and data hashes, then comes one line an epoch, and the loss falls."""
    start, *epochs, finished = log_of(trained)
    assert start["event"] == "start"
    assert Recipe.model_validate(start["recipe"]) == tiny_recipe
    assert start["versions"]["torch"] == torch.__version__
    assert start["data_hashes"] == data.hashes
    assert [line["epoch"] for line in epochs] == list(range(1, tiny_recipe.epochs + 1))
    assert epochs[-1]["loss"] < epochs[0]["loss"] / 2
    assert {"train_accuracy", "glance_noiseless", "glance_one_vote", "seconds", "lr"} <= epochs[0].keys()
    assert finished["event"] == "finished"


@pytest.mark.parametrize(
    "given",
    [{"average_decay": 0.0}, {"average_decay": 0.9}, {"optimizer": "sgd", "crop_pixels": 2, "flip": True, "lr": 0.1}],
    ids=["last", "averaged", "sgd"],
)
def test_stopping_and_going_on_changes_no_bit(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any]
) -> None:
    """A run that stopped after each of two epochs and went on ends in exactly the weights of one that did not stop."""
    monkeypatch.setitem(NETWORKS, "narrow", NarrowCnn)
    recipe = Recipe(network="narrow", epochs=3, batch=16, norm_batches=2, precision="float32", **given)
    whole, parts = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "parts")
    train(recipe, data, whole)
    for epochs in (1, 2, None):
        assert not parts.weights.exists()
        train(recipe, data, parts, stop_after=epochs)
    expected, found = checkpoint.read(whole.weights).tensors, checkpoint.read(parts.weights).tensors
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert [line["epoch"] for line in log_of(parts) if line["event"] == "epoch"] == [1, 2, 3]


@pytest.mark.parametrize(
    ("network", "images", "epochs", "lr"), [(NarrowCifarCnn, 16, 25, 1e-2), (ShallowestDenseNet, 16, 40, 1e-2)]
)
def test_cifar_networks_learn(
    examples: dict[str, Examples], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    network: type[Network], images: int, epochs: int, lr: float,
) -> None:  # fmt: skip
    """Some steps of a network's own recipe teach it a few examples, noiseless and with one vote at sigma_train."""
    monkeypatch.setitem(NETWORKS, "tested", network)
    learnt = examples[network.data_set].first(images)
    few = {"network": "tested", "sigma_train": 0.3, "epochs": epochs, "batch": 16, "lr": lr, "optimizer": "adamw"}
    short = {"average_decay": 0.9, "norm_batches": 2, "precision": "float32"}
    still = dict.fromkeys(("shift_pixels", "rotate_degrees", "scale", "crop_pixels", "flip", "ramp_epochs"), 0)
    recipe = Recipe.model_validate({**network.recipe_defaults, **few, **short, **still})
    folder = RunFolder(tmp_path / "run")
    train(recipe, DataSet(network.data_set, learnt, learnt, tuple("0123456789"), {}), folder)
    assert one_vote_accuracy(folder.read_network(), recipe, learnt, 0.0) >= 0.9
    assert one_vote_accuracy(folder.read_network(), recipe, learnt, 0.3) >= 0.9


def test_stored_inputs_are_what_is_measured(examples: dict[str, Examples], strokes: Examples) -> None:
    """Training takes of stored bytes and of float32 exactly what `Examples.values` gives to an engine."""
    every_byte = Examples(np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16), np.zeros(1, np.uint8))
    for stored in (*examples.values(), strokes, every_byte):
        assert np.array_equal(values(torch.from_numpy(stored.inputs)).numpy(), stored.values(slice(None)))


def test_held_out_images_are_judged_and_not_learnt(data: DataSet) -> None:
    """The last images are kept out of training and looked at instead of the test images; `images` counts the rest."""
    assert len(data.to_train(None, 10)) == 54
    assert len(data.to_train(60, 10)) == 54
    assert np.array_equal(data.to_train(20, 10).inputs, data.train.inputs[:20])
    assert np.array_equal(data.to_judge(10).inputs, data.train.inputs[54:])
    assert data.to_judge(0) is data.test


def test_training_starts_from_another_run(trained: RunFolder, data: DataSet, tiny_recipe: Recipe) -> None:
    """With `init` the first weights are the other run's result; an unfinished run is refused."""
    recipe = tiny_recipe.model_copy(update={"init": str(trained.path), "sigma_train": 0.9})
    found = Training(recipe, data.train).network.state_dict()
    expected = checkpoint.read(trained.weights).part("model")
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    with pytest.raises(NoRunError, match="nothing"):
        Training(recipe.model_copy(update={"init": "nothing"}), data.train)


def test_vote_loss_is_of_the_mean_probability(data: DataSet) -> None:
    """With `loss_votes` the loss is the mean over images of −log of the label's probability averaged over the votes."""
    torch.manual_seed(0)
    logits, labels = torch.randn(6 * 4, 10) * 3, torch.randint(10, (6,))
    mean = softmax(logits, dim=1).reshape(6, 4, 10).mean(dim=1)
    expected = -mean[torch.arange(6), labels].log().mean()
    torch.testing.assert_close(loss_of(voted(logits, 4), labels, Recipe(loss_votes=4)), expected)


@pytest.mark.parametrize(("loss_votes", "output_votes"), [(3, 1), (1, 5), (2, 4)])
def test_loss_sees_the_votes_that_the_recipe_asks_for(
    data: DataSet, monkeypatch: pytest.MonkeyPatch, loss_votes: int, output_votes: int
) -> None:
    """Each image has `loss_votes` signals at the output, each with `output_votes` noises of its own."""
    recipe = Recipe(sigma_train=0.5, ramp_epochs=0, epochs=1, batch=16, precision="float32",
                    loss_votes=loss_votes, output_votes=output_votes)  # fmt: skip
    training = Training(recipe, data.train)
    signals: list[Tensor] = []
    logits: list[Tensor] = []
    assert isinstance(training.network, MnistCnn)
    output = training.network.layers[8]
    assert isinstance(output, NoisyLayer)
    output.product.register_forward_hook(lambda _, __, signal: signals.append(signal.detach()))

    def recorded(found: Tensor, votes: int) -> Tensor:
        logits.append(found.detach())
        return voted(found, votes)

    monkeypatch.setattr(gradients, "voted", recorded)
    with tqdm(disable=True) as bar:
        training.run_epoch(bar)
    assert {len(signal) for signal in signals} == {16 * loss_votes}
    for signal, found in zip(signals, logits, strict=True):
        assert len(np.unique(found.numpy(), axis=0)) == 16 * loss_votes * output_votes
        ratio = found / signal.repeat_interleave(output_votes, dim=0)
        assert float(ratio.std()) == pytest.approx(0.5, rel=0.2)


def test_seed_decides_the_weights(data: DataSet, tmp_path: Path) -> None:
    """Another seed gives other weights."""
    weights = []
    for seed in (1, 2):
        folder = RunFolder(tmp_path / str(seed))
        train(Recipe(epochs=1, batch=32, norm_batches=1, precision="float32", seed=seed), data, folder)
        weights.append(checkpoint.read(folder.weights).tensors["model.layers.0.product.weight"])
    assert not torch.equal(*weights)


def test_bfloat16_products_leave_float32_weights(data: DataSet, tmp_path: Path) -> None:
    """The faster precision concerns signals only: what is kept and published stays float32, and is finite."""
    folder = RunFolder(tmp_path / "run")
    train(Recipe(epochs=1, batch=32, norm_batches=1, precision="bfloat16"), data, folder)
    floats = [tensor for tensor in checkpoint.read(folder.weights).tensors.values() if tensor.is_floating_point()]
    assert {tensor.dtype for tensor in floats} == {torch.float32}
    assert all(bool(tensor.isfinite().all()) for tensor in floats)


def test_folder_keeps_to_its_recipe(trained: RunFolder, data: DataSet, tiny_recipe: Recipe) -> None:
    """Going on under another recipe is refused, and the message names what changed."""
    with pytest.raises(RecipeChangedError, match="lr, seed"):
        train(tiny_recipe.model_copy(update={"lr": 1.0, "seed": 9}), data, trained)


def test_finished_run_is_left_alone(trained: RunFolder, data: DataSet, tiny_recipe: Recipe) -> None:
    """Training a finished run again changes neither weights nor log, so that a queue can be started twice."""
    before = trained.weights.read_bytes(), trained.log.read_bytes()
    train(tiny_recipe, data, trained)
    assert (trained.weights.read_bytes(), trained.log.read_bytes()) == before


def test_folder_without_a_run_is_named(tmp_path: Path) -> None:
    """Asking a folder that holds no run for its recipe says so."""
    with pytest.raises(NoRunError, match=str(tmp_path)):
        RunFolder(tmp_path).read_recipe()


def test_batch_larger_than_the_data_is_refused(data: DataSet, tmp_path: Path) -> None:
    """A run whose epochs would hold no step is refused with both numbers."""
    with pytest.raises(TooFewImagesError, match=r"65.*64"):
        train(Recipe(batch=65), data, RunFolder(tmp_path / "run"))


def test_no_noise_is_drawn_twice() -> None:
    """Every presentation of an image has a vote number of its own, from the first step to the last."""
    recipe = Recipe(batch=7)
    votes = torch.cat([presentation_draws(recipe, step, 7, 10).vote for step in range(30)])
    assert torch.equal(votes, torch.arange(210))
    draws = [presentation_draws(recipe, step, 7, 10, votes=3) for step in range(30)]
    assert torch.equal(torch.cat([found.vote for found in draws]), torch.arange(630))
    assert draws[0].row is not None
    assert draws[0].row.tolist() == [image for image in range(7) for _ in range(3)]


def test_sigma_ramps_up_and_stays() -> None:
    """Sigma grows linearly over `ramp_epochs` and is sigma_train from then on; without a ramp it always is."""
    recipe = Recipe(sigma_train=0.8, ramp_epochs=0.5)
    sigmas = [sigma_at(recipe, step, 8) for step in range(20)]
    np.testing.assert_allclose(sigmas[:4], [0.2, 0.4, 0.6, 0.8])
    assert sigmas[4:] == [0.8] * 16
    assert sigma_at(recipe.model_copy(update={"ramp_epochs": 0.0}), 0, 8) == 0.8


def test_batch_norms_are_estimated_under_noise(data: DataSet) -> None:
    """Noise of sigma 1 adds its variance to the second layer's signal, and the final statistics contain it."""
    spreads = {}
    for sigma in (0.0, 1.0):
        training = Training(Recipe(sigma_train=sigma, batch=32, precision="float32"), data.train)
        network = training.result(2)
        assert isinstance(network, MnistCnn)
        layer = network.layers[1]
        assert isinstance(layer, NoisyLayer)
        assert isinstance(layer.norm, torch.nn.BatchNorm2d)
        assert layer.norm.running_var is not None
        spreads[sigma] = float(layer.norm.running_var.mean())
    assert spreads[1.0] > 1.2 * spreads[0.0]


@pytest.mark.parametrize("power", [0.3, 0.7, 1.0])
def test_loss_is_the_generalised_cross_entropy(power: float) -> None:
    """The loss equals the mean of (1 − p^q)/q written out with the softmax."""
    torch.manual_seed(0)
    logits, labels = torch.randn(50, 10) * 3, torch.randint(10, (50,))
    p = softmax(logits, dim=1)[torch.arange(50), labels]
    torch.testing.assert_close(loss_of(logits, labels, Recipe(loss_power=power)), ((1 - p**power) / power).mean())


def test_loss_tends_to_cross_entropy() -> None:
    """At q = 0 it is the cross entropy, and just above it nearly so."""
    torch.manual_seed(0)
    logits, labels = torch.randn(50, 10) * 3, torch.randint(10, (50,))
    expected = cross_entropy(logits, labels)
    assert torch.equal(loss_of(logits, labels, Recipe(loss_power=0.0)), expected)
    torch.testing.assert_close(loss_of(logits, labels, Recipe(loss_power=1e-4)), expected, rtol=1e-3, atol=0)
