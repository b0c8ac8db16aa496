import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from noisevote.evaluation.examples import Examples
from noisevote.noise_op.contract import DOMAIN, OP_TYPE, NoiseKind, snr_db
from noisevote.noise_op.torch_twin import Draws, GaussianNoise, drawing
from noisevote.training.data.data_set import DataSet
from noisevote.training.fit.quick_eval import one_vote_accuracy
from noisevote.training.fit.train import train
from noisevote.training.networks.layers import Counts, count
from noisevote.training.networks.stroke_lstm import StrokeLstm
from noisevote.training.noise.draws import constant_draws
from noisevote.training.publish import export
from noisevote.training.runs import checkpoint
from noisevote.training.runs.recipe import Recipe
from noisevote.training.runs.run_folder import RunFolder
from tests.support.onnx_sessions import session


class Tiny(StrokeLstm):
    """A network small enough for the function body."""

    input_shape = (7, 2)
    hidden = 8


RECIPE = Recipe.model_validate(
    {**StrokeLstm.recipe_defaults, "network": "stroke-lstm", "sigma_train": 0.3, "epochs": 50, "batch": 16, "lr": 1e-2,
     "average_decay": 0.9, "precision": "float32", "shift_pixels": 0, "rotate_degrees": 0, "scale": 0}
)  # fmt: skip


@pytest.fixture(scope="module")
def data(strokes: Examples) -> DataSet:
    """The same 64 sequences for training and test, every fourth point of them: the network takes any length."""
    few = Examples(strokes.inputs[:, ::4], strokes.labels)
    return DataSet("mnist-strokes", few, few, tuple("0123456789"), {})


def tiny() -> Tiny:
    """A tiny network with weights of a size that saturates no gate."""
    torch.manual_seed(0)
    return Tiny(free_scale=True).eval()


def mixed_rows(strokes: Examples, inputs: int, rows: int, length: int) -> dict[str, NDArray[np.generic]]:
    """Rows that differ in input, sigma, kind of noise, 64-bit seed and vote."""
    generator = np.random.default_rng(0)
    return {
        "input": strokes.values(slice(inputs))[:, :length],
        "sigma": generator.uniform(0, (0.6, 0.2), (rows, 2)).astype(np.float32),
        "seed": generator.integers(-(2**63), 2**63, rows, np.int64),
        "vote": generator.integers(0, 2**32, rows, np.int64),
        "row": generator.integers(0, inputs, rows, np.int64),
    }


def torch_logits(network: StrokeLstm, feed: Mapping[str, NDArray[np.generic]]) -> NDArray[np.float32]:
    """The torch network's logits with the draws of the feed."""
    points, sigma, seed, vote, row = (torch.from_numpy(feed[name]) for name in export.INPUT_NAMES)
    with torch.no_grad(), drawing(Draws(sigma, seed, vote, row)):
        logits: NDArray[np.float32] = network(points).numpy()
    return logits


def plain_lstm(network: StrokeLstm, points: Tensor) -> Tensor:
    """Noiseless logits by torch's own LSTM, given the cell's weights."""
    lstm = nn.LSTM(4, network.hidden, batch_first=True)
    weight, bias = network.cell.product.weight, network.cell.product.bias
    no_bias = torch.zeros(4 * network.hidden)  # torch's LSTM has two biases, which it adds
    values = (weight[:, :4], weight[:, 4:], bias, no_bias)
    lstm.load_state_dict(dict(zip(lstm.state_dict(), values, strict=True)))
    hidden: Tensor = lstm(network.features(points))[0]
    logits: Tensor = network.output.product(hidden.mean(dim=1))
    return logits


def test_without_noise_it_is_an_lstm(strokes: Examples) -> None:
    """At sigma 0 the logits are those of torch's LSTM followed by a mean over time and a linear layer."""
    network = tiny()
    points = torch.from_numpy(strokes.inputs)
    with torch.no_grad(), drawing(constant_draws("multiplicative", 0.0, 1, len(points), 0)):
        torch.testing.assert_close(network(points), plain_lstm(network, points))


