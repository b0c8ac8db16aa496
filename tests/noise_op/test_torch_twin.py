from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from noisevote.noise_op import torch_operator, torch_philox
from noisevote.noise_op.contract import Activation
from noisevote.noise_op.library import Kernel
from noisevote.noise_op.reference import gaussian_noise as reference
from noisevote.noise_op.torch_twin import Draws, GaussianNoise, NoDrawsError, drawing, fanned_out, gaussian_noise
from tests.noise_op.conftest import Case, cases
from tests.support.effort import examples

pytestmark = pytest.mark.slow

RELU: Activation = "relu"
LINEAR: Activation = "none"


@pytest.fixture(params=["kernel", "plain torch"])
def engine(request: pytest.FixtureRequest, kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both engines of the twin: the native kernel, and torch operations where there is none."""
    assert kernel is not None
    if request.param == "plain torch":
        monkeypatch.setattr(torch_operator, "load_kernel", lambda: None)
    return str(request.param)


def draws(rows: int, *, row: torch.Tensor | None = None, seed: int = 3) -> Draws:
    """Random draws for `rows` rows of both noise kinds at once."""
    generator = torch.Generator().manual_seed(seed)
    return Draws(
        sigma=torch.rand((rows, 2), generator=generator) + 0.05,
        seed=torch.randint(-(2**62), 2**62, (rows,), generator=generator),
        vote=torch.randint(0, 2**32, (rows,), generator=generator),
        row=row,
        step=2,
    )


def in_torch(case: Case) -> np.ndarray:
    """The case by the twin, fan-out included."""
    sigma, seed, vote, row = (torch.from_numpy(array) for array in (case.sigma, case.seed, case.vote, case.row))
    drawn = Draws(sigma, seed, vote, row, case.step)
    x = torch.from_numpy(case.x)
    return gaussian_noise(x, drawn, site=case.site, activation=case.activation, fan_out=True).numpy()


@settings(deadline=None, max_examples=examples(40))
@given(case=cases())
def test_twin_agrees_with_the_reference(case: Case) -> None:
    """Torch draws and applies the noise that the NumPy reference does, on any case."""
    expected = reference(
        case.x, case.sigma, case.seed, case.vote, case.row, case.step, site=case.site, activation=case.activation
    )
    scale = np.abs(case.x).max() * (1 + 7 * case.sigma[:, 0].max()) + 7 * case.sigma[:, 1].max()
    np.testing.assert_allclose(in_torch(case), expected, rtol=1e-5, atol=1e-5 * float(scale))


@pytest.mark.parametrize("shape", [(5, 3, 8, 8), (4, 33, 7, 5), (3, 1, 4, 4), (2, 16, 1, 1)])
def test_memory_layout_does_not_change_a_draw(engine: str, shape: tuple[int, ...]) -> None:
    """A channels-last signal gets the same noise at each (channel, row, column), and stays channels-last."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    drawn = draws(shape[0])
    plain = gaussian_noise(x, drawn, site=1, activation=RELU)
    last = gaussian_noise(x.to(memory_format=torch.channels_last), drawn, site=1, activation=RELU)
    assert last.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last, plain, rtol=0, atol=0)


@pytest.mark.parametrize("activation", [LINEAR, RELU])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradient_is_that_of_the_formula(engine: str, activation: Activation, layout: torch.memory_format) -> None:
    """Autograd through x + sqrt((s0·x)² + s1²)·z, z held fixed, gives the twin's gradient, fan-out summed."""
    row = torch.tensor([2, 0, 0, 1, 2, 2])
    drawn = draws(6, row=row)
    x = torch.randn((3, 4, 5, 6), generator=torch.Generator().manual_seed(1)).to(memory_format=layout)
    upstream = torch.randn((6, 4, 5, 6), generator=torch.Generator().manual_seed(2))

    ours = x.clone(memory_format=torch.preserve_format).requires_grad_()
    gaussian_noise(ours, drawn, site=7, activation=activation, fan_out=True).backward(upstream)  # type: ignore[no-untyped-call]  # torch does not annotate backward

    formula = x.clone().requires_grad_()
    z = torch_philox.normals(drawn.seed, drawn.vote, 7, 2, 120).reshape(6, 4, 5, 6)
    signal = formula[row]
    s0, s1 = (drawn.sigma[:, i].reshape(-1, 1, 1, 1) for i in (0, 1))
    y = signal + torch.sqrt((s0 * signal) ** 2 + s1**2) * z
    (torch.relu(y) if activation == RELU else y).backward(upstream)  # type: ignore[no-untyped-call]  # torch does not annotate backward

    assert ours.grad is not None
    torch.testing.assert_close(ours.grad, formula.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sigma", [(0.0, 0.0), (0.7, 0.0), (0.0, 0.7)])
def test_gradient_at_a_silent_signal_is_finite(engine: str, sigma: tuple[float, float]) -> None:
    """Where x is 0 and the noise vanishes with it, the slope is 1 and not a division by zero."""
    x = torch.zeros((2, 8), requires_grad=True)
    drawn = Draws(torch.tensor([sigma, sigma]), torch.tensor([1, 2]), torch.tensor([0, 0]))
    gaussian_noise(x, drawn, site=0).sum().backward()  # type: ignore[no-untyped-call]  # torch does not annotate backward
    assert x.grad is not None
    assert (x.grad == 1).all()


def test_bfloat16_rounds_the_same_noise(engine: str) -> None:
    """A bfloat16 signal gets the float32 result of its own values, rounded once."""
    x = torch.randn((4, 3, 9, 9), generator=torch.Generator().manual_seed(4)).to(torch.bfloat16)
    drawn = draws(4)
    half = gaussian_noise(x, drawn, site=0, activation=RELU)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half, gaussian_noise(x.float(), drawn, site=0, activation=RELU).to(torch.bfloat16))


