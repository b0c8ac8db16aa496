"""Lets a few connections go on in each turn of the event loop, where each may keep it for long."""

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol

from noisevote.service.connections.turnstile import Turnstile

# Making sense of a piece of a request takes some tenths of a millisecond, and so does beginning to answer.
AT_ONCE: Final = 16
# After so long nobody else goes on in a turn, whatever took so long.
LONG_S: Final = 0.005


class Peer(Protocol):
    """What waits for its turn."""

    def go_on(self) -> None:
        """It is its turn."""

    def drop(self) -> None:
        """It failed in its turn."""


class LoopTurns:
    """The turns of one event loop, in which some of its connections go on."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._turnstile = Turnstile[Peer](AT_ONCE)
        self._turning = False
        self._clock = clock
        self._spent = 0.0  # in this turn

    def room(self, peer: Peer) -> bool:
        """Whether a peer would go on now."""
        return self._turnstile.room(peer)

    def arrive(self, peer: Peer) -> bool:
        """Whether a peer may go on now; otherwise its `go_on` is called in a later turn."""
        if not self._turning:
            self._turning = True
            asyncio.get_running_loop().call_soon(self._turn)
        return self._turnstile.arrive(peer)

    def leave(self, peer: Peer) -> None:
        """It need not go on."""
        self._turnstile.leave(peer)

    def spend(self, go_on: Callable[[], None]) -> None:
        """Do what a peer does in its turn."""
        begun = self._clock()
        try:
            go_on()
        finally:
            self._spent += self._clock() - begun
            if self._spent > LONG_S:
                self._turnstile.shut()

    def _turn(self) -> None:
        self._turnstile.begin()
        self._spent = 0.0
        self._turning = bool(self._turnstile)
        if not self._turning:
            return
        # After those that go on now another turn, at least, has to begin for others.
        asyncio.get_running_loop().call_soon(self._turn)
        while (peer := self._turnstile.next()) is not None:
            try:
                self.spend(peer.go_on)
            except Exception as error:  # whatever it is, those behind it wait for their turn
                told = {"message": "a connection failed in its turn", "exception": error}
                asyncio.get_running_loop().call_exception_handler(told)
                peer.drop()
