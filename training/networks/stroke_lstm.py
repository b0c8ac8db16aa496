"""The paper's LSTM for pen strokes."""

from typing import ClassVar, Final

import torch
from torch import Tensor, nn

from noisevote.noise_op.recurrence import over_steps
from noisevote.noise_op.torch_twin import GaussianNoise, fanned_out
from noisevote.training.data.strokes import POINTS, SIDE
from noisevote.training.networks.layers import NoisyLayer
from noisevote.training.networks.network import Network

MIDDLE: Final = (SIDE - 1) / 2
SPREAD: Final = 10.0  # pixels: makes positions about as large as displacements
FEATURES: Final = 4

Carry = tuple[Tensor, Tensor, Tensor]  # hidden state, cell state and sum of hidden states, each [rows, hidden]
Element = tuple[Tensor, Tensor]  # features [rows, 4] of one step, and its number, int64 []


class StrokeLstm(Network):
    """One LSTM cell (Hochreiter and Schmidhuber 1997, with forget gates): [N, 56, 2] pixels to logits [N, 10].

    Each step multiplies [position, displacement, hidden state] once by the weights of all four gates, as an
    array of analog multipliers would, and noise is added to the gates' pre-activations: one site, whose draws differ
    by `step`. The logits are one more product of the *mean* hidden state, with noise on it. So a vote has 56 + 1
    noisy products one after another.

    The paper's lengths did not survive; 56 points leave 96 % of the sequences whole, and 128 hidden units
    are our choice. Two more are ours and are digital, without products and therefore without noise: the cell sees the
    displacement beside the position, and the mean over all steps is read out rather than the last hidden
    state, because noise on a forget gate loses a memory within a few steps, which the mean makes up for.

    There is no batch norm, so `free_scale` changes nothing: under additive noise the weights are free to grow.
    """

    title = "MNIST pen strokes, LSTM"
    description = "Handwritten digits as pen points in order; one LSTM step a point, noise after each product."
    preprocessing = (
        "Points [x, y] are pixels of a 28×28 image, x to the right and y down, one for each pixel that the pen passes; "
        "a jump to the next point lifts the pen. Inside the graph: (x - 13.5) / 10, the same of y, and the "
        "displacement since the point before."
    )
    data_set = "mnist-strokes"
    input_shape = (POINTS, 2)
    value_range = (0.0, float(SIDE - 1))
    padding = "repeat_last"
    recipe_defaults: ClassVar = {
        "epochs": 40,
        "batch": 256,
        "lr": 6e-3,
        "clip_norm": 1.0,
        "average_decay": 0.995,
        "norm_batches": 0,
    }
    hidden: ClassVar[int] = 128
    # Whether the exported recurrence is one Scan or unrolled; benchmarks/recurrence.py compares them.
    scanned: ClassVar[bool] = True

    def __init__(self, *, free_scale: bool) -> None:
        super().__init__(free_scale=free_scale)
        self.cell = NoisyLayer(nn.Linear(FEATURES + self.hidden, 4 * self.hidden), None, GaussianNoise(0))
        self.output = NoisyLayer(nn.Linear(self.hidden, 10), None, GaussianNoise(1, output=True))
        with torch.no_grad():  # a cell that forgets nothing learns sooner (Gers et al. 2000; Jozefowicz et al. 2015)
            self.cell.product.bias[self.hidden : 2 * self.hidden] += 1  # type: ignore[index]  # it has a bias

    def forward(self, points: Tensor) -> Tensor:
        """Logits of the points, drawing noise from the surrounding `noise_op.torch_twin.drawing`."""
        features = fanned_out(self.features(points)).transpose(0, 1)  # [points, rows, features]
        start = [features.new_zeros(features.shape[1], self.hidden) for _ in range(3)]
        steps = torch.arange(len(features))
        carry = start[0], start[1], start[2]
        (_, _, total), _ = over_steps(self.step, carry, (features, steps), scanned=self.scanned)
        return self.output(total / len(features))  # type: ignore[no-any-return]  # untyped __call__

    def features(self, points: Tensor) -> Tensor:
        """Position and displacement since the point before, [N, points, 2] → [N, points, 4]."""
        moves = points[:, 1:] - points[:, :-1]
        moves = torch.cat((torch.zeros_like(points[:, :1]), moves), dim=1)  # the first point came from nowhere
        return torch.cat(((points - MIDDLE) / SPREAD, moves), dim=2)

    def step(self, carry: Carry, element: Element) -> tuple[Carry, tuple[()]]:
        """One time step; the products' noise is that of this step."""
        hidden, memory, total = carry
        features, number = element
        gates = self.cell(torch.cat((features, hidden), dim=1), number).float()  # [rows, 4 * hidden]
        enter, keep, new, show = gates.chunk(4, dim=1)
        memory = torch.sigmoid(keep) * memory + torch.sigmoid(enter) * torch.tanh(new)
        hidden = torch.sigmoid(show) * torch.tanh(memory)
        return (hidden, memory, total + hidden), ()
