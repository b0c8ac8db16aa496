"""What can be done to the models while the server runs: list them, load them, unload them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from noisevote.engine.session_key import SessionKey
from noisevote.service.models.registry import ModelRegistry

# `unavailable`: in the store but not served; `reason` says why.
State = Literal["ready", "loading", "unloading", "unavailable"]


@dataclass(frozen=True)
class VersionEntry:
    """A version that is in the store or was asked for, and how it stands.

    Attributes:
        name: its model.
        version: its number.
        state: requests are answered while it is `ready`, or `loading` beside its predecessor.
        reason: why it is not ready, or why the last attempt to load it failed while its predecessor goes on serving.
        serving: requests are answered now.
        variants: those that are served.
        resident: those of them that are in memory; the others are loaded by their first request.
        refused: why other variants are not served, by name.
    """

    name: str
    version: str
    state: State
    reason: str = ""
    serving: bool = False
    variants: tuple[str, ...] = ()
    resident: tuple[str, ...] = ()
    refused: tuple[tuple[str, str], ...] = ()


class Repository(Protocol):
    """The models of the store, as a running server treats them. Belongs to the event loop.

    Operations wait for one another. None of them touches a request that was accepted: a session that is no longer
    served is unloaded when its last request is over.
    """

    async def index(self) -> tuple[VersionEntry, ...]:
        """Every version that is in the store or served, by name, oldest version first."""

    async def load(self, name: str, version: str | None = None) -> tuple[VersionEntry, ...]:
        """Serve a model as it now is in the store, or one version of it. What serves unchanged stays as it is.

        Returns:
            The entries of what was asked for, all of them ready.

        Raises:
            UnknownModelError: the store has no such model.
            UnknownVersionError: the store has no such version of it.
            RefusedModelError: something of it is broken, by name; whatever served before goes on serving.
        """

    async def unload(self, name: str, version: str | None = None) -> tuple[VersionEntry, ...]:
        """Serve a model no longer, or one version of it, until it is loaded again. Returns when its memory is free.

        Returns:
            The entries of what was asked for, none of them serving.

        Raises:
            UnknownModelError: there is no such model, neither served nor in the store.
            UnknownVersionError: it has no such version.
        """

    async def refresh(self) -> tuple[VersionEntry, ...]:
        """Take up what has changed in the store: versions that are new, changed or gone. Returns the whole index.

        What was unloaded by hand stays unloaded. A version that is broken is refused by name in its entry.
        """

    def watch(self, changed: Callable[[ModelRegistry], None], gone: Callable[[SessionKey], None]) -> None:
        """Let be told what is served whenever it changes, and of sessions that are unloaded and not served any more."""

    async def close(self) -> None:
        """Give up what is being loaded."""
