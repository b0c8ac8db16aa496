"""How much memory a batch of a file takes while it is computed, as two measured batches tell it of all others."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Footprint:
    """Bytes that a batch takes: `base`, and `row` for each row; rows are computed in multiples of `step`."""

    base: int
    row: int
    step: int = 1

    def __post_init__(self) -> None:
        """Refuse what cannot be measured, such as what a file holds that somebody changed."""
        if self.base < 0 or self.row < 0 or self.step < 1:
            raise ValueError(f"{self} is no footprint")

    @classmethod
    def through(cls, small: tuple[int, int], large: tuple[int, int], step: int) -> "Footprint":
        """The straight line through two measured batches, each (rows, bytes)."""
        (few, less), (many, more) = small, large
        row = max(0, math.ceil((more - less) / (many - few)))
        return cls(max(0, more - row * many), row, step)

    def bytes(self, rows: int) -> int:
        """Of a batch of so many rows."""
        return self.base + self.row * self.step * math.ceil(rows / self.step)

    def rows_within(self, most_bytes: int, most_rows: int) -> int:
        """The largest batch that takes no more, of at most so many rows; 0 if there is none."""
        if self.bytes(most_rows) <= most_bytes:
            return most_rows
        if self.bytes(self.step) > most_bytes:
            return 0
        return (most_bytes - self.base) // (self.row * self.step) * self.step
