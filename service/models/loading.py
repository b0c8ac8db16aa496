"""Loads what is published: every variant of every version that can be served, each tried and timed first.

Whatever is wrong with a model refuses it by name, and nothing else: the others serve.
"""

import logging
import math
import os
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

from noisevote.engine.errors import BadModelError
from noisevote.engine.footprint import Footprint
from noisevote.engine.session_key import SessionKey
from noisevote.engine.trial import BESIDE_PRIORITY, Expectation, Trial, TrialLimits
from noisevote.model_store.manifest import Manifest, Variant
from noisevote.model_store.store import BadManifestError, ModelStore, RefusedFileError
from noisevote.service.models.findings import Findings, name_of, trial_of
from noisevote.service.models.networks import (
    Network,
    VersionName,
    network_of,
    one_of_each_network_first,
    shape_of,
)
from noisevote.service.models.registry import ModelRegistry, Refusal, ServedVersion, session_key
from noisevote.service.models.trying import AbandonedError, Trials, Tried
from noisevote.service.scheduling.batch_size import BatchProfile, Clock, measure
from noisevote.service.scheduling.engine import Engine

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadLimits:
    """What loading a model may take: seconds and memory of its trial, and bytes of one input and of one batch."""

    trial: TrialLimits
    input_bytes: int
    batch_bytes: int


DEFAULT_LIMITS: Final = LoadLimits(
    TrialLimits(seconds=30, memory=4 * 2**30), input_bytes=32 * 2**20, batch_bytes=2 * 2**30
)


def load_models(
    store: ModelStore, engine: Engine, most_rows: int, clock: Clock, limits: LoadLimits = DEFAULT_LIMITS
) -> ModelRegistry:
    """Load every variant of every published version, and time batches of up to `most_rows` rows of each network.

    What cannot be loaded is refused by name.
    """
    found = look(store)
    loaded = Loader(store, engine, most_rows, clock, limits).load(found.manifests.values())
    return registry_of([version.served() for version in loaded], found)


@dataclass(frozen=True)
class Found:
    """What is in a store: manifests by (model, version), oldest version first; what is refused, and passed over."""

    manifests: Mapping[VersionName, Manifest]
    refusals: tuple[Refusal, ...] = ()
    ignored: tuple[Refusal, ...] = ()


def look(store: ModelStore) -> Found:
    """Read the manifests of all versions in a store; those that cannot be used are refused by name."""
    survey = store.survey()
    refusals = [Refusal(*remark) for remark in survey.unreadable]
    ignored = tuple(Refusal(*remark) for remark in survey.ignored)
    for remark in ignored:
        logger.warning("ignored: %s: %s", *remark)
    manifests: dict[VersionName, Manifest] = {}
    for name in survey.versions:
        manifest = read_manifest(store, name)
        if isinstance(manifest, Refusal):
            refusals.append(manifest)
        else:
            manifests[name] = manifest
    return Found(manifests, tuple(refusals), ignored)


def read_manifest(store: ModelStore, name: VersionName) -> Manifest | Refusal:
    """The manifest of a version, or why there is none that can be used."""
    try:
        return store.manifest(*name)
    except Exception as error:  # whatever it is, the manifest is what is wrong
        return Refusal(" ".join(name), _reason(error, " ".join(name)))


def registry_of(versions: Iterable[ServedVersion], found: Found) -> ModelRegistry:
    """What is served of these versions, and all that is refused."""
    models: dict[str, dict[str, ServedVersion]] = {}
    refusals = list(found.refusals)
    for each in versions:
        name, version = each.manifest.name, each.manifest.version
        refusals += [Refusal(f"{name} {version} {variant}", reason) for variant, reason in each.refused.items()]
        if each.variants:
            models.setdefault(name, {})[version] = each
    return ModelRegistry(models, tuple(refusals), found.ignored)


