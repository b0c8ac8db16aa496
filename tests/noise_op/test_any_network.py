"""Networks of others: each way of hiding a product, and what people bring, injected right or refused by name."""

import copy
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from noisevote.noise_op.injection import FIRST, LAST, Layers, NoisyModule, UninjectableError, inject_noise
from noisevote.noise_op.layer_noise import LayerNoise, RowLayout
from noisevote.noise_op.torch_twin import Draws, drawing

ROWS = torch.randn(6, 4, generator=torch.Generator().manual_seed(3))
SEQUENCES = torch.randn(4, 5, 8, generator=torch.Generator().manual_seed(4))


class With(nn.Module):
    """Something done with a matrix of weights, and a head."""

    def __init__(self, done: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.done = done
        self.w = nn.Parameter(torch.randn(4, 4))
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Any:  # the class says it
        return self.head(self.done(x, self.w))


@fx.wrap
def hidden_product(x: Tensor, w: Tensor) -> Tensor:
    """What a tracer does not look into."""
    return functional.linear(x, w)


def noisy_layers(noisy: NoisyModule) -> list[LayerNoise]:
    """Its sites, which all bear a name."""
    return [site for site in noisy.sites() if isinstance(site, LayerNoise)]


def names(noisy: NoisyModule) -> list[str]:
    """Of its layers."""
    return [site.name for site in noisy_layers(noisy)]


def noiseless(noisy: NoisyModule, *inputs: Any) -> Any:
    """The answer at sigma 0, in evaluation mode."""
    before, noisy.sigma = noisy.sigma, 0.0
    answer = noisy.eval()(*inputs)
    noisy.sigma = before
    return answer


def assert_rows_are_independent(noisy: NoisyModule, x: Tensor) -> None:
    """Noise asked for one row changes no other row; each row's is that of its own seed and vote."""
    noisy.eval().look(x)
    count = len(x)
    sigma, vote = torch.zeros(count, 2), torch.arange(count)
    sigma[1, 0] = 0.5
    with torch.no_grad():
        with drawing(Draws(torch.zeros(count, 2), vote, vote)):
            silent = noisy(x)
        with drawing(Draws(sigma, vote, vote)):
            one = noisy(x)
        with drawing(Draws(sigma[1:2], vote[1:2], vote[1:2])):
            alone = noisy(x[1:2])
    others = [row for row in range(count) if row != 1]
    torch.testing.assert_close(one[others], silent[others])
    torch.testing.assert_close(one[1:2], alone, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(one[1], silent[1], rtol=1e-3)


@pytest.mark.parametrize(
    "done",
    [
        torch.linalg.matmul, torch.matmul, torch.mm, torch.ops.aten.mm, torch.ops.aten.mm.default,
        lambda x, w: x @ w, lambda x, w: (w @ x.T).T, lambda x, w: x.inner(w), lambda x, w: x.matmul(w),
        lambda x, w: torch.einsum("bi,oi->bo", x, w), lambda x, w: torch.addmm(torch.ones(4), x, w),
        lambda x, w: torch.tensordot(x, w, dims=1), lambda x, w: functional.linear(x, weight=w),
    ],
)  # fmt: skip
def test_products_by_any_name_get_a_site(done: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Two products run, and two sites stand behind them, exact at sigma 0."""
    module = With(done)
    noisy = inject_noise(module, "multiplicative", 0.3)
    torch.testing.assert_close(noiseless(noisy, ROWS), module(ROWS))
    assert names(noisy) == ["w", "head"]
    assert_rows_are_independent(noisy, ROWS)


HIDDEN: list[Any] = [
    pytest.param(lambda x, w: torch.linalg.multi_dot([x, w, w]), "multi_dot runs aten::mm", id="multi_dot"),
    pytest.param(torch.cdist, "cdist runs aten::_cdist_forward", id="cdist"),
    pytest.param(lambda x, w: torch.sparse.mm(w.to_sparse(), x.T).T, "_sparse_mm", id="sparse"),
    pytest.param(lambda x, w: (x[..., None] * w).sum(1), "sum of what weights multiplied", id="multiplied and summed"),
    pytest.param(lambda x, w: (w * x[:, None]).mean(2), "mean of what weights multiplied", id="and averaged"),
    pytest.param(lambda x, w: functional.cosine_similarity(x[:, None], w[None], -1), "cosine_similarity", id="cosine"),
    pytest.param(lambda x, w: torch.einsum("bi,io,op->bp", x, w, w), "runs 2 products at once", id="einsum of three"),
    pytest.param(lambda x, w: torch.addmm(x, x, w), "adds a signal to the product", id="product and sum"),
    pytest.param(lambda x, w: torch.addbmm(torch.zeros(4), x[None], w[None]) - x.mean(0), "depend on one", id="mixed"),
    pytest.param(lambda x, _: x - x.mean(0), "depend on one another", id="batch statistics by hand"),
    pytest.param(lambda x, _: x + torch.rand(4), "draws at random", id="random"),
    pytest.param(lambda x, w: hidden_product(x, w), "hidden_product runs aten::mm", id="wrapped"),  # noqa: PLW0108  # by name
]


@pytest.mark.parametrize(("done", "message"), HIDDEN)
def test_what_hides_a_product_is_refused_at_the_first_call(
    done: Callable[[Tensor, Tensor], Tensor], message: str
) -> None:
    """Without an example nothing has run before; the message names module, line and operation."""
    with pytest.raises(UninjectableError, match=message) as refused:
        inject_noise(With(done), "multiplicative", 0.3)(ROWS)
    if "runs" in message:
        assert "test_any_network.py:" in str(refused.value)


@pytest.mark.filterwarnings("ignore")  # the quantisation that torch has announced the end of
def test_packed_weights_are_refused() -> None:
    """Dynamic quantisation keeps its weights where nothing can be put between."""
    linear = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))
    quantized = torch.ao.quantization.quantize_dynamic(linear, {nn.Linear})  # type: ignore[no-untyped-call]  # torch's
    with pytest.raises(UninjectableError, match=r"^0, .*Linear may hold products"):
        inject_noise(quantized, "multiplicative", 0.3)


def test_an_exported_module_gets_every_site() -> None:
    """What torch.export made consists of ATen operators."""
    plain = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))
    rows = {0: torch.export.Dim.DYNAMIC}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of its own deprecated parts
        exported = torch.export.export(plain, (ROWS,), dynamic_shapes=(rows,)).module()
    noisy = inject_noise(exported, "multiplicative", 0.3)
    torch.testing.assert_close(noiseless(noisy, ROWS), plain(ROWS))
    assert names(noisy) == ["0", "2", "4"]


def test_with_an_example_wrapped_functions_are_opened() -> None:
    """torch.export looks into what torch.fx was told not to; both modes and gradients work."""
    module = With(lambda x, w: hidden_product(x, w))  # noqa: PLW0108  # by its name, which a tracer replaces
    noisy = inject_noise(module, "multiplicative", 0.3, example=ROWS)
    assert names(noisy) == ["w", "head"]
    torch.testing.assert_close(noiseless(noisy, ROWS), module(ROWS))
    noisy.train()(ROWS).square().sum().backward()
    assert all(weights.grad is not None for weights in noisy.parameters())


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


class Attending(nn.Module):
    """Torch's own transformer, in both orders of its dimensions."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=batch_first, dropout=0.1)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(8, 3)
        self.batch_first = batch_first

    def forward(self, x: Tensor) -> Any:  # the class says it
        if self.batch_first:
            return self.head(self.encoder(x).mean(1))
        return self.head(self.encoder(x.transpose(0, 1)).mean(0))


@pytest.mark.parametrize("batch_first", [True, False])
def test_attention_has_sites_at_its_weights(batch_first: bool) -> None:
    """qkv, proj and MLP; the products of two signals are digital, and said to be; rows stay apart in either order."""
    module = Attending(batch_first).eval()
    noisy = inject_noise(module, "multiplicative", 0.3, example=SEQUENCES)
    layer = "encoder.layers.0"
    assert names(noisy) == [
        f"{layer}.self_attn.in_proj", f"{layer}.self_attn.out_proj", f"{layer}.linear1", f"{layer}.linear2", "head",
    ]  # fmt: skip
    assert noisy.digital == (f"{layer}.self_attn.scaled_dot_product_attention",)
    torch.testing.assert_close(noiseless(noisy, SEQUENCES), module(SEQUENCES), rtol=1e-4, atol=1e-5)
    assert_rows_are_independent(noisy, SEQUENCES)
    noisy.train()(SEQUENCES).square().sum().backward()
    assert all(weights.grad is not None for weights in noisy.parameters())


class ByHand(nn.Module):
    """Attention as papers write it, or by torch's function."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.qkv = nn.Linear(8, 24)
        self.head = nn.Linear(8, 3)
        self.fused = fused

    def forward(self, x: Tensor) -> Any:  # the class says it
        q, k, v = self.qkv(x).chunk(3, dim=2)
        if self.fused:
            out = functional.scaled_dot_product_attention(q, k, v)
        else:
            out = torch.softmax(q @ k.transpose(1, 2) / 8**0.5, dim=2) @ v
        return self.head(out.mean(1))


@pytest.mark.parametrize("fused", [True, False])
def test_products_of_two_signals_are_analog_by_choice(fused: bool) -> None:
    """Then QKᵀ and AV have a site each, and at sigma 0 nothing changes."""
    module = ByHand(fused)
    noisy = inject_noise(module, "multiplicative", 0.3, example=SEQUENCES, layers=Layers(signals="analog"))
    assert len(noisy.sites()) == 4
    assert noisy.digital == ()
    torch.testing.assert_close(noiseless(noisy, SEQUENCES), module(SEQUENCES))
    assert_rows_are_independent(noisy, SEQUENCES)
    digital = inject_noise(module, "multiplicative", 0.3, example=SEQUENCES)
    assert names(digital) == ["qkv", "head"]
    assert len(digital.digital) == (1 if fused else 2)


class Rows(nn.Module):
    """Rows in another dimension than the first, or several places a row."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        self.each = nn.Linear(8, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Any:  # the class says it
        rows, steps, features = x.shape
        if self.form == "steps first":
            return self.head(torch.tanh(self.each(x.transpose(0, 1))).mean(0))
        if self.form == "steps within rows":
            return self.head(torch.tanh(self.each(x.reshape(rows * steps, features))).reshape(rows, steps, 6).mean(1))
        flat = x.transpose(0, 1).reshape(steps * rows, features)
        return self.head(torch.tanh(self.each(flat)).reshape(steps, rows, 6).mean(0))


@pytest.mark.parametrize(
    ("form", "layout"),
    [
        ("steps first", RowLayout(dim=1)),
        ("steps within rows", RowLayout(parts=5)),
        ("rows within steps", RowLayout(parts=5, scattered=True)),
    ],
)
@pytest.mark.parametrize("rows", [4, 5])
def test_rows_are_found_wherever_they_are(form: str, layout: RowLayout, rows: int) -> None:
    """Also where there are as many steps as rows, so that shapes alone do not tell."""
    module = Rows(form)
    x = torch.randn(rows, 5, 8)
    noisy = inject_noise(module, "multiplicative", 0.5)
    assert_rows_are_independent(noisy, x)
    assert noisy_layers(noisy)[0].rows == layout


class Reading(nn.Module):
    """A cell, step by step."""

    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.cell = kind(8, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Any:  # the class says it
        state: Any = None
        for step in range(3):
            state = self.cell(x[:, step], state)
        return self.head(state[0] if isinstance(self.cell, nn.LSTMCell) else state)


@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_cells_have_a_site_each_time_they_run(kind: Any) -> None:
    """Exact at sigma 0; each step is a product of its own."""
    module = Reading(kind)
    noisy = inject_noise(module, "multiplicative", 0.3)
    assert names(noisy) == ["cell", "cell:2", "cell:3", "head"]
    torch.testing.assert_close(noiseless(noisy, SEQUENCES), module(SEQUENCES))
    assert_rows_are_independent(noisy, SEQUENCES)


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


def test_an_example_that_does_not_tell_rows_apart_is_refused() -> None:
    """Five places a row, and nothing changes with the second row: guessing could mix rows."""
    module = Rows("rows within steps")
    with pytest.raises(UninjectableError, match="each: rows have 5 places each"):
        inject_noise(module, "multiplicative", 0.5, example=torch.zeros(3, 5, 8))


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
