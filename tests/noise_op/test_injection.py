"""`inject_noise` on networks that know nothing of noise."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from noisevote.noise_op.contract import NOISE_KINDS, NoiseKind, snr_db
from noisevote.noise_op.injection import NoisyModule, UninjectableError, inject_noise
from noisevote.noise_op.torch_twin import Draws, GaussianNoise, current_draws, drawing

pytestmark = pytest.mark.slow


class Residual(nn.Module):
    """A residual block with a product on its short way, as in ResNet."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels_in, channels_out, 3, stride=2, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(channels_out)
        self.second = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(channels_out, affine=False)
        self.short = nn.Sequential(nn.Conv2d(channels_in, channels_out, 1, stride=2), nn.BatchNorm2d(channels_out))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:  # the class says it
        inner = self.second_norm(self.second(self.relu(self.first_norm(self.first(x)))))
        return self.relu(inner + self.short(x))  # type: ignore[no-any-return]  # untyped __call__


class ResNet(nn.Module):
    """Six products; the first one is on the only way in."""

    shape = (2, 8, 8)
    products = 6

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.block = Residual(4, 6)
        self.hidden = nn.Linear(6, 5)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:  # the class says it
        x = self.block(functional.relu(self.stem(x - 0.5))).mean((2, 3))
        return self.head(self.hidden(x).relu())  # type: ignore[no-any-return]  # untyped __call__


class PastTheFirst(nn.Module):
    """The input reaches the answer also without the first product, and products are functions."""

    shape = (5,)
    products = 2

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 5))
        self.head = nn.Parameter(torch.randn(3, 5))

    def forward(self, x: Tensor) -> Tensor:  # the class says it
        x = x + functional.linear(x, self.weight)
        return functional.linear(x.reshape(x.size(0), -1), self.head)


class Twice(nn.Module):
    """One product, computed twice."""

    shape = (4,)
    products = 2

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:  # the class says it
        return self.shared(torch.tanh(self.shared(x)))  # type: ignore[no-any-return]  # untyped __call__


class Upwards(nn.Module):
    """Transposed and one-dimensional convolutions, normalised."""

    shape = (3, 6)
    products = 3

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ConvTranspose1d(3, 4, 2, stride=2), nn.BatchNorm1d(4), nn.ReLU(), nn.Conv1d(4, 2, 3), nn.GELU(),
            nn.Flatten(), nn.Linear(20, 3), nn.BatchNorm1d(3),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:  # the class says it
        return self.layers(x)  # type: ignore[no-any-return]  # untyped __call__


class Reader(nn.Module):
    """Reads a sequence of 5 steps, each way, in two layers."""

    shape = (5, 3)
    recurrence: type[nn.LSTM | nn.GRU] = nn.LSTM
    products = 5

    def __init__(self) -> None:
        super().__init__()
        self.read = self.recurrence(3, 4, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:  # the class says it
        out, _ = self.read(x)
        return self.head(out[:, -1])  # type: ignore[no-any-return]  # untyped __call__


class GruReader(Reader):
    """The same with GRUs."""

    recurrence = nn.GRU


NETWORKS: list[Any] = [ResNet, PastTheFirst, Twice, Upwards, Reader, GruReader]
every_network = pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.__name__)


def built(network: Any) -> nn.Module:
    """With statistics of its own, and scales and shifts where norms have them."""
    torch.manual_seed(1)
    module: nn.Module = network().train()
    for norm in module.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm) and norm.affine:
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias)
    for _ in range(3):
        module(torch.rand(16, *network.shape))
    return module.eval()


def draws(rows: int, kind: NoiseKind, sigma: float, row: Tensor | None = None) -> Draws:
    """Votes 0, 1, … of one seed."""
    both = (sigma, 0.0) if kind == "multiplicative" else (0.0, sigma)
    seed = torch.full((rows,), 5)
    return Draws(sigma=torch.tensor([both]).repeat(rows, 1), seed=seed, vote=torch.arange(rows), row=row)


@every_network
def test_without_noise_it_is_the_module(network: Any) -> None:
    """At sigma 0 the answers are the module's own, in training and in evaluation, and the module is left as it was."""
    module = built(network)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    noisy = inject_noise(module, "multiplicative", 0.0)
    x = torch.rand(6, *network.shape)
    torch.testing.assert_close(noisy(x), module(x))
    noisy.train()
    noisy(x)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    torch.testing.assert_close(noisy(x), module.train()(x))