class Loader:
    """Loads versions of a store; `abandon` ends that from another thread, and whatever would be loaded later."""

    def __init__(
        self,
        store: ModelStore,
        engine: Engine,
        most_rows: int,
        clock: Clock,
        limits: LoadLimits = DEFAULT_LIMITS,
        findings: Findings | None = None,
    ) -> None:
        self._store = store
        self._engine = engine
        self._most_rows = most_rows
        self._clock = clock
        self._limits = limits
        self._findings = findings or Findings(None)
        self._known = False  # what earlier starts found out
        self._trials: Trials | None = None
        self._abandoned = threading.Event()
        self._measured: dict[Network, BatchProfile] = {}
        self._footprints: dict[Network, Footprint | None] = {}  # None: cannot be measured here

    def load(
        self,
        manifests: Iterable[Manifest],
        wanted: Callable[[Manifest, Variant], bool] = lambda *_: True,
        *,
        beside: bool = False,
        into_memory: bool = True,
    ) -> list["LoadedVersion"]:
        """Try, load and time the wanted variants of versions; see `load_models`.

        Args:
            manifests: of the versions.
            wanted: which variants.
            beside: others are being served, and have the processors before this.
            into_memory: False: files are tried and let go of.

        Raises:
            AbandonedError: `abandon` was called.
        """
        if not self._known:
            self._findings.read()
            self._known = True
        versions = {(manifest.name, manifest.version): LoadedVersion(manifest) for manifest in manifests}
        files = one_of_each_network_first(
            (each.manifest, variant)
            for each in versions.values()
            for variant in each.manifest.variants
            if wanted(each.manifest, variant)
        )
        trial_limits = replace(self._limits.trial, beside=beside)

        def attempt(trial: Trial, manifest: Manifest, variant: Variant) -> None:
            if beside:
                give_way()
            content = self._passed(trial, manifest, variant)
            if into_memory:
                self._engine.load(session_key(manifest, variant), manifest, content, tried=True)

        self._trials = Trials(files, attempt, lambda: self._engine.trial(trial_limits))
        if self._abandoned.is_set():
            raise AbandonedError
        if beside:
            give_way()
        for tried in self._trials:
            self._take(versions[tried.manifest.name, tried.manifest.version], tried, into_memory=into_memory)
        self._engine.tidy()
        self._findings.write()
        return list(versions.values())

    def abandon(self) -> None:
        """End loading as soon as possible, whatever hangs."""
        self._abandoned.set()
        if self._trials is not None:
            self._trials.abandon()

    def unfit(self, manifest: Manifest, variant: Variant) -> str | None:
        """Why a variant would be refused by what its manifest says alone; None: its file decides."""
        size = 4 * math.prod(manifest.input.shape)
        if size > self._limits.input_bytes:
            shape = list(manifest.input.shape)
            return f"input.shape: an input of {shape} takes {size} bytes, more than {self._limits.input_bytes}"
        if variant.bytes > self._limits.trial.memory // 2:  # its bytes, and what ONNX Runtime makes of them
            return f"its {variant.bytes} bytes need more memory than loading may take"
        return None

    def _passed(self, trial: Trial, manifest: Manifest, variant: Variant) -> bytes:
        """A variant's file, read and tried, unless one of the same bytes passed that before."""
        if (reason := self.unfit(manifest, variant)) is not None:
            raise BadModelError(reason)
        content = self._store.read(manifest, variant)
        expectation = Expectation.of(manifest, variant)
        name = trial_of(variant.sha256, expectation, self._limits.trial)
        unweighed = not self._weighed(manifest, variant)
        if unweighed or not self._findings.passed(name):
            footprint = trial.check(expectation, content, weigh=unweighed)
            self._findings.note_passed(name)
            if unweighed:
                self._note(manifest, variant, footprint)
        if self._rows(manifest, variant) == 0:
            raise BadModelError(self._too_large(manifest, variant))
        return content

    def _weighed(self, manifest: Manifest, variant: Variant) -> bool:
        """Whether the memory of the network's batches is known, now or from an earlier start."""
        network = network_of(manifest, variant)
        if network not in self._footprints:
            name = name_of(manifest, *shape_of(variant))
            if not self._findings.weighed(name):
                return False
            self._footprints[network] = self._findings.footprint(name)
        return True

    def _note(self, manifest: Manifest, variant: Variant, footprint: Footprint | None) -> None:
        self._footprints[network_of(manifest, variant)] = footprint
        self._findings.note_footprint(name_of(manifest, *shape_of(variant)), footprint)

    def _rows(self, manifest: Manifest, variant: Variant) -> int:
        """Rows of the variant's largest batch: as many as its memory allows; 0 if it allows none."""
        footprint = self._footprints.get(network_of(manifest, variant))
        if footprint is None:
            return self._most_rows
        return footprint.rows_within(self._limits.batch_bytes, self._most_rows)

    def _too_large(self, manifest: Manifest, variant: Variant) -> str:
        footprint = self._footprints[network_of(manifest, variant)]
        assert footprint is not None  # else nothing would be too large
        smallest = "a vote" if footprint.step == 1 else f"the smallest batch, of {footprint.step} votes,"
        return (
            f"{smallest} takes {footprint.bytes(1)} bytes of memory, more than batch_bytes ({self._limits.batch_bytes})"
        )

    def _take(self, version: "LoadedVersion", tried: Tried, *, into_memory: bool) -> None:
        """Time a variant that was loaded, or refuse it."""
        key = session_key(tried.manifest, tried.variant)
        try:
            if tried.problem is not None:
                raise tried.problem
            if into_memory:
                version.profiles[key] = self._profile(key, tried.manifest, tried.variant)
        except AbandonedError:
            raise
        except Exception as error:  # whatever it is, the file is what is wrong
            self._engine.unload(key)
            version.refused[tried.variant.name] = _reason(error, str(key))

    def _profile(self, key: SessionKey, manifest: Manifest, variant: Variant) -> BatchProfile:
        """The variant's times. Variants of one network differ in weights, not in time: it is timed once for a model."""
        network = network_of(manifest, variant)
        if network not in self._measured:
            footprint, rows = self._footprints.get(network), self._rows(manifest, variant)
            arguments = self._engine, key, manifest, rows, self._ticking, 1 if footprint is None else footprint.step
            name = name_of(manifest, *shape_of(variant), rows)
            timed = self._findings.profile(name, lambda: measure(*arguments))
            self._measured[network] = replace(timed, footprint=footprint)
        return self._measured[network]

    def _ticking(self) -> float:
        """The clock, until loading is given up: timing looks at it before and after each run."""
        if self._abandoned.is_set():
            raise AbandonedError
        return self._clock()


@dataclass
class LoadedVersion:
    """A version after it was loaded: batch profiles of what is in memory, and why other variants are refused."""

    manifest: Manifest
    refused: dict[str, str] = field(default_factory=dict)
    profiles: dict[SessionKey, BatchProfile] = field(default_factory=dict)

    def served(self) -> ServedVersion:
        """As it is served, with all variants that are not refused."""
        good = tuple(variant for variant in self.manifest.variants if variant.name not in self.refused)
        return ServedVersion(self.manifest, good, self.refused, self.profiles)


def give_way() -> None:
    """Let threads that answer requests have the processors before this one, on Linux; it stays so to its end."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), BESIDE_PRIORITY)


def _reason(error: Exception, name: str) -> str:
    """Why something is refused, for people; what else is known goes to the log."""
    if isinstance(error, BadModelError | BadManifestError | RefusedFileError):
        detail = error.detail if isinstance(error, BadModelError) else ""
        logger.warning("refused: %s: %s%s", name, error, detail and f": {detail}")
        return str(error)
    logger.warning("refused: %s", name, exc_info=error)
    return f"loading it fails ({type(error).__name__})"
