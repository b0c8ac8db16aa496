"""Loss and gradients of one batch, computed each time anew or replayed as one CUDA graph."""

import math
from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax

from noisevote.noise_op.torch_twin import Draws, drawing
from noisevote.training.networks.network import Network
from noisevote.training.runs.recipe import Recipe

WARM_UP = 3  # computations before a capture: libraries choose their kernels, Triton compiles its own


class Compute(Protocol):
    """Puts the gradients of a batch's loss into the parameters."""

    def __call__(self, inputs: Tensor, labels: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Mean loss and share of right answers of the batch, each [].

        Args:
            inputs: float32 [batch, *input_shape].
            labels: int64 [batch].
            draws: of the whole network, for `loss_votes` votes of each input; `draws.output` of its last site, where
                that answers several times for each of them.
        """


class Gradients:
    """`Compute` step by step, on any device.

    Attributes:
        shown: the inputs that the network saw at the last step.
    """

    shown: Tensor

    def __init__(self, network: Network, recipe: Recipe) -> None:
        self.network = network
        self.recipe = recipe

    def begin(self, epoch: int) -> None:
        """Called before the steps of an epoch."""

    def at(self, epochs: float) -> None:
        """Called before each step with the epochs done so far, parts of one included."""

    def __call__(self, inputs: Tensor, labels: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Compute loss and gradients as `Compute` says."""
        self.shown = inputs
        with drawing(draws), autocast(self.recipe, inputs.device):
            votes = self.recipe.loss_votes * self.recipe.output_votes
            logits = voted(self.network(inputs).float(), votes)  # [batch, classes]
            loss = loss_of(logits, labels, self.recipe)
        self.network.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # untyped in torch
        return loss.detach(), (logits.argmax(1) == labels).float().mean()


class Replayed:
    """`Compute` of another, recorded at the first batch and replayed at each later one.

    A batch is a thousand small kernels, which a processor cannot start as fast as a graphics card ends them; a
    replay starts all of them at once. Every batch must have the shapes of the first.
    """

    def __init__(self, computed: Gradients) -> None:
        self._computed = computed
        self._graph: torch.cuda.CUDAGraph | None = None
        self._held: list[Tensor] = []
        self._answer: tuple[Tensor, Tensor] | None = None

    def __call__(self, inputs: Tensor, labels: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Compute loss and gradients as `Compute` says; the next batch overwrites the answers."""
        given = [inputs, labels, *_tensors(draws)]
        if self._graph is None or self._answer is None:
            self._held = [tensor.clone() for tensor in given]
            self._graph, self._answer = self._capture(draws)
        for held, tensor in zip(self._held, given, strict=True):
            held.copy_(tensor)
        self._graph.replay()
        return self._answer

    def _capture(self, draws: Draws) -> tuple[torch.cuda.CUDAGraph, tuple[Tensor, Tensor]]:
        inputs, labels, *tensors = self._held
        held = _with_tensors(draws, iter(tensors))
        network = self._computed.network
        before = {name: tensor.clone() for name, tensor in network.named_buffers()}
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # untyped in torch
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                self._computed(inputs, labels, held)
        torch.cuda.current_stream().wait_stream(side)
        with torch.no_grad():  # what the warm-up did to batch norms is undone
            for name, tensor in network.named_buffers():
                tensor.copy_(before[name])
        network.zero_grad()  # the graph then has gradients of its own, which each replay overwrites
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            answer = self._computed(inputs, labels, held)
        return graph, answer


def voted(logits: Tensor, votes: int) -> Tensor:
    """Log of the mean probabilities over each `votes` rows one after the other: [rows, classes] to [batch, classes].

    Their softmax is the mean, so they stand for the logits of the vote.
    """
    if votes == 1:
        return logits
    probabilities = log_softmax(logits, dim=1).reshape(-1, votes, logits.shape[1])
    return torch.logsumexp(probabilities, dim=1) - math.log(votes)


def loss_of(logits: Tensor, labels: Tensor, recipe: Recipe) -> Tensor:
    """Mean of (1 − p^q)/q, p the probability of the label: the generalised cross entropy of Zhang and Sabuncu (2018).

    At q = 0 it is the cross entropy. There, a vote that noise has turned over costs the more the surer it
    is, so the network hedges; towards q = 1 the loss is bounded and becomes the share of wrong votes.
    """
    if recipe.loss_power == 0:
        return cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
    log_p = -cross_entropy(logits, labels, reduction="none")
    return (-torch.expm1(recipe.loss_power * log_p) / recipe.loss_power).mean()


def autocast(recipe: Recipe, device: torch.device) -> torch.autocast:
    """The recipe's precision of products and signals."""
    # a graph would go on with the first batch's weights if their bfloat16 copies were kept
    kept = device.type == "cpu"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=recipe.precision == "bfloat16", cache_enabled=kept)


def _tensors(draws: Draws) -> list[Tensor]:
    own = [draws.sigma, draws.seed, draws.vote, *([] if draws.row is None else [draws.row])]
    return own if draws.output is None else own + _tensors(draws.output)


def _with_tensors(draws: Draws, tensors: Iterator[Tensor]) -> Draws:
    """Draws of the same parts, of the tensors that `_tensors` lists."""
    sigma, seed, vote = next(tensors), next(tensors), next(tensors)
    row = None if draws.row is None else next(tensors)
    return Draws(sigma, seed, vote, row, output=None if draws.output is None else _with_tensors(draws.output, tensors))
