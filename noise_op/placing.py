"""Sites put into a traced network: one after every product that is analog."""

from dataclasses import dataclass, field
from typing import Any

from torch import fx, nn

from noisevote.noise_op.contract import Activation
from noisevote.noise_op.errors import UninjectableError
from noisevote.noise_op.in_place import keep_signals
from noisevote.noise_op.layer_noise import LayerNoise, Layers
from noisevote.noise_op.noisy_recurrence import CELLS, NoisyCell, NoisyRecurrence, UnknownRecurrenceError
from noisevote.noise_op.places import place
from noisevote.noise_op.products import (
    Product,
    is_recurrence,
    is_relu,
    module_of,
    norm_after,
    only_user,
    products,
    signals,
)
from noisevote.noise_op.signal_products import AnalogAttention, is_attention
from noisevote.noise_op.torch_twin import GaussianNoise, fanned_out_rows


@dataclass
class Placed:
    """What became of the products of a graph.

    Attributes:
        products: of which node (by its name) is known what it multiplies.
        digital: names of products without a site: by choice, of two signals, or of weights alone.
    """

    products: dict[str, Product] = field(default_factory=dict)
    digital: list[str] = field(default_factory=list)


class Numbers:
    """Numbers the sites of all graphs of a module: a layer has the same number in each."""

    def __init__(self) -> None:
        self._of: dict[str, int] = {}
        self._next = 0

    def of(self, name: str, count: int = 1) -> int:
        """The number of a layer's site, or of the first of its `count` sites."""
        if name not in self._of:
            self._of[name] = self._next
            self._next += count
        return self._of[name]


def put_sites(graph: fx.GraphModule, layers: Layers, numbers: Numbers) -> tuple[Placed, fx.Node]:
    """A site after every product of the graph that the module has now; returns also the node of the first.

    Raises:
        UninjectableError: there is none, or a product is not known.
    """
    _drop_identities(graph)
    keep_signals(graph)
    known, placed, sites = products(graph), Placed(), list[fx.Node]()
    placed.products = {node.name: product for node, product in known.items()}
    names = _names(graph, known)
    layers.refuse_unmatched(list(names.values()))
    by_choice = layers.digital_of(list(names.values()))
    for node, name in names.items():
        digital_signals = node in known and known[node].of == "signals" and layers.signals == "digital"
        if name in by_choice or digital_signals:
            placed.digital.append(name)
            placed.products.setdefault(node.name, Product(name, "signals"))  # a recurrence: as many as it likes
        elif is_recurrence(graph, node):
            sites.append(_put_recurrence(graph, node, name, layers, numbers))
        elif is_attention(node):
            sites.append(_put_attention(graph, node, name, layers, numbers))
        else:
            sites.append(_put_site(graph, node, name, layers, numbers))
    placed.digital += [product.name for product in known.values() if product.of == "constant"]
    if not sites:
        raise UninjectableError("module: no product was found in it that would get noise")
    return placed, sites[0]


def fans_out_at_first_site(graph: fx.GraphModule, first: fx.Node) -> bool:
    """Whether the whole answer depends on the inputs through the first site; else what goes past has other rows."""
    return isinstance(module_of(graph, first), GaussianNoise) and not _goes_past(graph, first)


def fan_out_inputs(graph: fx.GraphModule) -> None:
    """Let votes fan out at every input."""
    for node in [node for node in graph.graph.nodes if node.op == "placeholder"]:
        with graph.graph.inserting_after(node):
            rows = graph.graph.call_function(fanned_out_rows, (node,))
        node.replace_all_uses_with(rows, delete_user_cb=lambda user, rows=rows: user is not rows)


def _drop_identities(graph: fx.GraphModule) -> None:
    for node in list(graph.graph.nodes):
        if isinstance(module_of(graph, node), nn.Identity):
            node.replace_all_uses_with(node.args[0] if node.args else next(iter(node.kwargs.values())))
            graph.graph.erase_node(node)


