"""Tries files while the server is imported: both take about as long, and there are other processors."""

import threading
from collections.abc import Callable, Iterable, Iterator
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
    """Tries one file after another on a thread of its own, until it is asked for the first one.

    It answers at once for files that it has tried by then, and tries the others when they are asked for.
    """

    def __init__(self, kernel: Kernel | None, limits: TrialLimits) -> None:
        super().__init__(kernel, limits)
        self._thread: threading.Thread | None = None
        self._asked = threading.Event()
        self._tried: dict[tuple[str, Expectation], Tried] = {}

    def begin(self, files: Files, read: Read) -> None:
        """Start the process, and try these files, the first of each network first.

        The process ends with the thread that starts it: with the one that calls this, not with the one that tries.
        """
        self.start()
        self._thread = threading.Thread(target=self._try, args=(files, read), name="try models ahead", daemon=True)
        self._thread.start()

    def check(self, expectation: Expectation, content: bytes, *, weigh: bool = False) -> Footprint | None:
        """See `Trial.check`."""
        self._take_over()
        tried = self._tried.pop((sha256(content).hexdigest(), expectation), None)
        if tried is None or (weigh and not tried.weighed):
            return super().check(expectation, content, weigh=weigh)
        if isinstance(tried.found, BadModelError):
            raise tried.found
        return tried.found

    def close(self) -> None:
        """End thread and process."""
        if self._thread is not None:
            self.abandon()
            self._take_over()
        super().close()

    def _take_over(self) -> None:
        """Wait for the file that is being tried; no other one follows."""
        self._asked.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _try(self, files: Files, read: Read) -> None:
        """See above. What cannot be read is left to whoever asks for it, and so is what follows a file that is bad."""
        seen: set[Network] = set()
        with suppress(StoreError, OSError):
            for manifest, variant in one_of_each_network_first(files()):
                if self._asked.is_set() or variant.bytes > self.limits.memory // 2:
                    return
                weigh = network_of(manifest, variant) not in seen
                seen.add(network_of(manifest, variant))
                if isinstance(self._note(manifest, variant, read(manifest, variant), weigh=weigh), BadModelError):
                    return

    def _note(self, manifest: Manifest, variant: Variant, content: bytes, *, weigh: bool) -> Found:
        expectation = Expectation.of(manifest, variant)
        try:
            found: Found = super().check(expectation, content, weigh=weigh)
        except BadModelError as error:
            found = error
        self._tried[variant.sha256, expectation] = Tried(found, weigh)
        return found


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
