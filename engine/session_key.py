"""The name of a session."""

from typing import NamedTuple


class SessionKey(NamedTuple):
    """One variant of one published version."""

    model: str
    version: str
    variant: str

    def __str__(self) -> str:
        return f"{self.model} {self.version} {self.variant}"
