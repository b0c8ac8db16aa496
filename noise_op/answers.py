"""What a network's last operation makes of its logits: votes need the logits themselves."""

from typing import Final, Literal

from torch import fx, nn

from noisevote.noise_op.products import module_of, operation

Cut = Literal["softmax", "log_softmax", "sigmoid"]

_MODULES: Final[dict[type[nn.Module], Cut]] = {
    nn.Softmax: "softmax", nn.LogSoftmax: "log_softmax", nn.Sigmoid: "sigmoid",
}  # fmt: skip
_FUNCTIONS: Final[dict[str, Cut]] = {
    "softmax": "softmax", "log_softmax": "log_softmax", "sigmoid": "sigmoid", "sigmoid_": "sigmoid",
}  # fmt: skip


def cut_probabilities(graph: fx.GraphModule) -> Cut | None:
    """Let a graph whose last operation is a softmax or sigmoid answer what that reads; returns what was cut off."""
    (output,) = (node for node in graph.graph.nodes if node.op == "output")
    answers = output.all_input_nodes
    if len(answers) != 1:
        return None
    last = answers[0]
    cut = _FUNCTIONS.get(operation(last)) or _MODULES.get(type(module_of(graph, last)))  # type: ignore[arg-type]  # None is in no dictionary
    if cut is None:
        return None
    output.replace_input_with(last, last.all_input_nodes[0])
    graph.graph.erase_node(last)
    graph.recompile()
    return cut