def test_features_are_position_and_displacement() -> None:
    """In pixels from the middle divided by 10, and since the point before; the first point did not move."""
    features = tiny().features(torch.tensor([[[13.5, 3.5], [14.5, 3.5], [14.5, 13.5]]]))
    assert features.tolist() == [[[0, -1, 0, 0], pytest.approx([0.1, -1, 1, 0]), pytest.approx([0.1, 0, 0, 10])]]


def test_counts_are_those_worked_out_by_hand() -> None:
    """A vote is 56 products of [4 + 128] by 512 one after another and one of 128 by 10, with noise after each."""
    products = 56 * [(4 + 128, 512)] + [(128, 10)]
    expected = Counts(
        parameters=(4 + 128) * 512 + 512 + 128 * 10 + 10,
        macs=sum(inputs * outputs for inputs, outputs in products),
        samples=sum(outputs for _, outputs in products),
        noisy_layers=57,
    )
    assert count(StrokeLstm(free_scale=True)) == expected


def added_noise(kind: NoiseKind, sigma: float, strokes: Examples) -> list[tuple[Tensor, Tensor]]:
    """Signal and what was added to it at each step of the cell's site and then at the output's, over 512 rows."""
    torch.manual_seed(1)
    network = StrokeLstm(free_scale=True).eval()
    found: list[tuple[Tensor, Tensor]] = []

    def record(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        found.append((inputs[0].double(), (output - inputs[0]).double()))

    for site in network.modules():
        if isinstance(site, GaussianNoise):
            site.register_forward_hook(record)
    draws = constant_draws(kind, sigma, 5, 512, 0)
    row = torch.arange(64).repeat_interleave(8)
    with torch.no_grad(), drawing(Draws(draws.sigma, draws.seed, draws.vote, row)):
        network(torch.from_numpy(strokes.inputs))
    return found


@pytest.mark.parametrize("sigma", [0.3, 1.0])
def test_multiplicative_noise_has_the_stated_ratio_at_every_step(sigma: float, strokes: Examples) -> None:
    """Power of the signal over power of the noise is −20·log10(sigma) dB at each of the 57 products, within 0.4 dB."""
    found = added_noise("multiplicative", sigma, strokes)
    assert [tuple(signal.shape) for signal, _ in found] == 56 * [(512, 512)] + [(512, 10)]
    for signal, noise in found:
        ratio = float(signal.square().mean() / noise.square().mean())
        assert 10 * math.log10(ratio) == pytest.approx(snr_db(sigma), abs=0.4)


def test_additive_noise_has_the_stated_deviation_at_every_step(strokes: Examples) -> None:
    """The added noise has mean 0 and standard deviation sigma at each of the 57 products."""
    found = added_noise("additive", 0.6, strokes)
    assert len(found) == 57
    for _, noise in found:
        assert float(noise.square().mean().sqrt()) == pytest.approx(0.6, rel=0.05)
        assert float(noise.mean()) == pytest.approx(0.0, abs=0.03)


def test_steps_draw_independent_noise(strokes: Examples) -> None:
    """Correlations between the noises of any two steps stay within 5 standard errors of 0."""
    found = added_noise("additive", 1.0, strokes)[:-1]
    noises = torch.stack([noise.flatten() for _, noise in found])  # [steps, rows * outputs]
    correlations = torch.corrcoef(noises) - torch.eye(len(noises))
    assert float(correlations.abs().max()) < 5 / math.sqrt(noises.shape[1])


def test_fanned_out_votes_are_those_of_repeated_inputs(strokes: Examples) -> None:
    """Rows over 3 inputs get the logits that they get when each row's input is given by itself."""
    network, feed = tiny(), mixed_rows(strokes, 3, 20, 7)
    alone = feed | {"input": feed["input"][feed["row"].astype(np.int64)], "row": np.arange(20)}
    np.testing.assert_array_equal(torch_logits(network, feed), torch_logits(network, alone))


@pytest.mark.parametrize(("inputs", "rows"), [(1, 1), (3, 40), (40, 3)])
@pytest.mark.parametrize("kernel", [True, False], ids=["kernel", "function-body"])
def test_file_and_network_decide_alike(
    strokes: Examples, tiny_file: Path, kernel: bool, inputs: int, rows: int
) -> None:
    """Any rows over any inputs get the torch network's logits, on the kernel and in ONNX Runtime as it comes."""
    feed = mixed_rows(strokes, inputs, rows, 7)
    expected = torch_logits(tiny(), feed)
    (found,) = session(tiny_file, kernel=kernel).run(None, feed)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert np.array_equal(found.argmax(axis=1), expected.argmax(axis=1))


@pytest.fixture(scope="module")
def tiny_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny network's ONNX file."""
    path = tmp_path_factory.mktemp("exported") / "tiny.onnx"
    export.write(export.export(tiny(), RECIPE), path)
    return path


def test_recurrence_is_one_scan_with_the_noise_inside(tiny_file: Path) -> None:
    """The file holds one Scan over points and step numbers; its body calls the operator once, with that step."""
    content = tiny_file.read_bytes()
    graph = onnx.load_from_string(content).graph
    (scan,) = [node for node in graph.node if node.op_type == "Scan"]
    (body,) = [attribute.g for attribute in scan.attribute if attribute.name == "body"]
    (inside,) = [node for node in body.node if (node.domain, node.op_type) == (DOMAIN, OP_TYPE)]
    assert inside.input[5] == body.input[-1].name
    assert not any(node.op_type == "Range" for node in body.node), "the identity that the site is given is made once"
    steps = next(onnx.numpy_helper.to_array(value) for value in graph.initializer if value.name == scan.input[-1])
    assert steps.tolist() == list(range(7))
    assert sum(node.op_type == OP_TYPE for node in graph.node) == 1
    assert b"stack_trace" not in content
    assert str(Path(export.__file__).parent.parent).encode() not in content


@pytest.fixture(scope="module")
def trained(data: DataSet, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run."""
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "trained")
    train(RECIPE, data, folder)
    return folder


def test_noisy_training_learns(trained: RunFolder, data: DataSet) -> None:
    """A few epochs under noise read 64 digits well, noiseless and with one vote at sigma_train."""
    network = trained.read_network()
    assert one_vote_accuracy(network, RECIPE, data.test, 0.0) >= 0.9
    assert one_vote_accuracy(network, RECIPE, data.test, RECIPE.sigma_train) >= 0.9


def test_stopping_and_going_on_changes_no_bit(data: DataSet, tmp_path: Path) -> None:
    """A run that stopped after its first epoch and went on ends in exactly the weights of one that did not stop."""
    recipe = RECIPE.model_copy(update={"epochs": 2, "batch": 16, "images": 32, "precision": "bfloat16"})
    whole, parts = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "parts")
    train(recipe, data, whole)
    for epochs in (1, None):
        train(recipe, data, parts, stop_after=epochs)
    expected, found = checkpoint.read(whole.weights).tensors, checkpoint.read(parts.weights).tensors
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_gradients_are_clipped(data: DataSet, tmp_path: Path) -> None:
    """A bound on the gradient's norm that no step reaches changes nothing; a small one changes the weights."""
    weights = {}
    for bound in (0.0, 1e9, 1e-3):
        folder = RunFolder(tmp_path / str(bound))
        train(RECIPE.model_copy(update={"epochs": 1, "batch": 32, "clip_norm": bound}), data, folder)
        weights[bound] = checkpoint.read(folder.weights).tensors["model.cell.product.weight"]
    assert torch.equal(weights[0.0], weights[1e9])
    assert not torch.equal(weights[0.0], weights[1e-3])
