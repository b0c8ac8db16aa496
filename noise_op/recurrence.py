"""A loop over time steps that is plain Python while training, and one Scan in an exported graph."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._higher_order_ops.scan import scan  # torch's own name for it is not public yet

Carry = tuple[Tensor, ...]
Elements = tuple[Tensor, ...]
Step = Callable[[Any, Any], tuple[Any, Tensor | tuple[()]]]


def over_steps(step: Step, carry: Carry, elements: Elements, *, scanned: bool = True) -> tuple[Any, Any]:
    """What `torch.scan` does: `step` for each element along dimension 0, which hands its carry to the next.

    Args:
        step: (carry, elements of one step) to (carry, what the step gives out: a tensor, or nothing: ()).
        carry: what the first step gets.
        elements: tensors [steps, ...].
        scanned: become one Scan in an exported graph; otherwise it is unrolled there.

    Returns:
        The last carry, and what the steps gave out, [steps, ...] or ().
    """
    if scanned and torch.compiler.is_exporting():
        return scan(step, carry, elements)
    given: list[Tensor] = []
    for element in zip(*(tensor.unbind(0) for tensor in elements), strict=True):
        carry, out = step(carry, element)
        if isinstance(out, Tensor):
            given.append(out)
    return carry, torch.stack(given) if given else ()
