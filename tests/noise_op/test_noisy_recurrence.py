"""The noisy LSTM and GRU beside torch's own."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from noisevote.noise_op.noisy_recurrence import NoisyRecurrence, UnknownRecurrenceError
from noisevote.noise_op.torch_twin import Draws, drawing

STEPS, ROWS, FEATURES, HIDDEN = 6, 5, 3, 4


def silent(sigma: float = 0.0) -> Draws:
    """Multiplicative draws for ROWS rows."""
    return Draws(torch.tensor([[sigma, 0.0]]).repeat(ROWS, 1), torch.zeros(ROWS, dtype=torch.int64), torch.arange(ROWS))


def flat(answer: Any) -> list[Tensor]:
    """The tensors of (output, state), one after the other."""
    out, state = answer
    return [out, *(state if isinstance(state, tuple) else (state,))]


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("given", [False, True])
def test_without_noise_it_is_torchs_own(
    kind: type[nn.LSTM | nn.GRU], layers: int, bidirectional: bool, bias: bool, batch_first: bool, given: bool
) -> None:
    """Outputs, last states and gradients, for every layer, direction and form of the input."""
    torch.manual_seed(0)
    plain = kind(FEATURES, HIDDEN, num_layers=layers, bidirectional=bidirectional, bias=bias, batch_first=batch_first)
    x = torch.randn(*((ROWS, STEPS) if batch_first else (STEPS, ROWS)), FEATURES)
    part = torch.randn(layers * (2 if bidirectional else 1), ROWS, HIDDEN)
    state: Any = (part, part.flip(0)) if kind is nn.LSTM else part
    expected = flat(plain(x, state) if given else plain(x))
    noisy = NoisyRecurrence(plain, 0)
    with drawing(silent()):
        found = flat(noisy(x, state) if given else noisy(x))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    weights = list(plain.parameters())
    our_slopes, their_slopes = (torch.autograd.grad(y[0].square().sum(), weights) for y in (found, expected))
    for a, b in zip(our_slopes, their_slopes, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_each_step_layer_and_direction_draws_its_own(kind: type[nn.LSTM | nn.GRU]) -> None:
    """One site a layer and direction, whose noise differs from step to step."""
    noisy = NoisyRecurrence(kind(FEATURES, HIDDEN, num_layers=2, bidirectional=True), 7)
    relative: dict[int, list[Tensor]] = {}
    for site in noisy.sites:
        site.register_forward_hook(
            lambda site, given, out: relative.setdefault(site.site, []).append((out / given[0] - 1).detach())
        )
    with drawing(silent(0.5)):
        noisy(torch.randn(STEPS, ROWS, FEATURES))
    assert sorted(relative) == [7, 8, 9, 10]
    drawn = torch.stack([noise for steps in relative.values() for noise in steps])
    assert len(drawn) == 4 * STEPS
    assert len(torch.unique(drawn.flatten(1), dim=0)) == 4 * STEPS
    assert float(drawn.std()) == pytest.approx(0.5, rel=0.1)


def test_layers_drop_out_while_training_alone() -> None:
    """Dropout between layers, as torch's own."""
    noisy = NoisyRecurrence(nn.LSTM(FEATURES, HIDDEN, num_layers=2, dropout=0.9), 0)
    x = torch.randn(STEPS, ROWS, FEATURES)
    with drawing(silent()):
        assert not torch.equal(noisy(x)[0], noisy(x)[0])
        noisy.eval()
        assert torch.equal(noisy(x)[0], noisy(x)[0])


def test_what_is_not_computed_is_refused() -> None:
    """Projections, packed sequences and sequences without rows, by name."""
    with pytest.raises(UnknownRecurrenceError, match="proj_size: 2"):
        NoisyRecurrence(nn.LSTM(FEATURES, HIDDEN, proj_size=2), 0)
    noisy = NoisyRecurrence(nn.LSTM(FEATURES, HIDDEN), 0)
    packed: Any = nn.utils.rnn.pack_sequence([torch.randn(3, FEATURES)])
    for unusable in (packed, torch.randn(STEPS, FEATURES)):
        with pytest.raises(UnknownRecurrenceError, match="input"):
            noisy(unusable)
