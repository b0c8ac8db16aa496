"""Lines that are drawn again in their place while something goes on."""

import shutil
import sys
from collections.abc import Sequence
from typing import TextIO


class Screen:
    """A terminal's last lines. On what is no terminal only the last drawing is printed, by `end`."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self.live = self._stream.isatty()
        self._drawn = 0

    @property
    def columns(self) -> int:
        """How wide a line may be."""
        return shutil.get_terminal_size().columns if self.live else 80

    @property
    def fine(self) -> bool:
        """Whether it can show more than ASCII."""
        encoding = getattr(self._stream, "encoding", None) or "ascii"
        try:
            "█".encode(encoding)
        except (UnicodeEncodeError, LookupError):
            return False
        return True

    def draw(self, lines: Sequence[str]) -> None:
        """Show lines in the place of those that were drawn before, as many as the terminal is high."""
        if not self.live:
            return
        room = max(1, shutil.get_terminal_size().lines - 1)
        self._write([line[: self.columns - 1] for line in lines[:room]])

    def end(self, lines: Sequence[str]) -> None:
        """Show these lines for good."""
        if self.live:
            self._write([])
        encoding = getattr(self._stream, "encoding", None) or "ascii"
        for line in lines:
            print(line.encode(encoding, "replace").decode(encoding), file=self._stream, flush=True)

    def _write(self, lines: Sequence[str]) -> None:
        up = f"\x1b[{self._drawn}F" if self._drawn else ""
        self._stream.write(up + "\x1b[J" + "".join(f"{line}\n" for line in lines))
        self._stream.flush()
        self._drawn = len(lines)
