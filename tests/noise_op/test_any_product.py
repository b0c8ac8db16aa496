"""Products of others, however written or hidden and wherever their rows are: given a site, or refused by name."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from noisevote.noise_op.injection import Layers, UninjectableError, inject_noise
from noisevote.noise_op.layer_noise import RowLayout
from tests.support.injected import ROWS, SEQUENCES, assert_rows_are_independent, names, noiseless, noisy_layers

pytestmark = pytest.mark.slow


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
        assert "test_any_product.py:" in str(refused.value)


@pytest.mark.filterwarnings("ignore")  # the quantisation that torch has announced the end of
def test_packed_weights_are_refused() -> None:
    """Dynamic quantisation keeps its weights where nothing can be put between."""
    linear = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))
    quantized = torch.ao.quantization.quantize_dynamic(linear, {nn.Linear})
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


def test_an_example_that_does_not_tell_rows_apart_is_refused() -> None:
    """Five places a row, and nothing changes with the second row: guessing could mix rows."""
    module = Rows("rows within steps")
    with pytest.raises(UninjectableError, match="each: rows have 5 places each"):
        inject_noise(module, "multiplicative", 0.5, example=torch.zeros(3, 5, 8))
