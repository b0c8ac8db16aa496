import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from noisevote.training.attack.steps import Steps, ascend, bim, fgsm, for_transfer, pgd, random_start

ROUNDING = 1e-6  # of float32 in [0, 1]


@settings(max_examples=60, deadline=None)
@given(
    eps=st.floats(0.001, 1), step=st.floats(0.001, 1), iterations=st.integers(1, 6), start=st.booleans(),
    momentum=st.sampled_from([0.0, 0.9]), size=st.floats(0, 1), seed=st.integers(0, 2**31),
)  # fmt: skip
def test_nothing_leaves_the_ball_or_the_range(
    eps: float, step: float, iterations: int, start: bool, momentum: float, size: float, seed: int
) -> None:
    """Whatever the gradients, all that an attack shows to the network and returns is within eps and within [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.rand(3, 1, 4, 4, generator=generator).round(decimals=1)  # many pixels at the range's ends
    seen: list[Tensor] = []

    def gradient(x: Tensor) -> Tensor:
        seen.append(x)
        return torch.randn(x.shape, generator=generator) * 10

    drawn = random_start(inputs, generator) if start else None
    seen.append(ascend(gradient, inputs, Steps(eps, step, iterations, start, momentum), drawn, size))
    assert len(seen) == iterations + 1
    for x in seen:
        assert float((x - inputs).abs().max()) <= eps * size + ROUNDING
        assert float(x.min()) >= 0
        assert float(x.max()) <= 1


def test_fgsm_is_one_signed_step() -> None:
    """FGSM adds eps times the gradient's sign, cut to the pixel range (Goodfellow et al. 2015)."""
    inputs, slope = torch.tensor([[0.5, 0.9, 0.1, 0.5]]), torch.tensor([[2.0, 1e-9, -3.0, 0.0]])
    found = ascend(lambda _: slope, inputs, fgsm(0.2), None)
    torch.testing.assert_close(found, torch.tensor([[0.7, 1.0, 0.0, 0.5]]))


def test_steps_climb_to_the_best_point_of_the_ball() -> None:
    """On a linear loss iterative FGSM and PGD end at the corner of the ball that maximises it."""
    inputs, slope = torch.full((2, 6), 0.5), torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
    corner = inputs + 0.1 * slope.sign()
    for steps in (bim(0.1, 0.03, 5), pgd(0.1, 0.05, 8)):
        start = random_start(inputs, torch.Generator().manual_seed(1)) if steps.random_start else None
        torch.testing.assert_close(ascend(lambda _: slope, inputs, steps, start), corner)


def test_momentum_keeps_a_direction_that_one_gradient_contradicts() -> None:
    """With momentum a single gradient of the other sign does not turn the step around; without it does."""
    inputs, given_slopes = torch.full((1, 1), 0.5), [1.0, 1.0, -1.0]

    def moved(steps: Steps) -> float:
        slopes = iter(given_slopes)
        return float(ascend(lambda x: torch.full_like(x, next(slopes)), inputs, steps, None))

    assert moved(bim(0.5, 0.1, 3)) == pytest.approx(0.6)
    assert moved(for_transfer(bim(0.5, 0.1, 3), diversity=0)) == pytest.approx(0.8)
