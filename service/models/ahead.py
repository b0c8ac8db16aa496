"""Tries files while the server is imported, and beside what loads them: there are other processors."""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256

from noisevote.engine.errors import BadModelError
from noisevote.engine.footprint import Footprint
from noisevote.engine.trial import Expectation, TrialLimits
from noisevote.engine.trial_process import TrialProcess
from noisevote.model_store.manifest import Manifest, Variant
from noisevote.model_store.store import ModelStore, StoreError
from noisevote.noise_op.library import Kernel, load_kernel
from noisevote.service.models.choice import Choice
from noisevote.service.models.networks import Network, network_of, one_of_each_network_first
from noisevote.service.settings import Settings

Files = Callable[[], Iterable[tuple[Manifest, Variant]]]
Read = Callable[[Manifest, Variant], bytes]
# What a trial found, or why its file is refused.
Found = Footprint | BadModelError | None


@dataclass(frozen=True)
class Tried:
    """What was found of a file, and whether it was weighed too."""

    found: Found
    weighed: bool


class TrialAhead(TrialProcess):
    """Tries one file after another on a thread of its own, and answers for those when they are asked for.

    Files that it does not come to are tried when they are asked for, as others do.
    """

    def __init__(self, kernel: Kernel | None, limits: TrialLimits) -> None:
        super().__init__(kernel, limits)
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()
        self._using = threading.Lock()  # the process
        self._planned = threading.Event()  # what will be tried is known
        self._planned.set()
        self._plan: dict[tuple[str, Expectation], Future[Tried]] = {}

    def begin(self, files: Files, read: Read) -> None:
        """Start the process, and try these files, the first of each network first.

        The process ends with the thread that starts it: with the one that calls this, not with the one that tries.
        """
        self.start()
        self._planned.clear()
        self._thread = threading.Thread(target=self._try, args=(files, read), name="try models ahead", daemon=True)
        self._thread.start()

    def check(self, expectation: Expectation, content: bytes, *, weigh: bool = False) -> Footprint | None:
        """See `Trial.check`."""
        self._planned.wait()
        future = self._plan.pop((sha256(content).hexdigest(), expectation), None)
        if future is not None:
            with suppress(CancelledError):
                tried = future.result()
                if isinstance(tried.found, BadModelError):
                    raise tried.found
                if tried.weighed or not weigh:
                    return tried.found
        return self._check(expectation, content, weigh=weigh)

    def close(self) -> None:
        """End thread and process."""
        self._ended.set()
        if self._thread is not None:
            if self._thread.is_alive():
                self.abandon()
            self._thread.join()
        super().close()

    def _check(self, expectation: Expectation, content: bytes, *, weigh: bool) -> Footprint | None:
        """Try a file now. What is bad may end the process, and the next one must not end with the thread here."""
        with self._using:
            try:
                return super().check(expectation, content, weigh=weigh)
            except BadModelError:
                self._ended.set()
                raise

    def _try(self, files: Files, read: Read) -> None:
        """See above. Whatever cannot be read is left to whoever asks for it."""
        futures: dict[tuple[str, Expectation], Future[Tried]] = {}
        try:
            planned = [(Expectation.of(*file), *file) for file in one_of_each_network_first(files())]
            futures |= {(variant.sha256, expectation): Future() for expectation, _, variant in planned}
            self._plan = dict(futures)
            self._planned.set()
            seen: set[Network] = set()
            for expectation, manifest, variant in planned:
                future, network = futures[variant.sha256, expectation], network_of(manifest, variant)
                if self._ended.is_set() or variant.bytes > self.limits.memory // 2:
                    return
                if not future.done():
                    content = read(manifest, variant)
                    future.set_result(self._tried(expectation, content, weigh=network not in seen))
                    seen.add(network)
        except (StoreError, OSError):
            return
        finally:
            self._planned.set()
            for future in futures.values():
                future.cancel()

    def _tried(self, expectation: Expectation, content: bytes, *, weigh: bool) -> Tried:
        try:
            return Tried(self._check(expectation, content, weigh=weigh), weigh)
        except BadModelError as error:
            return Tried(error, weigh)


def trial_ahead(settings: Settings) -> TrialProcess | None:
    """What tries the files that a start loads, and has begun; None where it may not be needed.

    That is where files are tried by their first request, and where an earlier start kept what passed.
    """
    kept = settings.timings_file is not None and settings.timings_file.exists()
    if kept or settings.lazy or settings.model_bytes is not None:
        return None
    store = ModelStore(settings.model_store)
    trial = TrialAhead(load_kernel(), TrialLimits(settings.load_seconds, settings.load_bytes))
    trial.begin(lambda: _files(store, Choice(settings.models, settings.newest_versions)), store.read)
    return trial


def _files(store: ModelStore, choice: Choice) -> Iterator[tuple[Manifest, Variant]]:
    """The files of what is to be served, without those of manifests that cannot be read."""
    for name in choice.of(store.survey().versions):
        try:
            manifest = store.manifest(*name)
        except StoreError:
            continue
        yield from ((manifest, variant) for variant in manifest.variants)
