"""A traced network run operator by operator, so that no product goes unseen, and rows show where they are."""

import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from noisevote.noise_op.errors import UninjectableError
from noisevote.noise_op.layer_noise import LayerNoise, RowLayout
from noisevote.noise_op.noisy_recurrence import NoisyCell, NoisyRecurrence
from noisevote.noise_op.places import place
from noisevote.noise_op.products import Product, is_norm, module_of, operation, signals
from noisevote.noise_op.signal_products import AnalogAttention
from noisevote.noise_op.torch_twin import fanned_out_rows

# Parts of the names of ATen operators that multiply matrices. Composite ones have fallen apart into these.
_MULTIPLIES: Final = frozenset({
    "mm", "addmm", "bmm", "baddbmm", "addbmm", "smm", "sspaddmm", "hspmm", "mv", "addmv", "dot", "vdot", "matmul",
    "linear", "convolution", "conv1d", "conv2d", "conv3d", "conv", "attention", "transformer", "rnn", "lstm", "gru",
    "cdist", "euclidean", "trilinear", "bilinear", "tensordot", "inner", "einsum", "int8pack", "int4pack",
})  # fmt: skip
_SUMS: Final = frozenset({"sum", "mean"})
_KNOWN_NAMESPACES: Final = frozenset({"aten", "prims", "prim", "noisevote"})
TOLERANCE: Final = 1e-4  # of the largest value: rounding of another order of sums, and no more


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]  # untyped in torch
    """Notes what runs that multiplies a signal by weights, draws at random, or is no operator of torch's."""

    def __init__(self, weights: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.products: list[str] = []
        self.random: list[str] = []
        self._weights = {_storage(weight) for weight in weights}
        # A product by weights, element by element, whose sum would be a matrix-vector product: storage to the
        # dimensions in which both vary.
        self._scaled: dict[int, tuple[torch.Size, set[int]]] = {}

    def start(self) -> None:
        """Forget what ran before."""
        self.products, self.random = [], []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [x for x in tree_iter((args, kwargs)) if isinstance(x, Tensor)]
        out = func(*args, **(kwargs or {}))
        name = func._schema.name
        namespace, bare = name.split("::", 1)
        signal = any(_storage(x) not in self._weights for x in given)
        multiplies = not _MULTIPLIES.isdisjoint(bare.split("_"))
        if signal and given and (multiplies or namespace not in _KNOWN_NAMESPACES):
            self.products.append(name)
        if signal and self._sums_what_was_scaled(bare, args):
            self.products.append(f"{name} of what weights multiplied")
        if torch.Tag.nondeterministic_seeded in func.tags and "scaled_dot_product" not in bare:  # its dropout is 0
            self.random.append(name)
        for made in tree_iter(out):
            if isinstance(made, Tensor):
                self._note(bare, made, given, signal)
        return out

    def _note(self, name: str, made: Tensor, given: list[Tensor], signal: bool) -> None:
        storage = _storage(made)
        if not signal and given:
            self._weights.add(storage)
        elif all(made is not x and _storage(x) != storage for x in given):
            self._weights.discard(storage)
        if name != "mul" or len(given) != 2 or not signal:
            if not any(_storage(x) == storage for x in given):
                self._scaled.pop(storage, None)
            return
        of_weights = [_storage(x) in self._weights for x in given]
        if sum(of_weights) == 1:
            shapes = [(1,) * (made.dim() - x.dim()) + tuple(x.shape) for x in given]
            both = {at for at, sizes in enumerate(zip(*shapes, strict=True)) if min(sizes) > 1}
            self._scaled[storage] = (made.shape, both)

    def _sums_what_was_scaled(self, name: str, args: Any) -> bool:
        if name not in _SUMS or not isinstance(args[0], Tensor):
            return False
        shape, both = self._scaled.get(_storage(args[0]), (None, set()))
        if shape != args[0].shape:
            return False
        over = args[1] if len(args) > 1 and args[1] else range(args[0].dim())
        return not both.isdisjoint(at % args[0].dim() for at in over)


def _storage(x: Tensor) -> int:
    """What tells whether two tensors share their values."""
    if x.layout is not torch.strided:
        return id(x)
    return x.untyped_storage().data_ptr() or id(x)


class Watched(fx.Interpreter):
    """Runs a graph, and refuses a product that has no site and was not named digital; run it inside `recording`."""

    def __init__(self, graph: fx.GraphModule, products: dict[str, Product], parameters: Sequence[Tensor]) -> None:
        super().__init__(graph)
        self.extra_traceback = False  # errors name the place by themselves
        self.graph_module = graph
        self._products = products
        self._operators = _Operators(parameters)
        self._dependent = signals(graph.graph)

    def run_node(self, n: fx.Node) -> Any:
        """Run one node under watch."""
        self._operators.start()
        try:
            with self._operators:
                value = super().run_node(n)
        except UninjectableError:
            raise
        except Exception as error:
            raise UninjectableError(f"{place(n)}: {type(error).__name__}: {error}") from error
        if self._operators.random and not self.graph_module.training:
            raise UninjectableError(f"{place(n)}: {self._operators.random[0]} draws at random in evaluation mode")
        if n in self._dependent:
            self._judge(n)
        return value

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Votes do not fan out."""
        if target is fanned_out_rows:
            return args[0]
        return super().call_function(target, args, kwargs)

    def _judge(self, node: fx.Node) -> None:
        module = module_of(self.graph_module, node)
        if isinstance(module, NoisyRecurrence | NoisyCell | AnalogAttention | LayerNoise):
            return
        ran, known = self._operators.products, self._products.get(node.name)
        if known is None and ran:
            what = operation(node) or getattr(node.target, "__name__", str(node.target))
            raise UninjectableError(f"{place(node)}: {what} runs {ran[0]}, a product that would get no noise")
        if known is not None and known.of == "weights" and module is None and len(ran) != 1:
            raise UninjectableError(f"{place(node)}: {operation(node)} runs {len(ran)} products at once "
                                    f"({', '.join(ran)}), of which each needs noise")  # fmt: skip
        if not self.graph_module.training and is_norm(self.graph_module, node):
            _refuse_batch_statistics(module, node)


@contextmanager
def recording(network: nn.Module) -> Iterator[dict[int, Tensor]]:
    """Inside, sites pass their signals on without noise; yields what each one's first signal was."""
    signals_at: dict[int, Tensor] = {}
    sites = [module for module in network.modules() if isinstance(module, LayerNoise)]
    for site in sites:

        def passed_on(x: Tensor, step: Tensor | None = None, site: LayerNoise = site) -> Tensor:  # noqa: ARG001  # a site's signature
            signals_at.setdefault(site.site, x.detach().clone())
            return torch.relu(x) if site.activation == "relu" else x

        site.forward = passed_on  # type: ignore[method-assign]  # on purpose
    hooks = [(site, site._forward_pre_hooks, site._forward_hooks) for site in sites]
    for site in sites:  # hooks are for calls that draw
        site._forward_pre_hooks, site._forward_hooks = OrderedDict(), OrderedDict()
    try:
        yield signals_at
    finally:
        for site, before, after in hooks:
            del site.forward  # the class's own is back
            site._forward_pre_hooks, site._forward_hooks = before, after


def _refuse_batch_statistics(module: nn.Module | None, node: fx.Node) -> None:
    if isinstance(module, _BatchNorm):
        of_batch = module.running_mean is None
    else:
        at = 5
        of_batch = bool(node.args[at] if len(node.args) > at else node.kwargs.get("training", False))
    if of_batch:
        raise UninjectableError(f"{place(node)}: normalises by the statistics of its batch in evaluation mode "
                                "(track_running_stats=False), so that rows depend on one another")  # fmt: skip


def layout_of(name: str, two: Tensor, three: Tensor, other: Tensor) -> RowLayout:
    """Find rows in a site's signal, from its values at two rows, at three, and at three of which the second differs.

    Raises:
        UninjectableError: rows are in no dimension, in several, or depend on one another.
    """
    if two.dim() != three.dim():
        raise UninjectableError(f"{name}: its signal has other dimensions for other numbers of rows")
    grown = [at for at, (few, many) in enumerate(zip(two.shape, three.shape, strict=True)) if few != many]
    if len(grown) != 1 or three.shape[grown[0]] * 2 != two.shape[grown[0]] * 3:
        raise UninjectableError(f"{name}: no dimension of its signal {list(three.shape)} has the rows")
    (dim,) = grown
    parts = three.shape[dim] // 3
    away = (three - other).abs().movedim(dim, 0).flatten(1).amax(1)
    changed = set((away > TOLERANCE * max(float(three.abs().max()), 1e-30)).nonzero().flatten().tolist())
    together, scattered = changed <= set(range(parts, 2 * parts)), changed <= set(range(1, 3 * parts, 3))
    if together and scattered and parts > 1:
        raise UninjectableError(f"{name}: rows have {parts} places each in its signal, and the example does not show "
                                "which; give one of real, different inputs")  # fmt: skip
    if together or scattered:
        return RowLayout(dim, parts, scattered=not together)
    raise UninjectableError(f"{name}: its rows depend on one another")


def differs(found: Any, expected: Any) -> float:
    """The largest difference between two answers, relative to the largest value."""
    worst = 0.0
    for one, other in zip(tree_iter(found), tree_iter(expected), strict=True):
        if isinstance(one, Tensor) and isinstance(other, Tensor):
            if one.shape != other.shape:
                return math.inf
            scale = max(float(other.abs().max()), 1e-30) if other.numel() else 1.0
            worst = max(worst, float((one - other).abs().max()) / scale if other.numel() else 0.0)
    return worst
