"""Reads and tries the files of a store ahead of loading them, so that one that hangs keeps no other waiting.

Each worker thread has a `Trial` of its own. There is one; whenever nothing has come out of it for a while, another
one goes on with the next file. So several hanging files end together, at their time limit.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Final

from noisevote.engine.trial import Trial
from noisevote.model_store.manifest import Manifest, Variant

# A good file takes a fraction of a second.
PATIENCE_S: Final = 2.0
MOST_WORKERS: Final = 8
# Files that were tried and wait to be loaded, so that not the whole store is in memory twice.
AHEAD: Final = 2


class AbandonedError(Exception):
    """Loading was given up from outside."""


@dataclass(frozen=True)
class Tried:
    """A variant's file: its content, or why it is refused."""

    manifest: Manifest
    variant: Variant
    outcome: bytes | Exception


class Trials:
    """Iterating it gives every file once, in the order in which they get ready.

    Args:
        files: what to try.
        attempt: reads and tries a file; what it raises is the reason to refuse it.
        new_trial: what a worker tries its files with.
    """

    def __init__(
        self,
        files: Iterable[tuple[Manifest, Variant]],
        attempt: Callable[[Trial, Manifest, Variant], bytes],
        new_trial: Callable[[], Trial],
    ) -> None:
        self._files = deque(files)
        self._left = len(self._files)
        self._attempt = attempt
        self._new_trial = new_trial
        self._trials: list[Trial] = []
        self._tried: SimpleQueue[Tried | None] = SimpleQueue()
        self._room = threading.Semaphore(AHEAD)
        self._abandoned = threading.Event()

    def __iter__(self) -> Iterator[Tried]:
        """See above.

        Raises:
            AbandonedError: `abandon` was called.
        """
        while self._left:
            if not self._trials:
                self._add_worker()
            try:
                tried = self._tried.get(timeout=PATIENCE_S)
            except Empty:
                self._add_worker()
                continue
            if tried is None or self._abandoned.is_set():
                raise AbandonedError
            self._left -= 1
            yield tried
            self._room.release()

    def abandon(self) -> None:
        """End all trials at once. Any thread may call it."""
        self._abandoned.set()
        for trial in tuple(self._trials):
            trial.abandon()
            self._room.release()  # whoever waits for it sees that there is no more to do
        self._tried.put(None)

    def _add_worker(self) -> None:
        if self._files and len(self._trials) < MOST_WORKERS:
            trial = self._new_trial()
            self._trials.append(trial)
            self._room.release()  # a hanging file holds the room of another
            threading.Thread(target=self._work, args=(trial,), name="try models", daemon=True).start()

    def _work(self, trial: Trial) -> None:
        with closing(trial):
            while not self._abandoned.is_set():
                self._room.acquire()
                try:
                    manifest, variant = self._files.popleft()
                except IndexError:
                    return
                try:
                    outcome: bytes | Exception = self._attempt(trial, manifest, variant)
                except Exception as error:  # whatever it is, the file is what is wrong
                    outcome = error
                self._tried.put(Tried(manifest, variant, outcome))
