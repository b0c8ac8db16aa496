"""Starts the process that makes the load, and asks it for turns."""

import subprocess
import sys
from types import TracebackType
from typing import Self

from noisevote.loadtest.errors import GeneratorEndedError
from noisevote.loadtest.phase import Order
from noisevote.loadtest.sample import Turn


class Generator:
    """Locust in a process of its own; a context."""

    def __init__(self, url: str) -> None:
        self._command = (sys.executable, "-m", "noisevote.loadtest.generator", url)
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it. What Locust has to say goes to standard error."""
        pipe = subprocess.PIPE
        # Ctrl-C is for the command, which ends it.
        self._process = subprocess.Popen(self._command, stdin=pipe, stdout=pipe, text=True, start_new_session=True)

    def run(self, order: Order) -> Turn:
        """Send the phase's requests and wait for all answers. To be called after `start`.

        Raises:
            GeneratorEndedError: the process ended instead.
        """
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(f"{order.model_dump_json()}\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise GeneratorEndedError(process.wait())
        return Turn.model_validate_json(line)

    def close(self) -> None:
        """End it, at once."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