def test_a_site_outside_drawing_is_an_error() -> None:
    """A network that is run without draws says so; it is never silently noiseless."""
    with pytest.raises(NoDrawsError, match="site 5"):
        GaussianNoise(5)(torch.zeros(1, 2))


def test_drawing_is_undone_at_its_end() -> None:
    """After the block, also one left by an error, the earlier draws are in force again."""
    site, outer, inner = GaussianNoise(0), draws(1, seed=1), draws(1, seed=2)
    x = torch.ones(1, 4)
    with drawing(outer):
        before = site(x)
        with drawing(inner):
            assert not torch.equal(site(x), before)
        with pytest.raises(ZeroDivisionError), drawing(inner):
            _ = 1 / 0
        assert torch.equal(site(x), before)
    with pytest.raises(NoDrawsError):
        site(x)


def test_only_the_fan_out_site_reads_the_row_index() -> None:
    """Past the first site the rows are already there, so later sites take the identity."""
    drawn = draws(4, row=torch.tensor([1, 0, 1, 1]))
    with drawing(drawn):
        fanned = GaussianNoise(0, fan_out=True)(torch.ones(2, 3))
        assert fanned.shape == (4, 3)
        assert GaussianNoise(1)(fanned).shape == (4, 3)


def test_a_step_may_be_given_apart_from_the_draws(engine: str) -> None:
    """A site at step t, given as a tensor, draws what `Draws(step=t)` draws, and other steps draw something else."""
    x, drawn = torch.ones(2, 9), draws(2)
    with drawing(drawn):
        at_step = [GaussianNoise(3)(x, torch.tensor(step)) for step in range(3)]
        assert torch.equal(GaussianNoise(3)(x), at_step[2])
    for step, found in enumerate(at_step):
        assert torch.equal(found, gaussian_noise(x, replace(drawn, step=step), site=3))
    assert not torch.equal(at_step[0], at_step[1])


def test_fanning_out_gives_each_row_its_input() -> None:
    """Row r gets input row[r], without noise; with no row index each input is a row."""
    x = torch.randn(3, 4, 2)
    row = torch.tensor([2, 0, 0, 1])
    with drawing(draws(4, row=row)):
        assert torch.equal(fanned_out(x), x[row])
    with drawing(draws(3)):
        assert fanned_out(x) is x
    with pytest.raises(NoDrawsError, match="fan-out"):
        fanned_out(x)


@pytest.mark.parametrize("site", [-1, 2**32])
def test_a_site_outside_32_bits_is_refused(site: int) -> None:
    """A site number is a counter word."""
    with pytest.raises(ValueError, match=str(site)):
        GaussianNoise(site)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vote": torch.tensor([0, 2**32])}, "vote: 0 .. 4294967296"),
        ({"vote": torch.tensor([0, -1])}, "vote: -1 .. 0"),
        ({"step": -1}, "step: -1"),
        ({"row": torch.tensor([0, 2])}, "row: 0 .. 2 is not within 0 .. 1"),
        ({"row": torch.tensor([-1, 0])}, "row: -1 .. 0"),
    ],
)
def test_what_no_counter_or_signal_holds_is_refused(engine: str, change: dict[str, Any], message: str) -> None:
    """A vote or step beyond its counter word, or a row outside of x, is an error by name, never a wrong read."""
    with pytest.raises(ValueError, match=message):
        gaussian_noise(torch.zeros(2, 3), replace(draws(2, row=torch.tensor([0, 1])), **change), site=0, fan_out=True)


def test_mismatched_rows_are_refused(engine: str) -> None:
    """Draws for another number of rows than the signal has are an error, not a broadcast."""
    with pytest.raises(Exception, match="3 rows"):
        gaussian_noise(torch.zeros(3, 2), draws(4), site=0)


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("row", [None, torch.tensor([1, 0, 2, 1])])
def test_tracing_is_told_shape_type_and_layout(
    engine: str, memory: torch.memory_format, row: torch.Tensor | None
) -> None:
    """What a compiler is told of the operator's answers, and of its gradients, is what they are."""
    drawn = draws(4, row=row)
    x = torch.randn(3 if row is not None else 4, 5, 6, 7).to(memory_format=memory).requires_grad_()
    operands = (x, drawn.sigma, drawn.seed, drawn.vote, row, None, 2, RELU)
    checks = ("test_schema", "test_faketensor", "test_aot_dispatch_static")
    torch.library.opcheck(torch.ops.noisevote.gaussian_noise.default, operands, test_utils=checks)


def test_output_site_answers_several_times_where_it_is_asked_to() -> None:
    """The site made with `output=True` then draws with `Draws.output`, once for each of its rows; others do not."""
    x, inner = torch.ones(2, 3), draws(6, row=torch.tensor([0, 0, 0, 1, 1, 1]), seed=5)
    with drawing(replace(draws(2), output=inner)):
        assert GaussianNoise(1)(x).shape == (2, 3)
        answers = GaussianNoise(1, output=True)(x)
    expected = gaussian_noise(x, inner, site=1, fan_out=True)
    assert torch.equal(answers, expected)
    with drawing(draws(2)):
        assert torch.equal(GaussianNoise(1, output=True)(x), GaussianNoise(1)(x))
