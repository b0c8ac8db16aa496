"""What is attacked: a network under noise, seen through gradients averaged over its draws, and through its votes."""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from noisevote.noise_op.contract import NoiseKind, sigma_row
from noisevote.noise_op.torch_twin import Draws, drawing
from noisevote.training.attack.diversity import diverse
from noisevote.training.attack.steps import Gradient
from noisevote.training.noise.draws import laid_out
from noisevote.training.noise.silent import silenced

EOT_DRAWS: Final = 20


@dataclass(frozen=True)
class Noise:
    """The noise that a network runs under: input i of a batch draws with key seed + i, as in the service."""

    kind: NoiseKind = "multiplicative"
    sigma: float = 0.0
    seed: int = 0


class Target:
    """A network under noise, with gradients by expectation over transformation (Athalye et al. 2018, section 4).

    Every gradient is the mean over `draws` votes. They are fresh ones each time, as for an attacker who does not know
    the server's noise; with `known` they are always votes 0 … draws − 1 of the noise's seed, as for one who does.
    """

    def __init__(
        self, network: nn.Module, noise: Noise | None = None, *, draws: int | None = None, known: bool = False,
        bfloat16: bool = False,
    ) -> None:  # fmt: skip
        """What to attack.

        Args:
            network: rows to logits [rows, classes] inside `drawing`; put in evaluation mode. Without noise a copy is
                attacked, as it is now.
            noise: none: noiseless.
            draws: votes a gradient; by default 20, or 1 where there is no noise.
            known: the votes are known to the attacker.
            bfloat16: gradients are computed in bfloat16, votes in float32 all the same.
        """
        self.noise = noise or Noise()
        self.network = (silenced(network) if self.noise.sigma == 0 else network).eval()
        self.draws = draws or (EOT_DRAWS if self.noise.sigma > 0 else 1)
        self.known = known
        self.bfloat16 = bfloat16
        self._votes = 0

    def logits(
        self, inputs: Tensor, votes: int, first_vote: int = 0, first_input: int = 0, *, bfloat16: bool = False
    ) -> Tensor:
        """Logits [n, votes, classes] of votes first_vote, first_vote + 1, … of inputs [n, ...].

        Args:
            inputs: float32 in the pixel range.
            votes: of each input.
            first_vote: number of the first.
            first_input: number of the first input, which its seed counts from.
            bfloat16: products in bfloat16.
        """
        rows = len(inputs) * votes
        draws = self._rows(len(inputs), votes, first_vote, first_input, inputs.device)
        autocast = torch.autocast(inputs.device.type, torch.bfloat16, enabled=bfloat16, cache_enabled=False)
        with drawing(draws), autocast:
            found: Tensor = self.network(laid_out(inputs))
        return found.float().reshape(len(inputs), votes, -1) if len(found) == rows else _plain(found, votes)

    def gradient(
        self, labels: Tensor, generator: torch.Generator, diversity: float = 0.0, first_input: int = 0
    ) -> Gradient:
        """The gradient of the mean cross entropy of `draws` votes with the true labels, int64 [n], at any inputs.

        Args:
            labels: of the inputs.
            generator: draws how inputs are diverse, on the CPU.
            diversity: probability that an input is, see `diverse`.
            first_input: number of the first input, which its seed counts from.
        """

        def of(inputs: Tensor) -> Tensor:
            x = inputs.detach().requires_grad_()
            seen = diverse(x, diversity, generator) if diversity > 0 else x
            logits = self.logits(seen, self.draws, self._next_votes(), first_input, bfloat16=self.bfloat16)
            loss = self.losses(logits, labels).sum()
            (slope,) = torch.autograd.grad(loss, x)
            return slope

        return of

    @staticmethod
    def losses(logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross entropy of each input's votes, [n], of logits [n, votes, classes]."""
        votes, classes = logits.shape[1:]
        each = cross_entropy(logits.reshape(-1, classes), labels.repeat_interleave(votes), reduction="none")
        return each.reshape(-1, votes).mean(dim=1)

    def _next_votes(self) -> int:
        first = 0 if self.known else self._votes
        self._votes += self.draws
        return first

    def _rows(self, inputs: int, votes: int, first_vote: int, first_input: int, device: torch.device) -> Draws:
        sigma = torch.tensor([sigma_row(self.noise.kind, self.noise.sigma)], device=device)
        row = torch.arange(inputs, device=device).repeat_interleave(votes)
        return Draws(
            sigma=sigma.expand(inputs * votes, 2).contiguous(),
            seed=self.noise.seed + first_input + row,
            vote=(first_vote + torch.arange(votes, device=device)).repeat(inputs),
            row=None if votes == 1 else row,
        )


def _plain(logits: Tensor, votes: int) -> Tensor:
    """Of a network without any site, every vote is the same."""
    return logits.float()[:, None].expand(-1, votes, -1)