def _names(graph: fx.GraphModule, known: dict[fx.Node, Product]) -> dict[fx.Node, str]:
    """The layers with a product of a signal, in the order of computation."""
    signal, counts, names = signals(graph.graph), dict[str, int](), dict[fx.Node, str]()
    for node in graph.graph.nodes:
        if node in known and known[node].of != "constant":
            names[node] = known[node].name
        elif is_recurrence(graph, node) and node in signal:
            name = str(node.target)
            counts[name] = counts.get(name, 0) + 1
            names[node] = name if counts[name] == 1 else f"{name}:{counts[name]}"
    return names


def _put_site(graph: fx.GraphModule, product: fx.Node, name: str, layers: Layers, numbers: Numbers) -> fx.Node:
    signal = norm_after(graph, product) or product
    relu = only_user(signal)
    relu = relu if relu is not None and is_relu(graph, relu) else None
    activation: Activation = "none" if relu is None else "relu"
    target = _add_site(graph, LayerNoise(name, numbers.of(name), activation, layers))
    with graph.graph.inserting_after(signal):
        site = graph.graph.call_module(target, (signal,))
    site.meta = dict(signal.meta)
    (relu or signal).replace_all_uses_with(site, delete_user_cb=lambda user: user is not site)
    if relu is not None:
        graph.graph.erase_node(relu)
    return site


def _add_site(graph: fx.GraphModule, site: LayerNoise) -> str:
    """The path of a site; the same layer in the other mode's graph shares it, unless a ReLU is fused in one alone."""
    target = f"noise_{site.site}"
    present = getattr(graph, target, None)
    if present is not None and present.activation != site.activation:
        target = f"{target}_{site.activation}"
    if not hasattr(graph, target):
        graph.add_submodule(target, site)
    return target


def _put_recurrence(graph: fx.GraphModule, node: fx.Node, name: str, layers: Layers, numbers: Numbers) -> fx.Node:
    """A noisy recurrence, or cell, in place of torch's."""
    module: Any = module_of(graph, node)
    target = str(node.target) if name == node.target else f"{node.target}_{name.rsplit(':', 1)[1]}"
    if isinstance(module, NoisyRecurrence | NoisyCell):
        if name == node.target:  # the graph of the other mode put it there
            return node
        module = module.products
    try:
        noisy: nn.Module
        if isinstance(module, CELLS):
            noisy = NoisyCell(module, LayerNoise(name, numbers.of(name), "none", layers))
        else:
            count = module.num_layers * (2 if module.bidirectional else 1)
            noisy = NoisyRecurrence(
                module, numbers.of(name, count), lambda end, site: LayerNoise(f"{name}.{end}", site, "none", layers)
            )
    except UnknownRecurrenceError as error:
        raise UninjectableError(f"{place(node)}: {error}") from error
    graph.add_submodule(target, noisy)
    node.target = target
    return node


def _put_attention(graph: fx.GraphModule, node: fx.Node, name: str, layers: Layers, numbers: Numbers) -> fx.Node:
    """Attention computed product by product, with a site after each."""
    first = numbers.of(name, 2)
    target = f"analog_attention_{first}"
    if not hasattr(graph, target):
        sites = [LayerNoise(f"{name}.{end}", first + at, "none", layers) for at, end in enumerate(("scores", "values"))]
        graph.add_submodule(target, AnalogAttention(*sites))
    with graph.graph.inserting_before(node):
        noisy = graph.graph.call_module(target, node.args, dict(node.kwargs))
    noisy.meta = dict(node.meta)
    node.replace_all_uses_with(noisy)
    graph.graph.erase_node(node)
    return noisy


def _goes_past(graph: fx.GraphModule, site: fx.Node) -> bool:
    """Whether something of the inputs, if only their number, reaches the answer without passing the site."""
    open_nodes = [node for node in graph.graph.nodes if node.op == "placeholder"]
    seen = {site, *open_nodes}
    while open_nodes:
        node = open_nodes.pop()
        if node.op == "output":
            return True
        open_nodes += [user for user in node.users if user not in seen]
        seen.update(node.users)
    return False
