from pathlib import Path

import numpy as np
import pytest
import torch

from noisevote.evaluation.examples import Examples
from noisevote.noise_op.torch_twin import drawing
from noisevote.training.data.data_set import DataSet
from noisevote.training.fit.train import Training, train
from noisevote.training.fit.warm_start import WarmStartError, start_from
from noisevote.training.networks.cifar_cnn import CifarCnn
from noisevote.training.networks.layers import fold
from noisevote.training.networks.mnist_cnn import MnistCnn
from noisevote.training.networks.network import Network
from noisevote.training.networks.registry import build
from noisevote.training.networks.stroke_lstm import StrokeLstm
from noisevote.training.noise.draws import constant_draws
from noisevote.training.publish import export
from noisevote.training.runs.recipe import Recipe
from noisevote.training.runs.run_folder import RunFolder
from tests.support.networks import ShallowestDenseNet


def noiseless(network: Network, inputs: torch.Tensor) -> torch.Tensor:
    """The logits without noise, in evaluation mode."""
    with torch.no_grad(), drawing(constant_draws("multiplicative", 0.0, 0, len(inputs), 0)):
        found: torch.Tensor = network.eval()(inputs)
    return found


def disturbed(kind: type[Network]) -> Network:
    """A network whose batch norms are like those of a trained one."""
    torch.manual_seed(3)
    network = kind(free_scale=True)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2.0)
            if module.affine:
                torch.nn.init.uniform_(module.weight, 0.5, 2.0)
                torch.nn.init.uniform_(module.bias, -0.5, 0.5)
    return network.eval()


@pytest.mark.parametrize("kind", [MnistCnn, CifarCnn, StrokeLstm, ShallowestDenseNet])
def test_network_computes_what_the_published_file_does(kind: type[Network], tmp_path: Path) -> None:
    """Weights read back from an exported file give its logits, for inputs that the batch norms were not set with."""
    network = disturbed(kind)
    file = tmp_path / "variant.onnx"
    export.write(export.export(network, Recipe()), file)
    torch.manual_seed(4)
    low, high = network.value_range
    inputs = low + torch.rand(24, *network.input_shape) * (high - low)
    started = kind(free_scale=True)
    start_from(started, file, inputs[:16])
    torch.testing.assert_close(noiseless(started, inputs), noiseless(fold(network), inputs), rtol=1e-3, atol=1e-3)


def test_run_goes_on_from_its_published_file(trained: RunFolder, exported: Path, data: DataSet, tmp_path: Path) -> None:
    """A trained run's file is a start as good as its folder: the digits are read well before the first step."""
    recipe = trained.read_recipe().model_copy(update={"init": str(exported), "epochs": 1})
    labels = torch.from_numpy(data.train.labels).long()
    logits = noiseless(Training(recipe, data.train).network, torch.from_numpy(data.train.values(slice(None))))
    assert (logits.argmax(1) == labels).float().mean() >= 0.9
    train(recipe, data, RunFolder(tmp_path / "on"))


def test_norms_without_scale_keep_the_weights_own(digits: Examples, data: DataSet, tmp_path: Path) -> None:
    """With fixed norms, as additive noise needs them, decisions are those of the file on nearly all digits."""
    folder = RunFolder(tmp_path / "run")
    train(
        Recipe(noise="additive", sigma_train=0.3, epochs=6, batch=16, lr=2e-3, norm_batches=4, precision="float32"),
        data, folder,
    )  # fmt: skip  # recipe, data, place
    file = tmp_path / "add-0.3.onnx"
    export.write(export.export(folder.read_network(), folder.read_recipe()), file)
    inputs = torch.from_numpy(digits.values(slice(None)))
    started = build("mnist-cnn", "additive")
    start_from(started, file, inputs)
    same = noiseless(started, inputs).argmax(1) == noiseless(folder.read_network(), inputs).argmax(1)
    assert np.mean(same.numpy()) >= 0.9


@pytest.mark.parametrize(("other", "why"), [("stroke-lstm", "is of another network"), (None, "init ")])
def test_weights_that_do_not_fit_are_refused(exported: Path, tmp_path: Path, other: str | None, why: str) -> None:
    """A file of another network, or one that is no ONNX file, is named with what is wrong."""
    file = exported
    if other is None:
        file = tmp_path / "variant.onnx"
        file.write_bytes(b"no graph at all")
    with pytest.raises(WarmStartError, match=why):
        start_from(build("stroke-lstm", "multiplicative"), file, torch.zeros(2, 56, 2))
