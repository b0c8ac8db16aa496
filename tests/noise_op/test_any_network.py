"""Networks of others as people bring them: modes, norms, states and examples are theirs, or are refused by name."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from noisevote.noise_op.injection import FIRST, LAST, Layers, UninjectableError, inject_noise
from noisevote.noise_op.torch_twin import Draws, drawing
from tests.support.injected import ROWS, SEQUENCES, names, noiseless, noisy_layers

pytestmark = pytest.mark.slow


class Dropping(nn.Module):
    """Asks for its mode in its own forward."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(4, 64)
        self.norm_mean = nn.Buffer(torch.zeros(64))
        self.norm_variance = nn.Buffer(torch.ones(64))
        self.head = nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Any:  # the class says it
        x = functional.batch_norm(self.hidden(x), self.norm_mean, self.norm_variance, training=self.training)
        if self.training:
            x = x * x.new_empty(x.shape[0], 1).bernoulli_(0.5)
        return self.head(functional.dropout(torch.relu(x), 0.5, training=self.training))


@pytest.mark.parametrize("training", [False, True])
def test_the_mode_is_the_present_one_not_that_of_the_injection(training: bool) -> None:
    """Dropout and statistics of the batch in training mode alone, injected in whichever mode."""
    module = Dropping().train(training)
    noisy = inject_noise(module, "multiplicative", 0.0)
    noisy.eval()
    torch.testing.assert_close(noisy(ROWS), module.eval()(ROWS))
    assert torch.equal(noisy(ROWS), noisy(ROWS))
    before = noisy.own_state()["norm_mean"].clone()
    noisy.train()
    assert not torch.equal(noisy(ROWS), noisy(ROWS))
    assert not torch.equal(noisy.own_state()["norm_mean"], before)
    assert torch.equal(module.norm_mean, torch.zeros(64))


class OwnNorm(nn.BatchNorm2d):
    """A norm as timm has it: checks the shape, normalises by function, activates."""

    def forward(self, x: Tensor) -> Tensor:  # the class says it
        torch._assert(x.ndim == 4, "four dimensions")  # type: ignore[no-untyped-call]  # untyped in torch
        return torch.relu(functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, 0.1, self.eps
        ))  # fmt: skip


def test_norms_of_others_come_before_the_noise_and_are_folded() -> None:
    """The site stands behind the norm and takes its ReLU, and the folded module has neither norm nor ReLU."""
    torch.manual_seed(0)
    norm = OwnNorm(5)
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    module = nn.Sequential(nn.Conv2d(2, 5, 3, bias=False), norm, nn.Flatten(), nn.Linear(20, 3))
    x = torch.randn(6, 2, 4, 4)
    module.train()(x)
    noisy = inject_noise(module, "multiplicative", 0.5).eval()
    noisy.look(x)
    folded = noisy.folded()
    operations = [str(node.target) for node in folded.graph.graph.nodes]
    assert not any("batch_norm" in operation or operation == "relu" for operation in operations)
    assert [site.activation for site in folded.sites()] == ["relu", "none"]
    vote = torch.arange(6)
    with torch.no_grad(), drawing(Draws(torch.tensor([[0.5, 0.0]]).repeat(6, 1), vote, vote)):
        torch.testing.assert_close(folded(x), noisy(x), rtol=1e-4, atol=1e-5)


def test_norms_of_the_batch_alone_are_refused() -> None:
    """track_running_stats=False, by name."""
    module = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 3))
    with pytest.raises(UninjectableError, match=r"^1, .*track_running_stats"):
        inject_noise(module, "multiplicative", 0.3, example=ROWS)


class Overwriting(nn.Module):
    """Activations that overwrite their signal, of every form."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3)
        self.relu6 = nn.ReLU6(inplace=True)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.silu = nn.SiLU(inplace=True)
        self.third = nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Any:  # the class says it
        first = self.relu6(self.first(x))
        second = self.second(first)
        second += first
        second = functional.leaky_relu(self.silu(second), 0.1, inplace=True)
        third = self.third(second)
        third.add_(1.0)
        functional.hardswish(third, inplace=True)  # read below by its former name
        return self.head(third.mean((2, 3)))


def test_activations_that_overwrite_can_be_trained() -> None:
    """The same answer and gradients as the module's at sigma 0, and gradients under noise."""
    module, x = Overwriting(), torch.randn(5, 2, 6, 6)
    noisy = inject_noise(module, "multiplicative", 0.0, example=x)
    ours, theirs = (torch.autograd.grad(network(x).square().sum(), list(network.parameters()))
                    for network in (noisy, module))  # fmt: skip
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    noisy.sigma = 0.3
    noisy(x).square().sum().backward()


def test_layers_are_digital_scaled_or_of_their_own_kind_by_name() -> None:
    """First and last digital, one at half the sigma, one additive whatever is asked for."""
    layers = [nn.Linear(4, 4) for _ in range(4)]
    chosen = Layers(digital=(FIRST, LAST), scale={"1": 0.5}, kind={"2": "additive"})
    noisy = inject_noise(nn.Sequential(*layers), "multiplicative", 0.4, layers=chosen)
    assert names(noisy) == ["1", "2"]
    assert noisy.digital == ("0", "3")
    first, second = noisy_layers(noisy)
    x, vote = torch.ones(4000, 4), torch.arange(4000)
    with drawing(Draws(torch.tensor([[0.4, 0.0]]).repeat(4000, 1), vote, vote)):
        assert float((first(x) - x).std()) == pytest.approx(0.2, rel=0.05)
        assert float((second(0 * x)).std()) == pytest.approx(0.4, rel=0.05)
    with pytest.raises(UninjectableError, match=r"'fc\*' matches no product; there are 0, 1, 2, 3"):
        inject_noise(nn.Sequential(*layers), "multiplicative", 0.4, layers=Layers(digital=("fc*",)))


