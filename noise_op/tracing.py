"""A module as graphs: one as it computes in evaluation mode, one as it does while training, over the same weights."""

import copy
import inspect
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, fx, nn

from noisevote.noise_op.errors import UninjectableError
from noisevote.noise_op.noisy_recurrence import NoisyCell, NoisyRecurrence
from noisevote.noise_op.torch_twin import GaussianNoise


@dataclass
class Traced:
    """Holds `module`, with every weight and submodule that either graph names, and the graph of each mode.

    `training` is None where the module cannot be traced in training mode; `why` says why.
    """

    module: fx.GraphModule
    evaluation: fx.Graph
    training: fx.Graph | None
    why: str = ""

    @property
    def alike(self) -> bool:
        """Whether both modes compute the same, but for what modules themselves decide by their mode."""
        return self.training is not None and _code(self.training) == _code(self.evaluation)


def symbolic(module: nn.Module, given: int = 0) -> Traced:
    """Trace by running `forward` on proxies: torch's own modules stay whole, and no example is needed.

    Args:
        module: is left in training mode.
        given: how many arguments an example has; those behind keep their defaults where they are None or where it
            cannot be traced otherwise.

    Raises:
        UninjectableError: it cannot be traced so.
    """
    try:
        return _symbolic(module, {name: None for name, default in _defaults(module, given).items() if default is None})
    except UninjectableError:
        defaults = _defaults(module, given)
        if all(default is None for default in defaults.values()):
            raise
        return _symbolic(module, defaults)


def _defaults(module: nn.Module, given: int) -> dict[str, Any]:
    """The defaults of the arguments of `forward` behind the first `given`."""
    arguments = list(inspect.signature(module.forward).parameters.values())[given:]
    return {it.name: it.default for it in arguments if it.default is not it.empty}


def _symbolic(module: nn.Module, fixed: dict[str, Any]) -> Traced:
    graphs: dict[bool, fx.Graph] = {}
    why = ""
    for training in (False, True):
        set_mode(module, training)
        try:
            graphs[training] = _Tracer(fixed).trace(module)
        except Exception as error:  # whatever a forward raises on proxies
            why = f"{type(module).__name__}: cannot be traced ({type(error).__name__}: {error})"
            if not training:
                raise UninjectableError(why) from error
    return _held(module, graphs, why)


def exported(module: nn.Module, example: tuple[Any, ...]) -> Traced:
    """Trace by torch.export with an example: functions and modules are opened down to ATen operators.

    Raises:
        UninjectableError: it cannot be exported.
    """
    graphs: dict[bool, fx.Graph] = {}
    why = ""
    rows = tuple({0: torch.export.Dim.AUTO} if isinstance(x, Tensor) and x.dim() else None for x in example)
    for training in (False, True):
        set_mode(module, training)
        try:
            with _quiet(), torch.random.fork_rng(), _kept_buffers(module):
                program = torch.export.export(module, example, dynamic_shapes=_by_argument(module, rows), strict=False)
                opened = program.module(check_guards=False)
        except Exception as error:  # whatever torch.export raises
            first = str(error).strip().splitlines()[0] if str(error).strip() else ""
            why = f"{type(module).__name__}: torch.export cannot open it ({type(error).__name__}: {first})"
            if not training:
                raise UninjectableError(why) from error
            continue
        assert isinstance(opened, fx.GraphModule)
        for node in opened.graph.nodes:  # constants that the export lifted
            if node.op == "get_attr" and not _has(module, str(node.target)):
                _attach(module, str(node.target), _attribute(opened, str(node.target)))
        for node in list(opened.graph.nodes):
            if node.op == "call_function" and "_assert" in str(node.target):
                opened.graph.erase_node(node)
        for node in opened.graph.nodes:  # what else it notes cannot be copied
            node.meta = {key: node.meta[key] for key in ("nn_module_stack", "stack_trace") if key in node.meta}
        graphs[training] = opened.graph
    return _held(module, graphs, why)


class _Tracer(fx.Tracer):
    """Sites stay whole, as torch's own modules do; what a forward writes into buffers stays in the graph.

    The arguments of `fixed` have the values given there, and are no inputs of the graph.
    """

    proxy_buffer_attributes = True

    def __init__(self, fixed: Mapping[str, Any] = MappingProxyType({})) -> None:
        super().__init__()
        self.record_stack_traces = True
        self._fixed = fixed

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> Any:
        function, arguments = super().create_args_for_root(root_fn, is_module, concrete_args)
        names = inspect.unwrap(root_fn).__code__.co_varnames
        for at, name in enumerate(names[: len(arguments)]):
            if name in self._fixed and isinstance(arguments[at], fx.Proxy):
                self.graph.erase_node(arguments[at].node)
                arguments[at] = self._fixed[name]
        return function, arguments

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        ours = isinstance(m, GaussianNoise | NoisyRecurrence | NoisyCell)
        return ours or (not isinstance(m, fx.GraphModule) and super().is_leaf_module(m, module_qualified_name))


def set_mode(module: nn.Module, training: bool) -> None:
    """`module.train(training)`; a module that torch.export made has its mode fixed."""
    for part in module.modules():
        part.training = training


def _held(module: nn.Module, graphs: dict[bool, fx.Graph], why: str) -> Traced:
    evaluation, training = graphs[False], graphs.get(True)
    held = fx.GraphModule(module, evaluation, type(module).__name__)
    for node in training.nodes if training is not None else ():
        if node.op in ("get_attr", "call_module") and not _has(held, str(node.target)):
            _attach(held, str(node.target), _attribute(module, str(node.target)))
    return Traced(held, evaluation, training, why)


def _code(graph: fx.Graph) -> str:
    return str(graph.python_code("self").src)


def _attribute(module: nn.Module, path: str) -> Any:
    found: Any = module
    for part in path.split("."):
        found = getattr(found, part)
    return found


def _has(module: nn.Module, path: str) -> bool:
    try:
        _attribute(module, path)
    except AttributeError:
        return False
    return True


def _attach(module: nn.Module, path: str, value: Any) -> None:
    """Set a weight, buffer or submodule at a path, with empty modules on the way to it."""
    *way, last = path.split(".")
    for part in way:
        if not hasattr(module, part):
            module.add_module(part, nn.Module())
        module = getattr(module, part)
    if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
        module.register_buffer(last, value)
    else:
        setattr(module, last, value)


def _by_argument(module: nn.Module, rows: tuple[Any, ...]) -> Any:
    """torch.export wants a shape for each argument, and one tuple where `forward` takes `*inputs`."""
    code = getattr(type(module).forward, "__code__", None)
    takes_any = code is not None and bool(code.co_flags & 0x04) and code.co_argcount == 1
    return (rows,) if takes_any else rows


@contextmanager
def _kept_buffers(module: nn.Module) -> Iterator[None]:
    """Statistics that an export in training mode might change are put back."""
    before = {name: copy.deepcopy(value) for name, value in module.named_buffers()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, value in module.named_buffers():
                if name in before and not torch.equal(value, before[name]):
                    value.copy_(before[name])


def copied(thing: Any) -> Any:
    """A deep copy, without what torch warns of when it copies its own deprecated classes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`isinstance\\(treespec, LeafSpec\\)` is deprecated", FutureWarning)
        return copy.deepcopy(thing)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what torch.export warns of about itself, and its log of what is raised anyway."""
    names = ("torch._subclasses.fake_tensor", "torch.fx.experimental.symbolic_shapes")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
