"""Loads what is published: every variant of every version that can be served, each tried and timed first.

Whatever is wrong with a model refuses it by name, and nothing else: the others serve.
"""

import logging
import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from noisevote.engine.errors import BadModelError
from noisevote.engine.session_key import SessionKey
from noisevote.engine.trial import Expectation, Trial, TrialLimits
from noisevote.model_store.manifest import Manifest, Variant
from noisevote.model_store.store import BadManifestError, ModelStore, RefusedFileError
from noisevote.model_store.survey import Survey
from noisevote.service.models.registry import ModelRegistry, Refusal, ServedVersion
from noisevote.service.models.timings import KeptTimings, name_of
from noisevote.service.models.trying import AbandonedError, Trials, Tried
from noisevote.service.scheduling.batch_size import BatchProfile, Clock, measure
from noisevote.service.scheduling.engine import Engine

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadLimits:
    """What loading a model may take: seconds and memory of its trial, and bytes of one input."""

    trial: TrialLimits
    input_bytes: int


DEFAULT_LIMITS: Final = LoadLimits(TrialLimits(seconds=30, memory=4 * 2**30), input_bytes=32 * 2**20)


def load_models(
    store: ModelStore, engine: Engine, most_rows: int, clock: Clock, limits: LoadLimits = DEFAULT_LIMITS
) -> ModelRegistry:
    """Load every variant of every published version, and time batches of up to `most_rows` rows of each network.

    What cannot be loaded is refused by name.
    """
    return Loader(store, engine, most_rows, clock, limits).load()


class Loader:
    """Loads a store once; `abandon` ends that from another thread."""

    def __init__(
        self,
        store: ModelStore,
        engine: Engine,
        most_rows: int,
        clock: Clock,
        limits: LoadLimits = DEFAULT_LIMITS,
        timings: KeptTimings | None = None,
    ) -> None:
        self._store = store
        self._engine = engine
        self._most_rows = most_rows
        self._clock = clock
        self._limits = limits
        self._timings = timings or KeptTimings(None)
        self._trials: Trials | None = None
        self._abandoned = threading.Event()

    def load(self) -> ModelRegistry:
        """See `load_models`.

        Raises:
            AbandonedError: `abandon` was called.
        """
        self._timings.read()
        survey = self._store.survey()
        refusals = [Refusal(*remark) for remark in survey.unreadable]
        versions = {(each.manifest.name, each.manifest.version): each for each in self._versions(survey, refusals)}
        files = [(each.manifest, variant) for each in versions.values() for variant in each.manifest.variants]
        self._trials = Trials(files, self._attempt, lambda: self._engine.trial(self._limits.trial))
        if self._abandoned.is_set():
            raise AbandonedError
        for tried in self._trials:
            self._take(versions[tried.manifest.name, tried.manifest.version], tried)
        self._timings.write()
        models: dict[str, dict[str, ServedVersion]] = {}
        for (name, version), each in versions.items():
            refusals += [Refusal(f"{name} {version} {variant}", reason) for variant, reason in each.refused.items()]
            if len(each.refused) < len(each.manifest.variants):
                models.setdefault(name, {})[version] = each.served()
        ignored = tuple(Refusal(*remark) for remark in survey.ignored)
        for remark in ignored:
            logger.warning("ignored: %s: %s", *remark)
        return ModelRegistry(models, tuple(refusals), ignored)

    def abandon(self) -> None:
        """End loading as soon as possible, whatever hangs."""
        self._abandoned.set()
        if self._trials is not None:
            self._trials.abandon()

    def _versions(self, survey: Survey, refusals: list[Refusal]) -> Iterator["_Version"]:
        """Every version whose manifest can be used; the others are added to the refusals."""
        for name, version in survey.versions:
            try:
                yield _Version(self._store.manifest(name, version))
            except Exception as error:  # whatever it is, the manifest is what is wrong
                refusals.append(Refusal(f"{name} {version}", _reason(error, f"{name} {version}")))

    def _attempt(self, trial: Trial, manifest: Manifest, variant: Variant) -> bytes:
        """Read a variant's file and try it."""
        size = 4 * math.prod(manifest.input.shape)
        if size > self._limits.input_bytes:
            shape = list(manifest.input.shape)
            raise BadModelError(
                f"input.shape: an input of {shape} takes {size} bytes, more than {self._limits.input_bytes}"
            )
        if variant.bytes > self._limits.trial.memory // 2:  # its bytes, and what ONNX Runtime makes of them
            raise BadModelError(f"its {variant.bytes} bytes need more memory than loading may take")
        content = self._store.read(manifest, variant)
        trial.check(Expectation.of(manifest, variant), content)
        return content

    def _take(self, version: "_Version", tried: Tried) -> None:
        """Load a variant and time it, or refuse it."""
        key = SessionKey(tried.manifest.name, tried.manifest.version, tried.variant.name)
        try:
            if isinstance(tried.outcome, Exception):
                raise tried.outcome
            self._engine.load(key, tried.manifest, tried.outcome, tried=True)
            shape = _shape(tried.variant)
            if shape not in version.measured:
                arguments = self._engine, key, tried.manifest, self._most_rows, self._ticking
                name = name_of(tried.manifest, *shape)
                version.measured[shape] = self._timings.profile(name, lambda: measure(*arguments))
            version.profiles[key] = version.measured[shape]
        except AbandonedError:
            raise
        except Exception as error:  # whatever it is, the file is what is wrong
            self._engine.unload(key)
            version.refused[tried.variant.name] = _reason(error, str(key))

    def _ticking(self) -> float:
        """The clock, until loading is given up: timing looks at it before and after each run."""
        if self._abandoned.is_set():
            raise AbandonedError
        return self._clock()


@dataclass
class _Version:
    """A version while it is loaded. Variants of one network differ in weights, not in time: `measured` is of each."""

    manifest: Manifest
    refused: dict[str, str] = field(default_factory=dict)
    profiles: dict[SessionKey, BatchProfile] = field(default_factory=dict)
    measured: dict[tuple[str | int, ...], BatchProfile] = field(default_factory=dict)

    def served(self) -> ServedVersion:
        """As it is served."""
        loaded = tuple(variant for variant in self.manifest.variants if variant.name not in self.refused)
        return ServedVersion(self.manifest, loaded, self.refused, self.profiles)


def _reason(error: Exception, name: str) -> str:
    """Why something is refused, for people; what else is known goes to the log."""
    if isinstance(error, BadModelError | BadManifestError | RefusedFileError):
        detail = error.detail if isinstance(error, BadModelError) else ""
        logger.warning("refused: %s: %s%s", name, error, detail and f": {detail}")
        return str(error)
    logger.warning("refused: %s", name, exc_info=error)
    return f"loading it fails ({type(error).__name__})"


def _shape(variant: Variant) -> tuple[str | int, ...]:
    """What decides how long a vote of the variant takes."""
    size = (variant.parameters, variant.multiply_accumulates, variant.samples, variant.layers)
    return variant.network, variant.precision, *size
