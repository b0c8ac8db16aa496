"""The models of a store in this process: what is served of them, what is in memory, and what takes the place of what.

A request holds the `ServedVersion` that it resolved, and as long as anything does, its sessions stay. So what is
replaced or unloaded drains by itself, whatever protocol a request came by; then its sessions are let go of.
"""

import asyncio
import logging
import weakref
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from noisevote.engine.session_key import SessionKey
from noisevote.model_store.manifest import Manifest, Variant
from noisevote.model_store.store import ModelStore
from noisevote.model_store.survey import Survey
from noisevote.service.errors import (
    NotReadyError,
    RefusedModelError,
    ServiceError,
    UnknownModelError,
    UnknownVariantError,
    UnknownVersionError,
)
from noisevote.service.models.background import in_thread
from noisevote.service.models.choice import Choice
from noisevote.service.models.loading import (
    Found,
    LoadedVersion,
    Loader,
    VersionName,
    read_manifest,
    registry_of,
)
from noisevote.service.models.registry import ModelRegistry, Refusal, ServedVersion, session_key
from noisevote.service.models.repository import State, VersionEntry
from noisevote.service.models.residents import Residents
from noisevote.service.scheduling.dispatcher import Dispatcher
from noisevote.service.scheduling.engine import Engine
from noisevote.service.validation import shown

logger = logging.getLogger(__name__)

# A version that is published again is gone for an instant.
REPLACING_S: Final = 0.5
# How often to look whether a batch has ended, or memory has become free.
LOOK_S: Final = 0.01
# How long `unload` waits for requests that hold what it unloads; afterwards they go on, and it says `unloading`.
UNLOAD_S: Final = 10.0
# How long a request's model may wait for memory that others' queued votes take.
ROOM_S: Final = 30.0
# How long loading may take to end once it is given up: the run or the file that is under way.
ABANDON_S: Final = 1.0

Fingerprint = tuple[tuple[str, int, int, int], ...]


