"""A torch network of one's own, injected, exported, published and served."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from noisevote.evaluation.plan import Plan
from noisevote.model_store.manifest import InputSpec
from noisevote.model_store.store import ModelStore
from noisevote.noise_op.injection import NoisyModule, inject_noise
from noisevote.noise_op.torch_twin import Draws, drawing
from noisevote.training.data.data_set import DataSet
from noisevote.training.networks.layers import Counts
from noisevote.training.publish import export
from noisevote.training.publish.injected import Description, count, publish
from tests.support.onnx_sessions import session


class Residual(nn.Module):
    """28×28 digits; a product beside a residual connection."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, stride=2, padding=1)
        self.inner = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4 * 14 * 14, 10)

    def forward(self, x: Tensor) -> Tensor:  # the class says it
        x = torch.relu(self.stem(x))
        return self.head((x + self.norm(self.inner(x))).flatten(1))  # type: ignore[no-any-return]  # untyped __call__


class Reader(nn.Module):
    """Rows of a digit as a sequence."""

    def __init__(self, kind: type[nn.LSTM | nn.GRU]) -> None:
        super().__init__()
        self.read = kind(28, 6, bidirectional=True, batch_first=True)
        self.head = nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:  # the class says it
        out, _ = self.read(x[:, 0])
        return self.head(out.mean(1))  # type: ignore[no-any-return]  # untyped __call__


def noisy(module: nn.Module, sigma: float = 0.5) -> NoisyModule:
    """With noise, in evaluation mode."""
    return inject_noise(module.eval(), "multiplicative", sigma)


@pytest.mark.parametrize(
    "make", [Residual, lambda: Reader(nn.LSTM), lambda: Reader(nn.GRU)], ids=["cnn", "lstm", "gru"]
)
def test_the_exported_file_decides_as_the_module(make: type[nn.Module], data: DataSet, tmp_path: Path) -> None:
    """Seven votes over three inputs: logits of the file, votes fanned out, are those of torch with the same draws."""
    torch.manual_seed(2)
    module = make()
    with torch.no_grad():
        module.train()(torch.rand(32, 1, 28, 28))
    injected = noisy(module)
    file = tmp_path / "own.onnx"
    export.write(export.published_graph(injected.folded(), (1, 28, 28), {"network": "own"}), file)
    row = np.array([0, 1, 2, 2, 1, 0, 2])
    feeds = {
        "sigma": np.full((7, 2), (0.5, 0.0), np.float32),
        "seed": np.full(7, 3),
        "vote": np.arange(7),
        "row": row,
    }
    inputs = data.test.values(slice(3))
    found = session(file, kernel=True).run(None, {"input": inputs, **feeds})[0]
    sigma, seed, vote, rows = (torch.from_numpy(feeds[name]) for name in ("sigma", "seed", "vote", "row"))
    with torch.no_grad(), drawing(Draws(sigma, seed, vote, rows)):
        expected = injected(torch.from_numpy(inputs))
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)
    assert len(np.unique(found, axis=0)) == 7


def test_costs_are_those_worked_out_by_hand() -> None:
    """Weights and biases of the folded products, multiply-accumulates, samples, and noisy products of one vote."""
    stem, inner, head = (4 * 14 * 14) * 9, (4 * 14 * 14) * 36, 784 * 10
    parameters = (4 * 9 + 4) + (4 * 36 + 4) + (784 * 10 + 10)
    assert count(noisy(Residual()), (1, 28, 28)) == Counts(parameters, stem + inner + head, 784 + 784 + 10, 3)
    gates, steps = 2 * 4 * 6, 28
    parameters = 2 * (24 * (28 + 6) + 2 * 24) + 12 * 10 + 10
    lstm = Counts(parameters, steps * gates * (28 + 6) + 120, steps * gates + 10, 2 * steps + 1)
    assert count(noisy(Reader(nn.LSTM)), (1, 28, 28)) == lstm


def test_a_module_is_published_with_what_was_measured(data: DataSet, tmp_path: Path) -> None:
    """Two variants with their noise, costs and tables; the store reads them back and refuses none."""
    described = Description("own", "1", "Own", "A network of one's own.", InputSpec(shape=(1, 28, 28)), {"epochs": 3})
    plan = Plan(("multiplicative",), (0.0, 0.5), votes=5, seed=0)
    store = ModelStore(tmp_path / "models")
    publish({"mul-0.0": noisy(Residual(), 0.0), "mul-0.5": noisy(Residual())}, described, data, store, plan)
    publication = store.publication("own", "1")
    assert not publication.refusals
    first, second = publication.manifest.variants
    assert (first.name, first.sigma_train, second.name, second.sigma_train) == ("mul-0.0", 0.0, "mul-0.5", 0.5)
    assert second.layers == 3
    assert second.recipe == {"epochs": 3}
    assert second.provenance is not None
    assert second.provenance.files == data.hashes
    assert {(point.sigma, point.votes) for point in second.accuracy} == {
        (s, v) for s in (0.0, 0.5) for v in (1, 2, 3, 5)
    }
    assert all(point.images == len(data.test) for point in second.accuracy)
