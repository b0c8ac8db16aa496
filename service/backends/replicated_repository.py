"""The models of all replicas: each follows what is done to them, and keeps what requests here still hold."""

import asyncio
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from noisevote.engine.session_key import SessionKey
from noisevote.service.models.local_repository import UNLOAD_S, LocalRepository
from noisevote.service.models.registry import ModelRegistry, ServedVersion
from noisevote.service.models.repository import VersionEntry


@dataclass(frozen=True)
class Change:
    """What is done to the models of every replica; without a name, they take up what has changed in the store."""

    kind: Literal["load", "unload", "refresh"]
    name: str = ""
    version: str | None = None

    async def at(self, repository: LocalRepository) -> ModelRegistry:
        """Do it to one replica's; see `Repository` for errors."""
        match self.kind:
            case "load":
                await repository.load(self.name, self.version)
            case "unload":
                await repository.unload(self.name, self.version)
            case "refresh":
                await repository.refresh()
        return repository.registry


class Control(Protocol):
    """How replicas are told of changes. Knows nothing of how they are reached, as `Ask`."""

    async def registry(self) -> ModelRegistry:
        """What a replica serves, once there is one."""

    async def index(self) -> tuple[VersionEntry, ...]:
        """The index of a replica."""

    async def change(self, change: Change) -> ModelRegistry:
        """What all replicas serve after a change. What it replaces they keep until they are told what to keep.

        Raises:
            ServiceError: a replica refuses it.
        """

    async def keep(self, sessions: list[SessionKey]) -> None:
        """Let all replicas let go of what is served no more, but for these sessions."""


class ReplicatedRepository:
    """See `Repository`. A replica that starts later loads what its settings say, and else what it is asked for."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._registry = ModelRegistry({}, ())
        self._draining: dict[int, tuple[SessionKey, ...]] = {}  # sessions of versions that requests still hold
        self._one_at_a_time = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._drained = asyncio.Event()
        self._changed: Callable[[ModelRegistry], None] = lambda _: None
        self._gone: Callable[[SessionKey], None] = lambda _: None

    def watch(self, changed: Callable[[ModelRegistry], None], gone: Callable[[SessionKey], None]) -> None:
        """See `Repository`."""
        self._changed, self._gone = changed, gone

    async def open(self) -> ModelRegistry:
        """Wait until a replica has loaded what it serves."""
        self._registry = await self._control.registry()
        return self._registry

    async def close(self) -> None:
        """Tell no replica any more."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def index(self) -> tuple[VersionEntry, ...]:
        """See `Repository`; `resident` is what one replica has in memory."""
        return await self._control.index()

    async def load(self, name: str, version: str | None = None) -> tuple[VersionEntry, ...]:
        """See `Repository`. Refused by one replica, it is refused here, and the others let go of it again."""
        await self._do(Change("load", name, version))
        return await self._entries(name, version)

    async def unload(self, name: str, version: str | None = None) -> tuple[VersionEntry, ...]:
        """See `Repository`."""
        await self._do(Change("unload", name, version))
        with suppress(TimeoutError):
            async with asyncio.timeout(UNLOAD_S):
                while self._draining or self._tasks:
                    self._drained.clear()
                    await self._drained.wait()
        return await self._entries(name, version)

    async def refresh(self) -> tuple[VersionEntry, ...]:
        """See `Repository`."""
        await self._do(Change("refresh"))
        return await self.index()

    async def _do(self, change: Change) -> None:
        async with self._one_at_a_time:
            try:
                registry = await self._control.change(change)
            except Exception:
                await self._keep()
                raise
            before, self._registry = self._registry, registry
            self._changed(registry)
            for each in _versions(before):
                self._retire(each)
            del before

    def _retire(self, served: ServedVersion) -> None:
        """Tell replicas to let go of a version's sessions once no request here holds it."""
        loop, number = asyncio.get_running_loop(), id(served)
        self._draining[number] = tuple(served.key(variant) for variant in served.variants)

        def tell() -> None:
            with suppress(RuntimeError):  # the event loop has ended
                loop.call_soon_threadsafe(self._released, number)

        weakref.finalize(served, tell).atexit = False

    def _released(self, number: int) -> None:
        sessions = self._draining.pop(number)
        task = asyncio.create_task(self._let_go(sessions))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._drained.set()

    async def _let_go(self, sessions: Iterable[SessionKey]) -> None:
        await self._keep()
        served = {session.labels for session in self._registry.sessions()}
        for session in sessions:
            if session.labels not in served:
                self._gone(session)

    async def _keep(self) -> None:
        held = [session for sessions in self._draining.values() for session in sessions]
        await self._control.keep([*self._registry.sessions(), *held])

    async def _entries(self, name: str, version: str | None) -> tuple[VersionEntry, ...]:
        return tuple(each for each in await self.index() if each.name == name and version in (None, each.version))


def _versions(registry: ModelRegistry) -> list[Any]:
    return [served for versions in registry.models.values() for served in versions.values()]
