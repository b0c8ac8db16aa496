"""A torch network of one's own, injected, exported, published and served."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from noisevote.evaluation.plan import Plan
from noisevote.model_store.manifest import InputSpec
from noisevote.model_store.store import ModelStore
from noisevote.noise_op.injection import NoisyModule, UninjectableError, inject_noise
from noisevote.noise_op.torch_twin import Draws, drawing
from noisevote.training.data.data_set import DataSet
from noisevote.training.networks.layers import Counts
from noisevote.training.publish import export
from noisevote.training.publish.injected import Description, UnfitDataError, count, publish
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


class Words(nn.Module):
    """Token ids and numbers, two inputs."""

    def __init__(self, *, alone: bool) -> None:
        super().__init__()
        self.words = nn.Embedding(20, 6)
        self.head = nn.Linear(6 if alone else 9, 3)

    def forward(self, tokens: Tensor, numbers: Tensor | None = None) -> Tensor:  # the class says it
        read = self.words(tokens).mean(1)
        return self.head(read if numbers is None else torch.cat((read, numbers), 1))  # type: ignore[no-any-return]  # untyped __call__


@pytest.mark.parametrize("alone", [True, False])
def test_token_ids_and_several_inputs_are_one_vector_of_numbers(alone: bool, tmp_path: Path) -> None:
    """The file reads float32 numbers, and gives what the module gives for the ids and numbers that they stand for."""
    module, tokens, numbers = Words(alone=alone), torch.randint(0, 20, (3, 5)), torch.rand(3, 3)
    inputs = (tokens,) if alone else (tokens, numbers)
    arguments = (export.Argument((5,), torch.int64), export.Argument((3,)))[: len(inputs)]
    injected = inject_noise(module, "multiplicative", 0.5, example=inputs)
    size = sum(argument.size for argument in arguments)
    file = tmp_path / "words.onnx"
    export.write(export.published_graph(injected.published(), (size,), {}, arguments), file)
    feeds = quiet(torch.cat([part.float() for part in inputs], 1).numpy())
    np.testing.assert_allclose(session(file, kernel=True).run(None, feeds)[0], module(*inputs).detach(), atol=1e-6)


def quiet(inputs: Any) -> dict[str, Any]:
    """What a published graph is fed for one vote of each input without noise."""
    number = np.arange(len(inputs))
    return {"input": inputs, "sigma": np.zeros((len(inputs), 2), np.float32), "seed": number, "vote": number,
            "row": number}  # fmt: skip


@pytest.mark.parametrize("last", [nn.Softmax(dim=1), nn.LogSoftmax(dim=1), nn.Sigmoid()])
def test_probabilities_at_the_end_are_cut_off(last: nn.Module, tmp_path: Path) -> None:
    """The file answers logits, so that nothing is softmaxed twice, and says what was cut; a sigmoid has two classes."""
    outputs = 1 if isinstance(last, nn.Sigmoid) else 3
    module, x = nn.Sequential(nn.Linear(4, outputs), last), torch.randn(5, 4)
    injected = inject_noise(module, "multiplicative", 0.5, example=x)
    file = tmp_path / "own.onnx"
    model = export.published_graph(injected.published(), (4,), {})
    export.write(model, file)
    (logits,) = session(file, kernel=True).run(None, quiet(x.numpy()))
    probabilities = torch.softmax(torch.from_numpy(logits), 1)
    own = module(x).detach()
    expected = {1: torch.cat((1 - own, own), 1), 3: own.exp() if isinstance(last, nn.LogSoftmax) else own}[outputs]
    torch.testing.assert_close(probabilities, expected)
    assert {entry.key: entry.value for entry in model.metadata_props}["cut"] == type(last).__name__.lower().replace(
        "logs", "log_s"
    )


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Sequential(nn.Linear(4, 3), nn.Sigmoid()), "multi-label"),
        (nn.Linear(4, 1), r"\[2, 1\]"),
        (nn.Sequential(nn.Unflatten(1, (1, 2, 2)), nn.Conv2d(1, 3, 1)), r"\[2, 3, 2, 2\]"),
    ],
    ids=["multi-label", "regression", "segmentation"],
)
def test_what_does_not_answer_one_question_is_refused(module: nn.Module, message: str) -> None:
    """Votes are for one of several classes."""
    injected = inject_noise(module, "multiplicative", 0.5, example=torch.rand(3, 4))
    with pytest.raises(UninjectableError, match=message):
        export.published_graph(injected.published(), (4,), {})


class Dropping(nn.Module):
    """A digit's network that asks for its mode in its own forward."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(784, 32)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:  # the class says it
        x = torch.relu(self.stem(x.flatten(1)))
        return self.head(torch.nn.functional.dropout(x, 0.5, training=self.training))  # type: ignore[no-any-return]  # untyped __call__


def test_injected_and_published_while_training_the_file_is_in_evaluation_mode(data: DataSet, tmp_path: Path) -> None:
    """No dropout is in it: the same feeds give the same logits, which are the module's; sites bear their names."""
    module = Dropping()
    injected = inject_noise(module.train(), "multiplicative", 0.5)
    injected(torch.from_numpy(data.test.values(slice(4))))
    store = ModelStore(tmp_path / "models")
    described = Description("own", "1", "Own", "", InputSpec(shape=(1, 28, 28)), {})
    folder = publish({"mul-0.5": injected}, described, data, store, Plan(("multiplicative",), (0.5,), 2, seed=0))
    assert injected.training
    feeds = quiet(data.test.values(slice(4)))
    running = session(folder / "mul-0.5.onnx", kernel=True)
    first, second = (running.run(None, feeds)[0] for _ in range(2))
    assert np.array_equal(first, second)
    expected = module.eval()(torch.from_numpy(feeds["input"])).detach()
    np.testing.assert_allclose(first, expected, rtol=1e-4, atol=1e-5)
    (variant,) = store.publication("own", "1").manifest.variants
    assert [(site.site, site.layer, site.sigma_scale) for site in variant.sites] == [(0, "stem", 1.0), (1, "head", 1.0)]
    nodes = [node.name for node in onnx.load(folder / "mul-0.5.onnx").graph.node if node.op_type == "GaussianNoise"]
    assert nodes == ["stem", "head"]


@pytest.mark.parametrize(
    ("spec", "outputs", "message"),
    [(InputSpec(shape=(1, 28, 28), value_range=(0.2, 1.0)), 10, "value_range"),
     (InputSpec(shape=(1, 28, 28)), 12, "12 logits")],
)  # fmt: skip
def test_data_that_do_not_fit_are_refused(
    spec: InputSpec, outputs: int, message: str, data: DataSet, tmp_path: Path
) -> None:
    """Values that the service would refuse, and outputs that are not the classes: nothing is published."""
    injected = noisy(nn.Sequential(nn.Flatten(), nn.Linear(784, outputs)))
    described = Description("own", "1", "Own", "", spec, {})
    store = ModelStore(tmp_path / "models")
    with pytest.raises(UnfitDataError, match=message):
        publish({"mul-0.5": injected}, described, data, store, Plan(("multiplicative",), (0.5,), 2, seed=0))
    assert not store.names()
