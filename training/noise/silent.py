"""Noiseless networks without the work of drawing noise: at sigma 0 a site passes its signal on exactly."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from torch import Tensor, nn
from torch.nn.functional import relu

from noisevote.noise_op.torch_twin import GaussianNoise

Module = TypeVar("Module", bound=nn.Module)


def silence(module: nn.Module) -> None:
    """Let every site of the module only activate; votes no longer fan out, so each input is one row."""
    for site in module.modules():
        if isinstance(site, GaussianNoise):
            site.forward = _relu if site.activation == "relu" else _same  # type: ignore[method-assign]  # on purpose


@contextmanager
def silent(module: nn.Module) -> Iterator[None]:
    """Inside, the module is silent; see `silence`."""
    silence(module)
    try:
        yield
    finally:
        for site in module.modules():
            if isinstance(site, GaussianNoise):
                del site.forward  # the class's own is back


def silenced(module: Module) -> Module:
    """A copy of the module that is silent; see `silence`."""
    copied = copy.deepcopy(module)
    silence(copied)
    return copied


def _relu(x: Tensor, step: Tensor | None = None) -> Tensor:  # noqa: ARG001  # a site's signature
    return relu(x)


def _same(x: Tensor, step: Tensor | None = None) -> Tensor:  # noqa: ARG001  # as above
    return x