@every_network
@pytest.mark.parametrize("kind", NOISE_KINDS)
def test_every_product_meets_noise_of_the_stated_strength(network: Any, kind: NoiseKind) -> None:
    """Each site is computed, and its noise has sigma's SNR in dB (multiplicative) or deviation (additive)."""
    noisy = inject_noise(built(network), kind, 0.5)
    found: dict[int, list[tuple[Tensor, Tensor]]] = {}

    def record(site: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        assert isinstance(site, GaussianNoise)
        silent = current_draws()
        assert silent is not None
        signal = inputs[0]
        # The activation would hide what the noise is, so it is drawn again without.
        plain = GaussianNoise(site.site)
        with drawing(silent):
            found.setdefault(site.site, []).append((signal, plain(signal, *inputs[1:])))

    for site in noisy.sites():
        site.register_forward_hook(record)
    with torch.no_grad():
        noisy(torch.rand(400, *network.shape))
    assert sorted(found) == list(range(network.products))
    for pairs in found.values():
        signal, noise = torch.cat([s for s, _ in pairs]), torch.cat([y - s for s, y in pairs])
        power = float(noise.double().square().mean())
        if kind == "additive":
            assert math.sqrt(power) == pytest.approx(0.5, rel=0.1)
        else:
            measured_db = 10 * math.log10(float(signal.double().square().mean()) / power)
            assert measured_db == pytest.approx(snr_db(0.5), abs=0.8)


@every_network
def test_votes_fan_out(network: Any) -> None:
    """Rows of two inputs in one pass are the rows that each input gets alone."""
    noisy = inject_noise(built(network), "multiplicative", 0.5)
    x = torch.rand(2, *network.shape)
    row = torch.tensor([0, 1, 1, 0, 1])
    whole = draws(5, "multiplicative", 0.5, row)
    with torch.no_grad():
        with drawing(whole):
            together = noisy(x)
        for index in range(5):
            one = slice(index, index + 1)
            alone = Draws(whole.sigma[one], whole.seed[one], whole.vote[one], row=torch.zeros(1, dtype=torch.int64))
            with drawing(alone):
                torch.testing.assert_close(noisy(x[row[index]][None]), together[one])
    assert len(torch.unique(together, dim=0)) == 5


@every_network
def test_folding_batch_norms_changes_nothing(network: Any) -> None:
    """Noise comes after the norm, so the folded module draws the same and has no norm after a product."""
    noisy = inject_noise(built(network), "multiplicative", 0.5)
    folded = noisy.folded()
    x = torch.rand(6, *network.shape)
    with torch.no_grad(), drawing(draws(6, "multiplicative", 0.5)):
        torch.testing.assert_close(folded(x), noisy(x), rtol=1e-4, atol=1e-5)
    assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in folded.modules())


def test_every_call_draws_anew_and_a_checkpoint_goes_on() -> None:
    """Two calls differ; a module that loads the state goes on with the draws that would have come next."""
    noisy, x = inject_noise(built(ResNet), "multiplicative", 0.5), torch.rand(4, *ResNet.shape)
    first = noisy(x)
    saved = {name: value.clone() for name, value in noisy.state_dict().items()}
    second = noisy(x)
    assert not torch.equal(first, second)
    resumed = inject_noise(built(ResNet), "multiplicative", 0.5)
    resumed.load_state_dict(saved)
    assert torch.equal(resumed(x), second)
    other_seed = inject_noise(built(ResNet), "multiplicative", 0.5, seed=1)
    assert not torch.equal(other_seed(x), first)


def test_votes_go_on_beyond_those_of_one_seed() -> None:
    """After 2³² votes the next seed's come; none is drawn twice or refused."""
    noisy, x = inject_noise(nn.Linear(3, 3), "multiplicative", 0.5), torch.rand(4, 3)
    noisy.presentations.fill_(2**32 - 2)
    with drawing(Draws(torch.tensor([[0.5, 0.0]]).repeat(4, 1), torch.tensor([0, 0, 1, 1]),
                       torch.tensor([2**32 - 2, 2**32 - 1, 0, 1]))):  # fmt: skip
        expected = noisy.graph(x)
    assert torch.equal(noisy(x), expected)


@every_network
def test_it_learns_through_the_noise(network: Any) -> None:
    """Every weight of the module gets a gradient, and some steps lower the loss under noise."""
    noisy = inject_noise(built(network), "multiplicative", 0.3).train()
    x, labels = torch.rand(32, *network.shape), torch.arange(32) % 3
    optimizer = torch.optim.AdamW(noisy.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        logits = noisy(x)[:, :3]
        loss = functional.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # untyped in torch
        optimizer.step()
        losses.append(loss.item())
    assert all(weights.grad is not None for weights in noisy.parameters())
    assert sum(losses[-10:]) < sum(losses[:10])


def _untraceable(x: Tensor) -> Tensor:
    return x if x.sum() > 0 else -x


class Of(nn.Module):
    """A product, and something else before it."""

    def __init__(self, other: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.other = other
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Any:  # as above
        return self.head(self.other(x))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Sequential(nn.TransformerEncoderLayer(4, 2, batch_first=True), nn.Linear(4, 3)), "TransformerEncoderLayer"),
        (Of(_untraceable), "cannot be traced"),
        (nn.Sequential(nn.Flatten(), nn.ReLU()), "no product"),
        (nn.Sequential(nn.Bilinear(4, 4, 3), nn.Linear(3, 3)), "cannot be traced|Bilinear"),
    ],
    ids=["transformer", "untraceable", "none", "bilinear"],
)
def test_products_that_would_get_no_noise_are_refused(module: nn.Module, message: str) -> None:
    """By name and place: a network is never left noiseless in part."""
    with pytest.raises(UninjectableError, match=message):
        inject_noise(module, "multiplicative", 0.5)


def test_weights_that_look_up_or_scale_are_no_products() -> None:
    """Embeddings and normalisations are digital: only the product behind them has a site."""
    module = nn.Sequential(nn.Embedding(7, 4), nn.LayerNorm(4), nn.PReLU(), nn.Linear(4, 3))
    noisy = inject_noise(module, "multiplicative", 0.5)
    assert isinstance(noisy, NoisyModule)
    assert [site.site for site in noisy.sites()] == [0]
