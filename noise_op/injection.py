"""Noise after every product of any torch module: `inject_noise(module, kind, sigma)`.

The module is traced, in both modes, and each product gets a site of its own. Whatever multiplies matrices when the
network runs, and has no site and was not named digital, is refused: never silently left noiseless.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from noisevote.noise_op import tracing
from noisevote.noise_op.contract import NOISE_KINDS, NoiseKind
from noisevote.noise_op.errors import UninjectableError
from noisevote.noise_op.layer_noise import FIRST, LAST, Layers
from noisevote.noise_op.noisy_module import NoisyModule
from noisevote.noise_op.placing import Numbers, Placed, fan_out_inputs, fans_out_at_first_site, put_sites
from noisevote.noise_op.products import module_of
from noisevote.noise_op.torch_twin import GaussianNoise

__all__ = ["FIRST", "LAST", "Layers", "NoisyModule", "UninjectableError", "inject_noise"]

Example = Tensor | tuple[Any, ...]


def inject_noise(
    module: nn.Module,
    kind: NoiseKind,
    sigma: float,
    *,
    seed: int = 0,
    example: Example | None = None,
    layers: Layers = Layers(),  # noqa: B008  # frozen
) -> NoisyModule:
    """A copy of `module` with noise after each product: Conv, ConvTranspose, Linear, matmul and its like, recurrences.

    Noise stands after the batch norm that follows a product, as in Qin and Vučinić's Table 1, and a ReLU that comes
    next is fused into the site. Sites are numbered in the order of computation. Votes fan out at the first site where
    all of the answer depends on it, else at the input. Products of two signals, as in attention, are digital unless
    `layers` says otherwise. The weights are copies with the values of the given ones.

    Args:
        module: a classifier; its first dimension are the rows.
        kind: `multiplicative` or `additive`.
        sigma: standard deviation, relative to the signal or absolute; the same at every site.
        seed: of all draws of plain calls.
        example: its input, or a tuple of its inputs: some rows, at best real ones. With one, what torch.fx cannot
            trace is opened by torch.export, and the network is looked at now, see `NoisyModule.look`; without, it is
            at the first call.
        layers: which products are analog, and how noisy.

    Raises:
        UninjectableError: it cannot be traced, has no product, multiplies matrices in a way that is not known, or is
            refused by `NoisyModule.look`; kind or sigma is none.
    """
    if kind not in NOISE_KINDS:
        raise UninjectableError(f"kind: {kind!r} is not one of {NOISE_KINDS}")
    if not 0 <= sigma < float("inf"):
        raise UninjectableError(f"sigma: {sigma} is not a number from 0 up")
    given = example if isinstance(example, tuple) or example is None else (example,)
    if given is not None:
        _refuse_example(module, given)
    try:
        noisy = _injected(module, given, layers, opened=False)
    except UninjectableError as error:
        if given is None:
            raise UninjectableError(f"{error}; with an `example`, torch.export may open it") from error
        try:
            noisy = _injected(module, given, layers, opened=True)
        except UninjectableError as second:
            raise UninjectableError(f"{error}; and opened by torch.export: {second}") from second
    noisy.kind, noisy.sigma, noisy.seed = kind, float(sigma), seed
    return noisy.train(module.training)


def _refuse_example(module: nn.Module, example: tuple[Any, ...]) -> None:
    """Say at once that the module does not take an example, before tracers say so in their words."""
    module = tracing.copied(module)
    tracing.set_mode(module, False)
    try:
        with torch.no_grad():
            module(*example)
    except Exception as error:
        raise UninjectableError(f"example: {type(module).__name__} does not take it ({error})") from error


def _injected(module: nn.Module, example: tuple[Any, ...] | None, layers: Layers, opened: bool) -> NoisyModule:
    source = tracing.copied(module)
    if opened:
        assert example is not None
        traced = tracing.exported(source, example)
    else:
        traced = tracing.symbolic(source, len(example or ()))
    noisy = NoisyModule(traced, _put(traced, layers), source).eval()
    if example is not None:
        noisy.look(*example)
    return noisy


def _put(traced: tracing.Traced, layers: Layers) -> dict[bool, Placed]:
    """Sites in the graphs of both modes; `traced` then has one graph for both where they are alike."""
    graph, numbers = traced.module, Numbers()
    if traced.alike:
        traced.training = traced.evaluation
    modes = {False: traced.evaluation}
    if traced.training is not None and traced.training is not traced.evaluation:
        modes[True] = traced.training
    placed: dict[bool, Placed] = {}
    first: dict[bool, fx.Node] = {}
    for training, code in modes.items():
        graph.graph = code
        placed[training], first[training] = put_sites(graph, layers, numbers)
    _fan_out(graph, modes, first)
    for code in modes.values():
        code.lint()
    if len(modes) == 1:
        graph.delete_all_unused_submodules()
    graph.graph = traced.evaluation
    return {**placed, True: placed.get(True, placed[False])}


def _fan_out(graph: fx.GraphModule, modes: Mapping[bool, fx.Graph], first: Mapping[bool, fx.Node]) -> None:
    """At the first site of every mode, or at the inputs of every mode."""
    sites = set()
    for training, code in modes.items():
        graph.graph = code
        fans_out = fans_out_at_first_site(graph, first[training])
        sites.add(module_of(graph, first[training]) if fans_out else None)
    site = sites.pop()
    if not sites and isinstance(site, GaussianNoise):
        site.fan_out = True
        return
    for code in modes.values():
        graph.graph = code
        fan_out_inputs(graph)
