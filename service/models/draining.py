"""Versions that are not served any more, until nothing holds them."""

import asyncio
import weakref
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import suppress

from noisevote.engine.session_key import SessionKey
from noisevote.service.models.background import BackgroundTasks
from noisevote.service.models.networks import VersionName
from noisevote.service.models.registry import ServedVersion


class Draining:
    """Lets go of the sessions of versions that are not served any more, each version's when nothing holds it.

    Args:
        unload: unloads a session, unless it is served again.
        tasks: where that happens.
        keeps: versions stay until `keep` says which do not, because requests are held elsewhere.
    """

    def __init__(
        self, unload: Callable[[SessionKey], Awaitable[None]], tasks: BackgroundTasks, *, keeps: bool = False
    ) -> None:
        self.kept: list[ServedVersion] = []
        self._unload = unload
        self._tasks = tasks
        self._keeps = keeps
        self._leaving: dict[SessionKey, asyncio.Future[None]] = {}

    def __contains__(self, name: VersionName) -> bool:
        return any((key.model, key.version) == name for key in self._leaving)

    def drain(self, served: ServedVersion, current: Collection[SessionKey]) -> list[asyncio.Future[None]]:
        """Let a version go that is not served any more.

        Returns:
            What tells when each of its sessions is unloaded that is not among the current ones.
        """
        loop = asyncio.get_running_loop()
        keys = [key for key in map(served.key, served.variants) if key not in current]
        leaving = [self._leaving.setdefault(key, loop.create_future()) for key in keys]
        if self._keeps:
            self.kept.append(served)
        else:
            self._retire(served)
        return leaving

    def keep(self, sessions: Iterable[SessionKey]) -> None:
        """Let go of what was kept, but for these sessions."""
        wanted = set(sessions)
        gone = [served for served in self.kept if wanted.isdisjoint(map(served.key, served.variants))]
        self.kept = [served for served in self.kept if served not in gone]
        for served in gone:
            self._retire(served)

    def _retire(self, served: ServedVersion) -> None:
        keys = [served.key(variant) for variant in served.variants]
        loop = asyncio.get_running_loop()

        def tell() -> None:  # on whatever thread let go of it last
            with suppress(RuntimeError):  # the event loop has ended
                loop.call_soon_threadsafe(self._released, keys)

        weakref.finalize(served, tell).atexit = False

    def _released(self, keys: Iterable[SessionKey]) -> None:
        for key in keys:
            self._tasks.start(self._let_go(key))

    async def _let_go(self, key: SessionKey) -> None:
        await self._unload(key)
        if (leaving := self._leaving.pop(key, None)) is not None and not leaving.done():
            leaving.set_result(None)
