"""An engine without a network, for tests of what lies around it."""

import asyncio
import threading
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from noisevote.engine.feeds import Feeds
from noisevote.engine.footprint import Footprint
from noisevote.engine.session_key import SessionKey
from noisevote.engine.trial import Expectation, TrialLimits
from noisevote.model_store.manifest import Manifest


def fake_logits(feeds: Feeds, classes: int) -> NDArray[np.float32]:
    """Logits that are a pure function of each row's seed, vote, sigma and input, as a network's are."""
    rows = []
    for sigma, seed, vote, row in zip(feeds.sigma, feeds.seed, feeds.vote, feeds.row, strict=True):
        entropy = [int(seed) % 2**64, int(vote), int(sigma.view(np.uint32).sum()), int(feeds.input[row].sum() * 1e6)]
        rows.append(np.random.default_rng(entropy).standard_normal(classes))
    return np.array(rows, np.float32).reshape(-1, classes)


class Trusting:
    """A trial that lets every file pass."""

    def check(self, expectation: Expectation, content: bytes, *, weigh: bool = False) -> Footprint | None:  # noqa: ARG002
        """Accept it, and know nothing of its memory."""
        return None

    def abandon(self) -> None:
        """Nothing is under way."""

    def close(self) -> None:
        """Nothing is kept."""


class FakeEngine:
    """Computes `fake_logits`, remembers its batches, and can be held or made to fail."""

    description = "fake"
    build = "fake"

    def __init__(self, classes: int = 3) -> None:
        self.classes = classes
        self.batches: list[tuple[SessionKey, Feeds]] = []
        self.may_run = threading.Event()
        self.may_run.set()
        self.may_load = threading.Event()
        self.may_load.set()
        self.failing_votes: set[int] = set()

    def load(self, key: SessionKey, manifest: Manifest, content: bytes, *, tried: bool = False) -> None:  # noqa: ARG002
        """Wait until allowed, then accept everything."""
        assert self.may_load.wait(timeout=30)

    def tidy(self) -> None:
        """Nothing was taken."""

    def trial(self, limits: TrialLimits) -> "Trusting":  # noqa: ARG002  # the protocol's
        """Nothing is tried."""
        return Trusting()

    def unload(self, key: SessionKey) -> None:
        """Nothing is kept."""

    def run(self, key: SessionKey, feeds: Feeds) -> NDArray[np.float32]:
        """Wait until allowed, then compute; rows with a failing vote number break the whole batch."""
        self.batches.append((key, feeds))
        assert self.may_run.wait(timeout=30)
        return self.compute(feeds)

    def compute(self, feeds: Feeds) -> NDArray[np.float32]:
        """The logits, or the failure."""
        if self.failing_votes & set(feeds.vote.tolist()):
            raise RuntimeError("injected")
        return fake_logits(feeds, self.classes)


class Slow(FakeEngine):
    """Computes so many batches, then holds the next one until it may run, which may be allowed before it comes."""

    def __init__(self, batches: int, classes: int = 3) -> None:
        super().__init__(classes)
        self.quick = batches
        self.may_run.clear()

    def run(self, key: SessionKey, feeds: Feeds) -> NDArray[np.float32]:
        """See `Engine.run`."""
        if len(self.batches) >= self.quick:
            return super().run(key, feeds)
        self.batches.append((key, feeds))
        return self.compute(feeds)


async def until(condition: Callable[[], bool]) -> None:
    """Let others run until it holds."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  # what is waited for happens on the engine's threads
            await asyncio.sleep(0.001)


def skip_ahead(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let the event loop's timers believe that so much time went by."""
    loop = asyncio.get_running_loop()
    present = loop.time
    monkeypatch.setattr(loop, "time", lambda: present() + seconds)
