"""How a refusal names a place in a network: module path, operation and line."""

import re
from typing import Final

from torch import fx

_FRAME: Final = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)')


def module_path(node: fx.Node) -> str:
    """The path of the module whose forward made this node, "" for the outermost one."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path = str(stack[-1][0]) if stack else ""
    return "" if path.startswith("_") else path


def place(node: fx.Node) -> str:
    """Where a node comes from: `layers.0 (network.py:17), node matmul_1`."""
    frames = list(_FRAME.finditer(node.stack_trace or ""))
    last = next((frame for frame in reversed(frames) if "/torch/" not in frame["file"]), None)
    line = f" ({last['file'].rsplit('/', 1)[-1]}:{last['line']})" if last else ""
    return f"{module_path(node) or 'module'}{line}, node {node.name}"
