"""The models of a store in this process: what is served of them, what is in memory, and what takes the place of what.

A request holds the `ServedVersion` that it resolved, and as long as anything does, its sessions stay. So what is
replaced or unloaded drains by itself, whatever protocol a request came by; then its sessions are let go of.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Final

from noisevote.engine.session_key import SessionKey
from noisevote.model_store.manifest import Manifest, Variant
from noisevote.model_store.store import ModelStore
from noisevote.service.errors import RefusedModelError
from noisevote.service.models.background import BackgroundTasks, in_thread, until_cancelled
from noisevote.service.models.choice import Choice
from noisevote.service.models.draining import Draining
from noisevote.service.models.entries import by_age, entry_of, is_meant, refuse_unknown
from noisevote.service.models.inspection import Fingerprint, Inspection, inspect
from noisevote.service.models.loading import Found, LoadedVersion, Loader, registry_of
from noisevote.service.models.networks import VersionName
from noisevote.service.models.on_demand import LOOK_S, OnDemand
from noisevote.service.models.registry import ModelRegistry, Refusal, ServedVersion, session_key
from noisevote.service.models.repository import State, VersionEntry
from noisevote.service.models.residents import Residents
from noisevote.service.scheduling.dispatcher import Dispatcher
from noisevote.service.scheduling.engine import Engine

# A version that is published again is gone for an instant.
REPLACING_S: Final = 0.5
# How long `unload` waits for requests that hold what it unloads; afterwards they go on, and it says `unloading`.
UNLOAD_S: Final = 10.0


class LocalRepository:
    """See `Repository`. All of it belongs to the event loop; files are read and tried on other threads.

    Args:
        store: the models.
        loader: loads them.
        engine: has their sessions.
        dispatcher: has their requests.
        choice: what of the store is to be served.
        lazy: a variant is loaded by its first request.
        most_bytes: of the files of sessions in memory; beyond, those are unloaded that were used longest ago and have
            no votes queued. Needs `lazy`.
        keeps: what is replaced stays until `keep` says what does not, because requests are held elsewhere.
    """

    def __init__(
        self,
        store: ModelStore,
        loader: Loader,
        engine: Engine,
        dispatcher: Dispatcher,
        choice: Choice | None = None,
        *,
        lazy: bool = False,
        most_bytes: int | None = None,
        keeps: bool = False,
    ) -> None:
        self.registry = ModelRegistry({}, ())
        self._store = store
        self._loader = loader
        self._engine = engine
        self._dispatcher = dispatcher
        self._choice = choice or Choice()
        self._lazy = lazy
        self._residents = Residents(most_bytes)
        self._tasks = BackgroundTasks()
        self._on_demand = OnDemand(
            loader, engine, dispatcher, self._residents, self._tasks, self.holding, self._serve_without
        )
        self._draining = Draining(self._unload_session, self._tasks, keeps=keeps)
        self._served: dict[VersionName, ServedVersion] = {}
        self._fingerprints: dict[VersionName, Fingerprint] = {}
        self._problems: dict[VersionName, str] = {}
        self._loading: set[VersionName] = set()
        self._passed_over: tuple[tuple[Refusal, ...], tuple[Refusal, ...]] = (), ()
        self._one_at_a_time = asyncio.Lock()
        self._changed: Callable[[ModelRegistry], None] = lambda _: None
        self._gone: Callable[[SessionKey], None] = lambda _: None

    def watch(self, changed: Callable[[ModelRegistry], None], gone: Callable[[SessionKey], None]) -> None:
        """Let be told what is served whenever it changes, and of sessions that are unloaded and not served any more."""
        self._changed, self._gone = changed, gone

    async def open(self) -> ModelRegistry:
        """Load what is to be served. What cannot be is refused by name. Cancelled, it ends at once, whatever hangs.

        Raises:
            NoSuchModelError: the settings name a model that is not there.
        """
        if self._lazy:
            self._dispatcher.tell_of_use(self._on_demand.use)
        async with self._one_at_a_time:
            found = await in_thread(self._inspect)
            self._choice.check(found.survey.versions)
            await self._take_up(found, found.manifests, first=True)
        return self.registry

    async def close(self) -> None:
        """Give up what is being loaded."""
        self._loader.abandon()
        await self._tasks.cancel()

    async def index(self) -> tuple[VersionEntry, ...]:
        """See `Repository`."""
        survey = await in_thread(self._store.survey)
        names = sorted({*survey.versions, *self._served, *self._problems}, key=by_age)
        return tuple(self._entry(name, there=name in survey.versions) for name in names)

    async def load(self, name: str, version: str | None = None) -> tuple[VersionEntry, ...]:
        """See `Repository`."""
        async with self._one_at_a_time:
            survey = await in_thread(self._store.survey)
            refuse_unknown(name, version, survey.versions, "in the store")
            self._choice.load(name, version)
            asked = [each for each in self._choice.of(survey.versions) if is_meant(each, name, version)]
            found = await in_thread(partial(self._inspect, asked))
            await self._take_up(found, found.manifests)
            if problems := [f"{' '.join(each)}: {self._problems[each]}" for each in asked if each in self._problems]:
                raise RefusedModelError(f"model: {'; '.join(problems)}")
        return await self._entries(name, version)

    async def unload(self, name: str, version: str | None = None) -> tuple[VersionEntry, ...]:
        """See `Repository`."""
        async with self._one_at_a_time:
            there = {*(await in_thread(self._store.survey)).versions, *self._served}
            refuse_unknown(name, version, there, "in the store or served")
            self._choice.unload(name, version)
            for each in there:
                if is_meant(each, name, version):
                    self._problems.pop(each, None)
                    self._fingerprints.pop(each, None)
            left = {each: served for each, served in self._served.items() if not is_meant(each, name, version)}
            leaving = self._install(left)
        if leaving:
            await asyncio.wait(leaving, timeout=UNLOAD_S)
        return await self._entries(name, version)

    async def refresh(self) -> tuple[VersionEntry, ...]:
        """See `Repository`."""
        async with self._one_at_a_time:
            found = await in_thread(self._inspect)
            if found.missing(self._served):
                await asyncio.sleep(REPLACING_S)
                found = await in_thread(self._inspect)
            if missing := found.missing(self._served):
                self._install({name: served for name, served in self._served.items() if name not in missing})
            await self._take_up(found, found.changed(self._fingerprints))
            if superseded := found.superseded(self._served):
                self._install({name: served for name, served in self._served.items() if name not in superseded})
        return await self.index()

    def holding(self, session: SessionKey) -> ServedVersion | None:
        """The version, served or kept, that a session belongs to."""
        for served in (*self._served.values(), *self._draining.kept):
            if any(served.key(variant) == session for variant in served.variants):
                return served
        return None

    def keep(self, sessions: Iterable[SessionKey]) -> None:
        """Let go of what is not served any more, but for these sessions."""
        self._draining.keep(sessions)

    def _inspect(self, names: Iterable[VersionName] | None = None) -> Inspection:
        return inspect(self._store, self._choice, names)

    async def _take_up(
        self, found: Inspection, manifests: Mapping[VersionName, Manifest | Refusal], *, first: bool = False
    ) -> None:
        """Load what has changed of these versions, and serve what is good."""
        self._passed_over = found.unreadable, found.ignored
        new: dict[VersionName, Manifest] = {}
        for name, manifest in manifests.items():
            self._fingerprints[name] = found.fingerprints[name]
            self._problems.pop(name, None)
            served = self._served.get(name)
            if isinstance(manifest, Refusal):
                self._problems[name] = manifest.reason
            elif served is None or served.manifest != manifest or served.refused:
                new[name] = manifest
        self._loading = set(new)
        try:
            loaded = await self._load(new, first=first) if new else []
        finally:
            self._loading = set()
        self._install(self._served | self._good(loaded, first=first))

    async def _load(self, new: Mapping[VersionName, Manifest], *, first: bool) -> list[LoadedVersion]:
        kept = {(*name, variant.name): key for name in new for variant, key in self._same(name, new[name])}
        wanted = {(*name, variant.name) for name, manifest in new.items() for variant in manifest.variants} - set(kept)
        if self._lazy and first:
            loaded = [LoadedVersion(manifest) for manifest in new.values()]
        else:
            loading = partial(
                self._loader.load,
                list(new.values()),
                lambda manifest, variant: (manifest.name, manifest.version, variant.name) in wanted,
                beside=not first,
                into_memory=not self._lazy,
            )
            loaded = await until_cancelled(loading, self._loader.abandon)
        profiles = self.registry.profiles()
        for version in loaded:
            for variant in version.manifest.variants:
                key = session_key(version.manifest, variant)
                if key in kept.values() and key in profiles:
                    version.profiles[key] = profiles[key]
                if (reason := self._unfit(version.manifest, variant)) is not None:
                    version.refused[variant.name] = reason
        return loaded

    def _same(self, name: VersionName, manifest: Manifest) -> list[tuple[Variant, SessionKey]]:
        """The variants of a manifest whose sessions are there and are what it describes, whatever else it says."""
        served = self._served.get(name)
        if served is None or _contract(served.manifest) != _contract(manifest):
            return []
        certifies = {served.key(variant): variant.certifies for variant in served.variants}
        keys = [(variant, session_key(manifest, variant)) for variant in manifest.variants]
        return [(variant, key) for variant, key in keys if certifies.get(key, -1.0) == variant.certifies]

    def _good(self, loaded: list[LoadedVersion], *, first: bool) -> dict[VersionName, ServedVersion]:
        """Those that may be served; beside others of their model only whole ones, so that none gets worse."""
        good: dict[VersionName, ServedVersion] = {}
        for version in loaded:
            name = (version.manifest.name, version.manifest.version)
            if version.refused:
                reasons = "; ".join(f"variant {variant}: {why}" for variant, why in version.refused.items())
                self._problems[name] = reasons
            if not version.refused or first or all(model != name[0] for model, _ in self._served):
                good[name] = version.served()
            else:
                for session in set(version.profiles) - set(self.registry.profiles()):
                    self._engine.unload(session)
        return {name: served for name, served in good.items() if served.variants}

    def _install(self, versions: Mapping[VersionName, ServedVersion]) -> list[asyncio.Future[None]]:
        """Serve these versions from now on; what is served no longer drains. Returns what tells of its end."""
        before, self._served = self._served, {name: versions[name] for name in sorted(versions, key=by_age)}
        unreadable, ignored = self._passed_over
        told = {name for name, served in self._served.items() if served.refused}  # variant by variant
        refused = [Refusal(" ".join(name), why) for name, why in self._problems.items() if name not in told]
        self.registry = registry_of(self._served.values(), Found({}, (*unreadable, *refused), ignored))
        self._dispatcher.expect(self.registry.profiles())
        for served in self._served.values():
            for variant in served.variants:
                self._note(served, variant)
        self._changed(self.registry)
        current = set(self.registry.sessions())
        replaced = [served for name, served in before.items() if self._served.get(name) is not served]
        return [each for served in replaced for each in self._draining.drain(served, current)]

    def _note(self, served: ServedVersion, variant: Variant) -> None:
        """Note where a served variant is: in memory, or to be loaded by its first request."""
        key = served.key(variant)
        if not self._lazy:
            self._residents.add(key, variant.bytes)
        else:
            self._on_demand.put_away(key)

    async def _unload_session(self, key: SessionKey) -> None:
        """Unload a session that nothing asks for any more, unless it is served again."""
        async with self._one_at_a_time:  # or it might be loaded again meanwhile
            if key in self.registry.sessions() or self.holding(key) is not None:
                return
            while not self._dispatcher.put_away(key):  # noqa: ASYNC110  # a worker ends a dropped batch
                await asyncio.sleep(LOOK_S)
            await in_thread(partial(self._engine.unload, key))
            self._residents.remove(key)
            self._dispatcher.forget(key)
            if all(key.labels != session.labels for session in self.registry.sessions()):
                self._gone(key)

    def _serve_without(self, served: ServedVersion, variant: Variant, reason: str) -> None:
        """Serve a version without one of its variants."""
        name = served.manifest.name, served.manifest.version
        if self._served.get(name) is served:
            good = tuple(each for each in served.variants if each != variant)
            rest = replace(served, variants=good, refused={**served.refused, variant.name: reason})
            self._problems[name] = "; ".join(f"variant {each}: {why}" for each, why in rest.refused.items())
            others = {each: version for each, version in self._served.items() if each != name}
            self._install(others | ({name: rest} if good else {}))

    def _unfit(self, manifest: Manifest, variant: Variant) -> str | None:
        """Why a variant is refused before its file is read, which may be at its first request only."""
        most = self._residents.most_bytes
        if most is not None and variant.bytes > most:
            return f"its {variant.bytes} bytes are more than model_bytes allows"
        return self._loader.unfit(manifest, variant)

    async def _entries(self, name: str, version: str | None) -> tuple[VersionEntry, ...]:
        return tuple(each for each in await self.index() if is_meant((each.name, each.version), name, version))

    def _entry(self, name: VersionName, *, there: bool) -> VersionEntry:
        served = self._served.get(name)
        reason = self._problems.get(name) or ("" if served is not None else self._why_not(name, there=there))
        return entry_of(name, served, self._residents, self._state(name, served), reason)

    def _state(self, name: VersionName, served: ServedVersion | None) -> State:
        if name in self._loading:
            return "loading"
        if served is not None:
            return "ready"
        return "unloading" if name in self._draining else "unavailable"

    def _why_not(self, name: VersionName, *, there: bool) -> str:
        if not there:
            return "is not in the store"
        if self._choice.unloaded(name):
            return "was unloaded"
        return "is not taken up yet" if self._choice.of([name]) else "is not among the models to serve"


def _contract(manifest: Manifest) -> tuple[object, ...]:
    """What a session must keep."""
    return manifest.input, manifest.classes, manifest.operator
