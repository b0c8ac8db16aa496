"""Keeps the log short while something happens over and over."""

import logging
import time
from collections.abc import Callable
from typing import Final

PERIOD_S: Final = 60.0
# Kinds that are remembered; whoever makes up more of them gets lines without tracebacks.
MOST_KINDS: Final = 1000


class OncePerMinute:
    """Says whether something of a kind may be told again. Pure: time is passed in."""

    def __init__(self, period_s: float = PERIOD_S) -> None:
        self._period_s = period_s
        self._told: dict[str, float] = {}
        self._untold: dict[str, int] = {}

    def allow(self, kind: str, now: float) -> int | None:
        """How often it happened untold since it was last told; None: not again yet."""
        told = self._told.get(kind)
        if told is not None and now - told < self._period_s:
            self._untold[kind] = self._untold.get(kind, 0) + 1
            return None
        if told is None and len(self._told) >= MOST_KINDS:
            self._forget(now)
            if len(self._told) >= MOST_KINDS:
                return None
        self._told[kind] = now
        return self._untold.pop(kind, 0)

    def _forget(self, now: float) -> None:
        for kind in [kind for kind, told in self._told.items() if now - told >= self._period_s]:
            del self._told[kind]
            self._untold.pop(kind, None)


class RareTracebacks(logging.Filter):
    """Shows the traceback of an error once per kind and minute, and else its type and message in one line."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._limit = OncePerMinute()

    def filter(self, record: logging.LogRecord) -> bool:
        """Every record passes; some without their traceback."""
        error = record.exc_info[1] if record.exc_info else None
        if error is None:
            return True
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = "" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
        if self._limit.allow(f"{type(error).__name__} {place}", self._clock()) is None:
            text = f"{record.getMessage().strip()}: {type(error).__name__}: {str(error)[:200]!r} at {place} (as before)"
            record.msg, record.args, record.exc_info, record.exc_text = text, (), None, None
        return True