@dataclass
class _Look:
    """What was found of the versions that are to be served, and how their files looked just before."""

    survey: Survey
    prints: dict[VersionName, Fingerprint]
    manifests: dict[VersionName, Manifest | Refusal]


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
        self._keeps = keeps
        self._residents = Residents(most_bytes)
        self._served: dict[VersionName, ServedVersion] = {}
        self._kept: list[ServedVersion] = []  # where others hold requests
        self._prints: dict[VersionName, Fingerprint] = {}
        self._problems: dict[VersionName, str] = {}
        self._loading: set[VersionName] = set()
        self._leaving: dict[SessionKey, asyncio.Future[None]] = {}
        self._fetching: dict[SessionKey, asyncio.Task[None]] = {}
        self._passed_over: tuple[tuple[Refusal, ...], tuple[Refusal, ...]] = (), ()
        self._one_at_a_time = asyncio.Lock()
        self._one_fetch = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
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
            self._dispatcher.tell_of_use(self._use)
        async with self._one_at_a_time:
            look = await in_thread(self._look)
            self._choice.check(look.survey.versions)
            await self._take_up(look, look.manifests, first=True)
        return self.registry

    async def close(self) -> None:
        """Give up what is being loaded."""
        self._loader.abandon()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def index(self) -> tuple[VersionEntry, ...]:
        """See `Repository`."""
        survey = await in_thread(self._store.survey)
        names = sorted({*survey.versions, *self._served, *self._problems}, key=lambda name: (name[0], int(name[1])))
        return tuple(self._entry(name, there=name in survey.versions) for name in names)

    async def load(self, name: str, version: str | None = None) -> tuple[VersionEntry, ...]:
        """See `Repository`."""
        async with self._one_at_a_time:
            survey = await in_thread(self._store.survey)
            _refuse_unknown(name, version, survey.versions, "in the store")
            self._choice.load(name, version)
            asked = [each for each in self._choice.of(survey.versions) if _meant(each, name, version)]
            look = await in_thread(partial(self._look, asked))
            await self._take_up(look, look.manifests)
            if problems := [f"{' '.join(each)}: {self._problems[each]}" for each in asked if each in self._problems]:
                raise RefusedModelError(f"model: {'; '.join(problems)}")
        return await self._entries(name, version)

    async def unload(self, name: str, version: str | None = None) -> tuple[VersionEntry, ...]:
        """See `Repository`."""
        async with self._one_at_a_time:
            there = {*(await in_thread(self._store.survey)).versions, *self._served}
            _refuse_unknown(name, version, there, "in the store or served")
            self._choice.unload(name, version)
            for each in there:
                if _meant(each, name, version):
                    self._problems.pop(each, None)
                    self._prints.pop(each, None)
            left = {each: served for each, served in self._served.items() if not _meant(each, name, version)}
            leaving = self._install(left)
        if leaving:
            await asyncio.wait(leaving, timeout=UNLOAD_S)
        return await self._entries(name, version)

    async def refresh(self) -> tuple[VersionEntry, ...]:
        """See `Repository`."""
        async with self._one_at_a_time:
            look = await in_thread(self._look)
            if self._missing(look):
                await asyncio.sleep(REPLACING_S)
                look = await in_thread(self._look)
            if missing := self._missing(look):
                self._install({name: served for name, served in self._served.items() if name not in missing})
            changed = {
                name: each for name, each in look.manifests.items() if look.prints[name] != self._prints.get(name)
            }
            await self._take_up(look, changed)
            if superseded := self._superseded(look):
                self._install({name: served for name, served in self._served.items() if name not in superseded})
        return await self.index()

    def holding(self, session: SessionKey) -> ServedVersion | None:
        """The version, served or kept, that a session belongs to."""
        for served in (*self._served.values(), *self._kept):
            if any(served.key(variant) == session for variant in served.variants):
                return served
        return None

    def keep(self, sessions: Iterable[SessionKey]) -> None:
        """Let go of what is not served any more, but for these sessions."""
        wanted = set(sessions)
        gone = [served for served in self._kept if wanted.isdisjoint(map(served.key, served.variants))]
        self._kept = [served for served in self._kept if served not in gone]
        for served in gone:
            self._retire(served)

    def _look(self, names: Iterable[VersionName] | None = None) -> _Look:
        """Look at the files of versions, by default of all that are to be served. For other threads."""
        survey = self._store.survey()
        wanted = self._choice.of(survey.versions) if names is None else list(names)
        prints = {name: self._store.fingerprint(*name) for name in wanted}  # before the manifests: later is a change
        return _Look(survey, prints, {name: read_manifest(self._store, name) for name in wanted})

    def _missing(self, look: _Look) -> set[VersionName]:
        """What is served and not in the store any more."""
        unreadable = {remark.place.rstrip("/") for remark in look.survey.unreadable}
        there = set(look.survey.versions)
        return {name for name in self._served if name not in there and name[0] not in unreadable}

    def _superseded(self, look: _Look) -> set[VersionName]:
        """What is served and not to be served any more, once all that is to be served of its model is."""
        waiting = {name[0] for name in look.manifests if name not in self._served}
        return {name for name in self._served if name not in look.manifests and name[0] not in waiting}

    async def _take_up(
        self, look: _Look, manifests: Mapping[VersionName, Manifest | Refusal], *, first: bool = False
    ) -> None:
        """Load what has changed of these versions, and serve what is good."""
        self._passed_over = _remarks(look.survey)
        new: dict[VersionName, Manifest] = {}
        for name, manifest in manifests.items():
            self._prints[name] = look.prints[name]
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
            loaded = await self._until_cancelled(loading)
        profiles = self.registry.profiles()
        for version in loaded:
            for variant in version.manifest.variants:
                key = session_key(version.manifest, variant)
                if key in kept.values() and key in profiles:
                    version.profiles[key] = profiles[key]
                if (reason := self._unfit(version.manifest, variant)) is not None:
                    version.refused[variant.name] = reason
        return loaded

    async def _until_cancelled(self, loading: Callable[[], list[LoadedVersion]]) -> list[LoadedVersion]:
        future = in_thread(loading)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            self._loader.abandon()
            await asyncio.wait({future}, timeout=ABANDON_S)
            raise

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
        before, self._served = (
            self._served,
            dict(sorted(versions.items(), key=lambda each: (each[0][0], int(each[0][1])))),
        )
        unreadable, ignored = self._passed_over
        told = {name for name, served in self._served.items() if served.refused}  # variant by variant
        refused = [Refusal(" ".join(name), why) for name, why in self._problems.items() if name not in told]
        self.registry = registry_of(self._served.values(), Found({}, (*unreadable, *refused), ignored))
        self._dispatcher.expect(self.registry.profiles())
        for served in self._served.values():
            for variant in served.variants:
                self._note(served, variant)
        self._changed(self.registry)
        leaving = []
        for name, served in before.items():
            if self._served.get(name) is not served:
                leaving += self._leave(served)
                if self._keeps:
                    self._kept.append(served)
                else:
                    self._retire(served)
        return leaving

    def _note(self, served: ServedVersion, variant: Variant) -> None:
        """Note where a served variant is: in memory, or to be loaded by its first request."""
        key = served.key(variant)
        if not self._lazy:
            self._residents.add(key, variant.bytes)
        elif key not in self._residents and key not in self._fetching:
            self._dispatcher.put_away(key)

    def _leave(self, served: ServedVersion) -> list[asyncio.Future[None]]:
        """What tells when each session of a version is let go of that is not served any more."""
        current = set(self.registry.sessions())
        keys = [key for key in map(served.key, served.variants) if key not in current]
        loop = asyncio.get_running_loop()
        return [self._leaving.setdefault(key, loop.create_future()) for key in keys]

    def _retire(self, served: ServedVersion) -> None:
        """Let go of a version's sessions once nothing holds it any more."""
        keys = [served.key(variant) for variant in served.variants]
        loop = asyncio.get_running_loop()

        def tell() -> None:  # on whatever thread let go of it last
            with suppress(RuntimeError):  # the event loop has ended
                loop.call_soon_threadsafe(self._released, keys)

        weakref.finalize(served, tell).atexit = False

    def _released(self, keys: Iterable[SessionKey]) -> None:
        for key in keys:
            self._spawn(self._let_go(key))

    async def _let_go(self, key: SessionKey) -> None:
        """Unload a session that nothing asks for any more, unless it is served again."""
        async with self._one_at_a_time:  # or it might be loaded again meanwhile
            if key not in self.registry.sessions() and self.holding(key) is None:
                while not self._dispatcher.put_away(key):  # noqa: ASYNC110  # a worker ends a dropped batch
                    await asyncio.sleep(LOOK_S)
                await in_thread(partial(self._engine.unload, key))
                self._residents.remove(key)
                self._dispatcher.forget(key)
                if all(key.labels != session.labels for session in self.registry.sessions()):
                    self._gone(key)
        if (leaving := self._leaving.pop(key, None)) is not None and not leaving.done():
            leaving.set_result(None)

    def _use(self, key: SessionKey) -> None:
        """Note that a request was accepted; fetch its session if it is away."""
        if not self._residents.use(key) and key not in self._fetching:
            self._fetching[key] = self._spawn(self._fetch(key))

    async def _fetch(self, key: SessionKey) -> None:
        """Load a session that requests wait for, or end them."""
        try:
            async with self._one_fetch:
                await self._fetch_now(key)
        except ServiceError as error:
            self._dispatcher.give_up(key, error)
        except Exception:  # whatever it is, nobody may wait for it any more
            logger.exception("loading %s failed", key)
            self._dispatcher.give_up(key, NotReadyError(f"model: {key} could not be loaded; ask again"))
        finally:
            del self._fetching[key]

    async def _fetch_now(self, key: SessionKey) -> None:
        served = self.holding(key)
        variant = None if served is None else served.manifest.variant(key.variant)
        if served is None or variant is None:
            raise NotReadyError(f"model: {key} was replaced before its first request; ask again")
        await self._make_room(variant.bytes)
        one = partial(self._loader.load, [served.manifest], lambda _, each: each == variant, beside=True)
        (loaded,) = await self._until_cancelled(one)
        if loaded.refused:
            self._refuse(served, variant, loaded.refused[variant.name])
            raise UnknownVariantError(f"variant: {shown(variant.name)} is refused: {loaded.refused[variant.name]}")
        self._residents.add(key, variant.bytes)
        self._dispatcher.expect(loaded.profiles)
        self._dispatcher.bring_back(key)

    def _refuse(self, served: ServedVersion, variant: Variant, reason: str) -> None:
        """Serve a version without one of its variants."""
        name = served.manifest.name, served.manifest.version
        if self._served.get(name) is served:
            good = tuple(each for each in served.variants if each != variant)
            rest = replace(served, variants=good, refused={**served.refused, variant.name: reason})
            self._problems[name] = "; ".join(f"variant {each}: {why}" for each, why in rest.refused.items())
            others = {each: version for each, version in self._served.items() if each != name}
            self._install(others | ({name: rest} if good else {}))

    async def _make_room(self, size: int) -> None:
        """Unload what was used longest ago and has no votes queued, until a file of this size fits."""
        deadline = asyncio.get_running_loop().time() + ROOM_S
        while self._residents.lacking(size) > 0:
            if not await self._unload_oldest():
                if asyncio.get_running_loop().time() > deadline:
                    raise NotReadyError("model_bytes: all of it is taken by models that have votes queued")
                await asyncio.sleep(LOOK_S)

    async def _unload_oldest(self) -> bool:
        for key in self._residents.by_use():
            if self._dispatcher.put_away(key):
                self._residents.remove(key)
                await in_thread(partial(self._engine.unload, key))
                return True
        return False

    def _unfit(self, manifest: Manifest, variant: Variant) -> str | None:
        """Why a variant is refused before its file is read, which may be at its first request only."""
        most = self._residents.most_bytes
        if most is not None and variant.bytes > most:
            return f"its {variant.bytes} bytes are more than model_bytes allows"
        return self._loader.unfit(manifest, variant)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _entries(self, name: str, version: str | None) -> tuple[VersionEntry, ...]:
        return tuple(each for each in await self.index() if _meant((each.name, each.version), name, version))

    def _entry(self, name: VersionName, *, there: bool) -> VersionEntry:
        served = self._served.get(name)
        variants = () if served is None else tuple(variant.name for variant in served.variants)
        resident = (
            [] if served is None else [each.name for each in served.variants if served.key(each) in self._residents]
        )
        return VersionEntry(
            *name,
            state=self._state(name, served),
            reason=self._problems.get(name) or ("" if served is not None else self._why_not(name, there=there)),
            serving=served is not None,
            variants=variants,
            resident=tuple(resident),
            refused=() if served is None else tuple(served.refused.items()),
        )

    def _state(self, name: VersionName, served: ServedVersion | None) -> State:
        if name in self._loading:
            return "loading"
        if served is not None:
            return "ready"
        return "unloading" if any((key.model, key.version) == name for key in self._leaving) else "unavailable"

    def _why_not(self, name: VersionName, *, there: bool) -> str:
        if not there:
            return "is not in the store"
        if self._choice.unloaded(name):
            return "was unloaded"
        return "is not taken up yet" if self._choice.of([name]) else "is not among the models to serve"


def _remarks(survey: Survey) -> tuple[tuple[Refusal, ...], tuple[Refusal, ...]]:
    """What of a store cannot be read, and what was passed over."""
    return tuple(Refusal(*each) for each in survey.unreadable), tuple(Refusal(*each) for each in survey.ignored)


def _contract(manifest: Manifest) -> tuple[object, ...]:
    """What a session must keep."""
    return manifest.input, manifest.classes, manifest.operator


def _meant(name: VersionName, model: str, version: str | None) -> bool:
    return name[0] == model and version in (None, name[1])


def _refuse_unknown(name: str, version: str | None, there: Iterable[VersionName], where: str) -> None:
    there = sorted(there, key=lambda each: (each[0], int(each[1])))
    versions = [each[1] for each in there if each[0] == name]
    if not versions:
        models = ", ".join(dict.fromkeys(each[0] for each in there)) or "none"
        raise UnknownModelError(f"model: {shown(name)} is not {where}, which has {models}")
    if version is not None and version not in versions:
        raise UnknownVersionError(
            f"version: {shown(version)} of {name} is not {where}, which has {', '.join(versions)}"
        )
