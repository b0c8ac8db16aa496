"""The site of a layer of any network: it bears the layer's name, and may have a scale and a kind of its own."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Final, Literal

import torch
from torch import Tensor

from noisevote.noise_op.contract import NOISE_KINDS, Activation, NoiseKind
from noisevote.noise_op.errors import UninjectableError
from noisevote.noise_op.torch_twin import Draws, GaussianNoise, current_draws, drawing

FIRST: Final = "<first>"
LAST: Final = "<last>"


@dataclass(frozen=True)
class Layers:
    """Which products are analog, and how noisy. A pattern is a layer's name or a glob over names, such as `blocks.*`.

    Attributes:
        digital: layers without noise; `FIRST` and `LAST` are the first and the last product.
        scale: pattern to what multiplies a request's sigma there; 0 silences a layer that keeps its site.
        kind: pattern to the kind of noise that a layer has whatever a request asks for.
        signals: whether products of two signals (attention's QKᵀ and AV) are analog too.
    """

    digital: tuple[str, ...] = ()
    scale: Mapping[str, float] = field(default_factory=dict)
    kind: Mapping[str, NoiseKind] = field(default_factory=dict)
    signals: Literal["digital", "analog"] = "digital"

    def __post_init__(self) -> None:
        if not isinstance(self.digital, tuple):  # a string would be a tuple of letters
            raise UninjectableError(f"digital: {self.digital!r} is no tuple of patterns")
        for pattern, scale in self.scale.items():
            if not 0 <= scale < float("inf"):
                raise UninjectableError(f"scale: {scale} of {pattern!r} is not a number from 0 up")
        for pattern, kind in self.kind.items():
            if kind not in NOISE_KINDS:
                raise UninjectableError(f"kind: {kind!r} of {pattern!r} is not one of {NOISE_KINDS}")
        if self.signals not in ("digital", "analog"):
            raise UninjectableError(f"signals: {self.signals!r} is neither 'digital' nor 'analog'")

    def digital_of(self, names: list[str]) -> set[str]:
        """The names, in the order of computation, of layers that are digital by choice."""
        chosen = {FIRST: names[:1], LAST: names[-1:]}
        found = set()
        for pattern in self.digital:
            found.update(chosen.get(pattern, _matching(pattern, names)))
        return found

    def refuse_unmatched(self, names: list[str]) -> None:
        """Refuse a pattern that no product's name matches: a misspelt one would change nothing, without a word."""
        for key, patterns in (("digital", self.digital), ("scale", tuple(self.scale)), ("kind", tuple(self.kind))):
            for pattern in patterns:
                if pattern not in (FIRST, LAST) and not _matching(pattern, names):
                    raise UninjectableError(f"{key}: {pattern!r} matches no product; there are {', '.join(names)}")


def _matching(pattern: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if fnmatchcase(name, pattern)]


@dataclass(frozen=True)
class RowLayout:
    """Where the rows are in a signal: dimension `dim`, in which each has `parts` places, together or every n-th."""

    dim: int = 0
    parts: int = 1
    scattered: bool = False

    def rows_first(self, x: Tensor) -> Tensor:
        """[rows, ...] of a signal that lies as this says."""
        x = x.movedim(self.dim, 0) if self.dim else x
        if self.parts == 1:
            return x
        if self.scattered:
            return x.reshape(self.parts, -1, *x.shape[1:]).movedim(1, 0)
        return x.reshape(-1, self.parts, *x.shape[1:])

    def as_it_was(self, y: Tensor) -> Tensor:
        """The reverse of `rows_first`."""
        if self.parts > 1:
            y = (y.movedim(0, 1) if self.scattered else y).flatten(0, 1)
        return y.movedim(0, self.dim) if self.dim else y


class LayerNoise(GaussianNoise):
    """A site after the product of the layer `name`.

    Attributes:
        name: of the layer: its path, or that of the weights, in the module.
        scale: multiplies every sigma.
        kind: the kind that every sigma means here; None: what is asked for.
        rows: where rows are in its signal.
    """

    def __init__(self, name: str, site: int, activation: Activation, layers: Layers) -> None:
        super().__init__(site, activation)
        self.name = name
        self.scale = 1.0
        for pattern, scale in layers.scale.items():
            self.scale = float(scale) if fnmatchcase(name, pattern) else self.scale
        self.kind: NoiseKind | None = None
        for pattern, kind in layers.kind.items():
            self.kind = kind if fnmatchcase(name, pattern) else self.kind
        self.rows = RowLayout()

    def forward(self, x: Tensor, step: Tensor | None = None) -> Tensor:
        """As `GaussianNoise.forward`, with this layer's scale and kind, wherever the rows are."""
        draws = current_draws()
        if draws is None or (self.scale == 1.0 and self.kind is None and self.rows == RowLayout()):
            y = super().forward(x, step)
        else:
            with drawing(self._own(draws)):
                y = self.rows.as_it_was(super().forward(self.rows.rows_first(x), step))
        return y if y.dtype == x.dtype else y.to(x.dtype)  # drawn in float32

    def _own(self, draws: Draws) -> Draws:
        if self.scale == 1.0 and self.kind is None:
            return draws
        sigma = draws.sigma
        if self.kind is not None:  # a row of sigma has one kind, so the sum is its sigma
            total = sigma.sum(dim=1, keepdim=True)
            none = torch.zeros_like(total)
            sigma = torch.cat((total, none) if self.kind == "multiplicative" else (none, total), dim=1)
        return replace(draws, sigma=sigma * self.scale)
