"""The name of a session."""

from typing import NamedTuple


class SessionKey(NamedTuple):
    """One variant of one published version, made of the file with the sha256 `file`.

    While a version is replaced by one of the same number, there are two that differ in nothing but the file.
    """

    model: str
    version: str
    variant: str
    file: str = ""

    def __str__(self) -> str:
        return " ".join(self.labels)

    @property
    def labels(self) -> tuple[str, str, str]:
        """Model, version and variant."""
        return self[:3]
