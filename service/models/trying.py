"""Reads, tries and loads the files of a store on threads, so that one that hangs keeps no other waiting.

Each worker thread has a `Trial` of its own. There is one; whenever nothing has come out of it for a while, another
one goes on with the next file. So several hanging files end together, at their time limit. What was loaded is timed
meanwhile, by whoever iterates.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from noisevote.engine.trial import Trial
from noisevote.model_store.manifest import Manifest, Variant

# A good file takes a fraction of a second.
PATIENCE_S: Final = 3.0
MOST_WORKERS: Final = 8
# Killed processes are gone within milliseconds.
LEAVE_S: Final = 0.5


class AbandonedError(Exception):
    """Loading was given up from outside."""


@dataclass(frozen=True)
class Tried:
    """A variant's file, and why it is refused, if it is."""

    manifest: Manifest
    variant: Variant
    problem: Exception | None


class Trials:
    """Iterating it gives every file once, in the order in which they get ready.

    Args:
        files: what to try.
        attempt: reads, tries and loads a file; what it raises is the reason to refuse it.
        new_trial: what a worker tries its files with.
    """

    def __init__(
        self,
        files: Iterable[tuple[Manifest, Variant]],
        attempt: Callable[[Trial, Manifest, Variant], None],
        new_trial: Callable[[], Trial],
    ) -> None:
        self._files = deque(files)
        self._left = len(self._files)
        self._attempt = attempt
        self._new_trial = new_trial
        self._changed = threading.Condition()  # guards what follows
        self._trials: list[Trial] = []
        self._workers: list[threading.Thread] = []
        self._tried: deque[Tried] = deque()
        self._abandoned = False

    def __iter__(self) -> Iterator[Tried]:
        """See above.

        Raises:
            AbandonedError: `abandon` was called.
        """
        while self._left:
            tried = self._next()
            if tried is None:
                self._await_workers()
                raise AbandonedError
            self._left -= 1
            yield tried

    def abandon(self) -> None:
        """End all trials at once. Any thread may call it."""
        with self._changed:
            self._abandoned = True
            for trial in self._trials:
                trial.abandon()
            self._changed.notify_all()

    def _next(self) -> Tried | None:
        """The next file that is ready; None if there will be none any more."""
        with self._changed:
            if not self._trials:
                self._add_worker()
            while not self._tried and not self._abandoned:
                if not self._changed.wait(PATIENCE_S):
                    self._add_worker()
            if self._abandoned:
                return None
            return self._tried.popleft()

    def _add_worker(self) -> None:
        if self._files and len(self._trials) < MOST_WORKERS:
            trial = self._new_trial()
            self._trials.append(trial)
            worker = threading.Thread(target=self._work, args=(trial,), name="try models", daemon=True)
            worker.start()
            self._workers.append(worker)

    def _await_workers(self) -> None:
        """Let them take leave of their processes, unless a file system keeps them."""
        deadline = time.monotonic() + LEAVE_S
        for worker in self._workers:
            worker.join(max(0.0, deadline - time.monotonic()))

    def _work(self, trial: Trial) -> None:
        with closing(trial):
            while (file := self._take()) is not None:
                problem = None
                try:
                    self._attempt(trial, *file)
                except Exception as error:  # whatever it is, the file is what is wrong
                    problem = error
                with self._changed:
                    self._tried.append(Tried(*file, problem))
                    self._changed.notify_all()

    def _take(self) -> tuple[Manifest, Variant] | None:
        """The next file; None tells the thread to end."""
        with self._changed:
            return self._files.popleft() if self._files and not self._abandoned else None
