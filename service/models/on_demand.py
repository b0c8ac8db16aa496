"""Sessions that are loaded by their first request, and make room for one another."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Final

from noisevote.engine.session_key import SessionKey
from noisevote.model_store.manifest import Variant
from noisevote.service.errors import NotReadyError, ServiceError, UnknownVariantError
from noisevote.service.models.background import BackgroundTasks, in_thread, until_cancelled
from noisevote.service.models.loading import Loader
from noisevote.service.models.registry import ServedVersion
from noisevote.service.models.residents import Residents
from noisevote.service.scheduling.dispatcher import Dispatcher
from noisevote.service.scheduling.engine import Engine
from noisevote.service.validation import shown

logger = logging.getLogger(__name__)

# How often to look whether memory has become free.
LOOK_S: Final = 0.01
# How long a request's model may wait for memory that others' queued votes take.
ROOM_S: Final = 30.0


class OnDemand:
    """Loads the session of a request that was accepted, if it is not in memory.

    Args:
        loader: loads it.
        engine: has the sessions.
        dispatcher: has the requests that wait for it.
        residents: the sessions that are in memory.
        tasks: where it is loaded.
        holding: the version, served or kept, that a session belongs to.
        refuse: serves a version without one of its variants, which cannot be loaded, and why.
    """

    def __init__(
        self,
        loader: Loader,
        engine: Engine,
        dispatcher: Dispatcher,
        residents: Residents,
        tasks: BackgroundTasks,
        holding: Callable[[SessionKey], ServedVersion | None],
        refuse: Callable[[ServedVersion, Variant, str], None],
    ) -> None:
        self._loader = loader
        self._engine = engine
        self._dispatcher = dispatcher
        self._residents = residents
        self._tasks = tasks
        self._holding = holding
        self._refuse = refuse
        self._fetching: set[SessionKey] = set()
        self._one_at_a_time = asyncio.Lock()

    def use(self, key: SessionKey) -> None:
        """Note that a request was accepted; fetch its session if it is away."""
        if not self._residents.use(key) and key not in self._fetching:
            self._fetching.add(key)
            self._tasks.start(self._fetch(key))

    def put_away(self, key: SessionKey) -> None:
        """Let requests of a session wait until it is loaded, which the first of them starts."""
        if key not in self._residents and key not in self._fetching:
            self._dispatcher.put_away(key)

    async def _fetch(self, key: SessionKey) -> None:
        """Load a session that requests wait for, or end them."""
        try:
            async with self._one_at_a_time:
                await self._fetch_now(key)
        except ServiceError as error:
            self._dispatcher.give_up(key, error)
        except Exception:  # whatever it is, nobody may wait for it any more
            logger.exception("loading %s failed", key)
            self._dispatcher.give_up(key, NotReadyError(f"model: {key} could not be loaded; ask again"))
        finally:
            self._fetching.remove(key)

    async def _fetch_now(self, key: SessionKey) -> None:
        served = self._holding(key)
        variant = None if served is None else served.manifest.variant(key.variant)
        if served is None or variant is None:
            raise NotReadyError(f"model: {key} was replaced before its first request; ask again")
        await self._make_room(variant.bytes)
        one = partial(self._loader.load, [served.manifest], lambda _, each: each == variant, beside=True)
        (loaded,) = await until_cancelled(one, self._loader.abandon)
        if loaded.refused:
            self._refuse(served, variant, loaded.refused[variant.name])
            raise UnknownVariantError(f"variant: {shown(variant.name)} is refused: {loaded.refused[variant.name]}")
        self._residents.add(key, variant.bytes)
        self._dispatcher.expect(loaded.profiles)
        self._dispatcher.bring_back(key)

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
