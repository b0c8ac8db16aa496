"""torch's LSTM, GRU and RNN, and their cells, with noise on every product of every time step."""

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, linear

from noisevote.noise_op.recurrence import over_steps
from noisevote.noise_op.torch_twin import GaussianNoise

RECURRENCES: Final = (nn.LSTM, nn.GRU, nn.RNN)
CELLS: Final = (nn.LSTMCell, nn.GRUCell, nn.RNNCell)

MakeSite = Callable[[str, int], GaussianNoise]


class UnknownRecurrenceError(ValueError):
    """A recurrent module has an option that is not computed here."""


def _plain_site(_: str, number: int) -> GaussianNoise:
    return GaussianNoise(number)


class NoisyRecurrence(nn.Module):
    """Computes what an `nn.LSTM`, `nn.GRU` or `nn.RNN` does, with noise on the pre-activations of each step.

    An array of analog multipliers takes [input, hidden state] at once, so there is one noisy product a gate and
    step, bias included; only the GRU's candidate, which gates a part of its sum, has two. Each layer and
    direction is one site, whose draws differ by `step`. What lies between the products is digital.

    Args:
        products: whose weights are used.
        first_site: number of the first layer's site; the others follow.
        make_site: makes a site of the end of its name, `l0`, `l0_reverse`, …, and its number.
    """

    def __init__(self, products: nn.LSTM | nn.GRU | nn.RNN, first_site: int, make_site: MakeSite = _plain_site) -> None:
        if products.proj_size:
            raise UnknownRecurrenceError(f"proj_size: {products.proj_size} is not computed here; only 0 is")
        super().__init__()
        self.products = products
        self.directions = 2 if products.bidirectional else 1
        count = products.num_layers * self.directions
        self.sites = nn.ModuleList(make_site(self._end(index), first_site + index) for index in range(count))

    def _end(self, place: int) -> str:
        """How torch names what belongs to a layer and direction."""
        layer, direction = divmod(place, self.directions)
        return f"l{layer}{'_reverse' if direction else ''}"

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """As the module that it stands for: [rows, steps, features] (`batch_first`) or [steps, rows, features].

        Raises:
            UnknownRecurrenceError: a sequence without rows, or a packed one.
        """
        if not isinstance(x, Tensor) or x.dim() != 3:
            raise UnknownRecurrenceError("input: a tensor of rows, steps and features is needed")
        signal = x.transpose(0, 1) if self.products.batch_first else x  # [steps, rows, features]
        last: list[tuple[Tensor, ...]] = []
        for layer in range(self.products.num_layers):
            if layer and self.products.dropout:
                signal = dropout(signal, self.products.dropout, self.training)
            found = [self._one_way(signal, layer, direction, state) for direction in range(self.directions)]
            last += [carry for carry, _ in found]
            signal = torch.cat([out for _, out in found], dim=2)
        ends = tuple(
            torch.stack(parts) for parts in zip(*last, strict=True)
        )  # each [layers * directions, rows, hidden]
        out = signal.transpose(0, 1) if self.products.batch_first else signal
        return out, ends if isinstance(self.products, nn.LSTM) else ends[0]

    def _one_way(self, signal: Tensor, layer: int, direction: int, state: Any) -> tuple[tuple[Tensor, ...], Tensor]:
        """The last carry of one layer in one direction, and its hidden states [steps, rows, hidden]."""
        place = layer * self.directions + direction
        forwards = signal.flip(0) if direction else signal
        is_lstm = isinstance(self.products, nn.LSTM)
        if state is None:
            zero = signal.new_zeros(signal.shape[1], self.products.hidden_size)
            carry = (zero, torch.zeros_like(zero)) if is_lstm else (zero,)
        else:
            carry = tuple(part[place] for part in (state if is_lstm else (state,)))
        step = _step(self.products, self.weights(place), self.sites[place])
        carry, out = over_steps(step, carry, (forwards, torch.arange(len(signal))))
        return carry, out.flip(0) if direction else out

    def weights(self, place: int) -> "Weights":
        """Of a layer and direction."""
        end = self._end(place)
        return _weights(self.products, *(f"{name}_{end}" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")))


class NoisyCell(nn.Module):
    """Computes what an `nn.LSTMCell`, `nn.GRUCell` or `nn.RNNCell` does: one step, one site."""

    def __init__(self, products: nn.LSTMCell | nn.GRUCell | nn.RNNCell, site: GaussianNoise) -> None:
        super().__init__()
        self.products = products
        self.sites = nn.ModuleList([site])

    def forward(self, x: Tensor, state: Any = None) -> Any:
        """The next state of rows [rows, features]: (hidden, memory) of an LSTM, else hidden.

        Raises:
            UnknownRecurrenceError: an input without rows.
        """
        if x.dim() != 2:
            raise UnknownRecurrenceError(f"input: {x.dim()} dimensions; a cell needs rows and features")
        is_lstm = isinstance(self.products, nn.LSTMCell)
        if state is None:
            zero = x.new_zeros(x.shape[0], self.products.hidden_size)
            carry: Any = (zero, torch.zeros_like(zero)) if is_lstm else (zero,)
        else:
            carry = state if is_lstm else (state,)
        weights = _weights(self.products, "weight_ih", "weight_hh", "bias_ih", "bias_hh")
        carry, _ = _step(self.products, weights, self.sites[0])(carry, (x, None))
        return carry if is_lstm else carry[0]


# For the input [gates, features], for the hidden state [gates, hidden]; their biases.
Weights = tuple[Tensor, Tensor, Tensor, Tensor]


def _weights(module: nn.Module, by_input: str, by_hidden: str, bias_input: str, bias_hidden: str) -> Weights:
    inputs, hidden = getattr(module, by_input), getattr(module, by_hidden)
    if not module.bias:
        zero = inputs.new_zeros(len(inputs))
        return inputs, hidden, zero, zero
    return inputs, hidden, getattr(module, bias_input), getattr(module, bias_hidden)


def _step(products: nn.Module, weights: Weights, site: nn.Module) -> Any:
    if isinstance(products, nn.LSTM | nn.LSTMCell):
        return _LstmStep(weights, site)
    if isinstance(products, nn.GRU | nn.GRUCell):
        return _GruStep(weights, site)
    return _RnnStep(weights, site, torch.relu if products.nonlinearity == "relu" else torch.tanh)


class _LstmStep:
    """(hidden, memory) of one step to those of the next."""

    def __init__(self, weights: Weights, site: nn.Module) -> None:
        by_input, by_hidden, bias_input, bias_hidden = weights
        self.site = site
        self.weights = torch.cat((by_input, by_hidden), dim=1)  # [4 * hidden, features + hidden]
        self.bias = bias_input + bias_hidden

    def __call__(self, carry: tuple[Tensor, Tensor], element: tuple[Tensor, Tensor]) -> tuple[Any, Tensor]:
        hidden, memory = carry
        features, number = element
        products = linear(torch.cat((features, hidden), dim=1), self.weights, self.bias)
        enter, keep, new, show = self.site(products, number).chunk(4, dim=1)
        memory = torch.sigmoid(keep) * memory + torch.sigmoid(enter) * torch.tanh(new)
        hidden = torch.sigmoid(show) * torch.tanh(memory)
        return (hidden, memory), hidden.clone()  # a scan's answer must not be its carry


class _GruStep:
    """(hidden,) of one step to that of the next."""

    def __init__(self, weights: Weights, site: nn.Module) -> None:
        by_input, by_hidden, bias_input, bias_hidden = weights
        gates = 2 * by_hidden.shape[1]  # reset and update, which sum both products
        self.site = site
        self.gates = torch.cat((by_input[:gates], by_hidden[:gates]), dim=1), bias_input[:gates] + bias_hidden[:gates]
        self.by_input = by_input[gates:], bias_input[gates:]
        self.by_hidden = by_hidden[gates:], bias_hidden[gates:]

    def __call__(self, carry: tuple[Tensor], element: tuple[Tensor, Tensor]) -> tuple[Any, Tensor]:
        (hidden,) = carry
        features, number = element
        gates = linear(torch.cat((features, hidden), dim=1), *self.gates)
        parts = (gates, linear(features, *self.by_input), linear(hidden, *self.by_hidden))
        reset, update, of_input, of_hidden = self.site(torch.cat(parts, dim=1), number).chunk(4, dim=1)
        new = torch.tanh(of_input + torch.sigmoid(reset) * of_hidden)
        keep = torch.sigmoid(update)
        hidden = (1 - keep) * new + keep * hidden
        return (hidden,), hidden.clone()  # as above


class _RnnStep:
    """(hidden,) of one step to that of the next."""

    def __init__(self, weights: Weights, site: nn.Module, activation: Callable[[Tensor], Tensor]) -> None:
        by_input, by_hidden, bias_input, bias_hidden = weights
        self.site, self.activation = site, activation
        self.weights = torch.cat((by_input, by_hidden), dim=1)  # [hidden, features + hidden]
        self.bias = bias_input + bias_hidden

    def __call__(self, carry: tuple[Tensor], element: tuple[Tensor, Tensor]) -> tuple[Any, Tensor]:
        features, number = element
        products = linear(torch.cat((features, carry[0]), dim=1), self.weights, self.bias)
        hidden = self.activation(self.site(products, number))
        return (hidden,), hidden.clone()  # as above
