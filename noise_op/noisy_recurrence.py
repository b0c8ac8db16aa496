"""torch's LSTM and GRU with noise on every product of every time step."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, linear

from noisevote.noise_op.recurrence import over_steps
from noisevote.noise_op.torch_twin import GaussianNoise


class UnknownRecurrenceError(ValueError):
    """A recurrent module has an option that is not computed here."""


class NoisyRecurrence(nn.Module):
    """Computes what an `nn.LSTM` or `nn.GRU` does, with noise on the gates' pre-activations of each step.

    An array of analog multipliers takes [input, hidden state] at once, so there is one noisy product a gate and
    step, bias included; only the GRU's candidate, which gates a part of its sum, has two. Each layer and
    direction is one site, whose draws differ by `step`. What lies between the products is digital.
    """

    def __init__(self, products: nn.LSTM | nn.GRU, first_site: int) -> None:
        if products.proj_size:
            raise UnknownRecurrenceError(f"proj_size: {products.proj_size} is not computed here; only 0 is")
        super().__init__()
        self.products = products
        self.directions = 2 if products.bidirectional else 1
        count = products.num_layers * self.directions
        self.sites = nn.ModuleList(GaussianNoise(first_site + index) for index in range(count))

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
        step = _LstmStep(self, place) if is_lstm else _GruStep(self, place)
        carry, out = over_steps(step, carry, (forwards, torch.arange(len(signal))))
        return carry, out.flip(0) if direction else out

    def weights(self, place: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of a layer and direction: for the input [gates, features], for the hidden state [gates, hidden]; biases."""
        layer, direction = divmod(place, self.directions)
        end = f"l{layer}{'_reverse' if direction else ''}"
        by_input: Tensor = getattr(self.products, f"weight_ih_{end}")
        by_hidden: Tensor = getattr(self.products, f"weight_hh_{end}")
        if not self.products.bias:
            zero = by_input.new_zeros(len(by_input))
            return by_input, by_hidden, zero, zero
        return by_input, by_hidden, getattr(self.products, f"bias_ih_{end}"), getattr(self.products, f"bias_hh_{end}")


class _LstmStep:
    """(hidden, memory) of one step to those of the next."""

    def __init__(self, recurrence: NoisyRecurrence, place: int) -> None:
        by_input, by_hidden, bias_input, bias_hidden = recurrence.weights(place)
        self.site = recurrence.sites[place]
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

    def __init__(self, recurrence: NoisyRecurrence, place: int) -> None:
        by_input, by_hidden, bias_input, bias_hidden = recurrence.weights(place)
        gates = 2 * recurrence.products.hidden_size  # reset and update, which sum both products
        self.site = recurrence.sites[place]
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