def test_states_are_exchanged_with_the_module_both_ways() -> None:
    """Recurrences, norms and weights that no forward reads included; its own checkpoints keep working."""

    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.read = nn.GRU(8, 6, batch_first=True)
            self.norm = nn.BatchNorm1d(6)
            self.head = nn.Linear(6, 3)
            self.unused = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Any:
            return self.head(self.norm(self.read(x)[0][:, -1]))

    first, second = Mixed().eval(), Mixed().eval()
    noisy = inject_noise(first, "multiplicative", 0.3)
    noisy.load_state_dict(second.state_dict())
    torch.testing.assert_close(noiseless(noisy, SEQUENCES), second(SEQUENCES))
    first.load_state_dict(noisy.own_state())
    torch.testing.assert_close(first(SEQUENCES), second(SEQUENCES))
    with pytest.raises(RuntimeError, match=r"head\.bias"):
        noisy.load_state_dict({name: value for name, value in second.state_dict().items() if name != "head.bias"})


def test_a_layer_that_asks_for_its_version_loads_its_own_state() -> None:
    """As torchvision's MNASNet does: torch keeps versions of layers beside the values of a state."""

    class Versioned(nn.Linear):
        _version = 2

        def _load_from_state_dict(self, state: Any, prefix: str, metadata: Any, *others: Any) -> None:
            if metadata.get("version") != 2:
                raise ValueError("version should be set")
            super()._load_from_state_dict(state, prefix, metadata, *others)

    module = nn.Sequential(Versioned(4, 4), nn.ReLU(), Versioned(4, 3)).eval()
    noisy = inject_noise(module, "multiplicative", 0.0, example=ROWS)
    module.load_state_dict(noisy.own_state())
    torch.testing.assert_close(noisy(ROWS), module(ROWS))


class Options(nn.Module):
    """Two inputs, one of them by keyword, and a default."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(10, 4)
        self.mix = nn.Linear(4, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, tokens: Tensor, extra: Tensor | None = None, scale: float = 2.0) -> Any:  # the class says it
        x = self.mix(self.words(tokens).mean(1)) * scale
        return self.head(x if extra is None else x + extra)


def test_token_ids_several_inputs_and_keywords() -> None:
    """As the module's own forward takes them."""
    module, tokens, extra = Options(), torch.randint(0, 10, (4, 7)), torch.randn(4, 4)
    noisy = inject_noise(module, "multiplicative", 0.0)
    torch.testing.assert_close(noisy(tokens), module(tokens))
    both = inject_noise(module, "multiplicative", 0.0, example=(tokens, extra))
    torch.testing.assert_close(both(tokens, extra), module(tokens, extra))
    torch.testing.assert_close(both(tokens, extra=extra), module(tokens, extra))


def test_an_example_that_the_network_does_not_take_is_refused() -> None:
    """In words that say so, before any tracer's."""
    with pytest.raises(UninjectableError, match="example: Linear does not take it"):
        inject_noise(nn.Linear(4, 3), "multiplicative", 0.5, example=torch.rand(3, 5))


def test_a_recurrence_may_be_digital() -> None:
    """By choice, as any layer; the file then holds torch's own."""
    module = nn.Sequential(nn.GRUCell(4, 4), nn.Linear(4, 3))
    noisy = inject_noise(module, "multiplicative", 0.5, example=ROWS, layers=Layers(digital=("0",)))
    assert (names(noisy), noisy.digital) == (["1"], ("0",))


def test_double_precision_stays() -> None:
    """The noise is drawn in float32; the signal keeps its type."""
    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3)).double()
    noisy = inject_noise(module, "multiplicative", 0.5)
    assert noisy(ROWS.double()).dtype == torch.float64


def test_it_is_copied_and_pickled() -> None:
    """With both of its graphs, and weights of its own."""
    noisy = inject_noise(Dropping(), "multiplicative", 0.3)
    noisy.train()(ROWS)
    loaded = pickle.loads(pickle.dumps(noisy))
    for other in (copy.deepcopy(noisy), loaded):
        torch.testing.assert_close(noiseless(other, ROWS), noiseless(noisy, ROWS))
        other.train()(ROWS).sum().backward()
    assert all(weights.grad is None for weights in noisy.parameters())


@pytest.mark.parametrize(
    ("kind", "sigma", "message"),
    [("gaussian", 0.1, "kind: 'gaussian'"), ("multiplicative", -1.0, "sigma: -1"),
     ("additive", float("nan"), "sigma: nan")],
)  # fmt: skip
def test_noise_that_is_none_is_refused(kind: Any, sigma: float, message: str) -> None:
    """By key and value."""
    with pytest.raises(UninjectableError, match=message):
        inject_noise(nn.Linear(4, 3), kind, sigma)
