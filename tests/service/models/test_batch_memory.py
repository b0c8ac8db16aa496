"""No batch takes more memory than it may: rows are bounded by what was measured, and what never fits is refused."""

import sys
from pathlib import Path
from unittest.mock import patch

import pytest

from noisevote.engine.feeds import Feeds
from noisevote.engine.footprint import Footprint
from noisevote.engine.onnx_engine import OnnxEngine
from noisevote.engine.session_key import SessionKey
from noisevote.engine.trial import Expectation, TrialLimits
from noisevote.model_store.store import ModelStore
from noisevote.noise_op.library import load_kernel
from noisevote.service.models.findings import Findings
from noisevote.service.models.loading import DEFAULT_LIMITS, Loader, LoadLimits, look, registry_of
from noisevote.service.models.registry import ModelRegistry
from noisevote.service.scheduling import batch_size
from noisevote.service.settings import LEAST_BATCH_BYTES, Settings
from tests.support.engines import FakeEngine, Trusting
from tests.support.graphs import CLASSES, wide_network
from tests.support.manifests import manifest
from tests.support.serving import serve

CHANNELS, SIDE = 64, 64


class Scales(Trusting):
    """Tells a footprint when it is asked to weigh."""

    def __init__(self, found: Footprint | None, weighed: list[Expectation]) -> None:
        self.found, self.weighed = found, weighed

    def check(self, expectation: Expectation, content: bytes, *, weigh: bool = False) -> Footprint | None:  # noqa: ARG002
        """Accept the file."""
        if not weigh:
            return None
        self.weighed.append(expectation)
        return self.found


class Weighed(FakeEngine):
    """Every file has this footprint."""

    def __init__(self, found: Footprint | None) -> None:
        super().__init__(CLASSES)
        self.found = found
        self.weighed: list[Expectation] = []

    def trial(self, limits: TrialLimits) -> Scales:  # noqa: ARG002  # the protocol's
        """See above."""
        return Scales(self.found, self.weighed)


class Counting(OnnxEngine):
    """Remembers the rows of its runs, by model."""

    def __init__(self) -> None:
        super().__init__(load_kernel())
        self.rows: dict[str, set[int]] = {}

    def run(self, key: SessionKey, feeds: Feeds):  # type: ignore[no-untyped-def]  # as the engine's
        """See `OnnxEngine.run`."""
        self.rows.setdefault(key.model, set()).add(len(feeds.row))
        return super().run(key, feeds)


def limits_of(most: int) -> LoadLimits:
    """A batch may take so many bytes."""
    return LoadLimits(DEFAULT_LIMITS.trial, DEFAULT_LIMITS.input_bytes, most)


def load(store: ModelStore, engine: FakeEngine, most: int, file: Path | None = None) -> ModelRegistry:
    """Load a store; the clock says that longer batches are always better."""
    found, now = look(store), iter(range(10**9))
    loader = Loader(store, engine, 32, lambda: next(now) / 1e9, limits_of(most), Findings(file))
    return registry_of([version.served() for version in loader.load(found.manifests.values())], found)


def rows_of(registry: ModelRegistry) -> set[int]:
    """Rows of a good batch of each session."""
    return {profile.rows for profile in registry.profiles().values()}


@pytest.mark.parametrize(
    ("footprint", "most", "rows"),
    [
        (Footprint(0, 1000), 32_000, 32),
        (Footprint(0, 1000), 31_999, 31),
        (Footprint(5000, 1000), 16_000, 11),
        (Footprint(0, 1000), 1000, 1),
        (Footprint(0, 1000, 4), 31_999, 28),
        (Footprint(0, 1000, 4), 4000, 4),
        (None, 1, 32),
    ],
)
def test_a_batch_has_no_more_rows_than_its_memory_allows(
    store: ModelStore, footprint: Footprint | None, most: int, rows: int
) -> None:
    """Neither while it is timed nor later; where nobody knows the memory, rows alone are bounded."""
    engine = Weighed(footprint)
    profiles = load(store, engine, most).profiles()
    assert {profile.rows for profile in profiles.values()} == {rows}
    assert max(len(feeds.row) for _, feeds in engine.batches) == rows
    assert all(profile.footprint == footprint for profile in profiles.values())
    assert all(profile.bytes is None or profile.bytes <= most for profile in profiles.values())


def test_what_never_fits_is_refused_by_name(store: ModelStore) -> None:
    """With the bytes that it takes and the setting that forbids it; its file is not loaded."""
    engine = Weighed(Footprint(0, 1000, 4))
    registry = load(store, engine, 3999)
    assert not registry.models
    assert not engine.batches
    reason = "the smallest batch, of 4 votes, takes 4000 bytes of memory, more than batch_bytes (3999)"
    assert {(refusal.name, refusal.reason) for refusal in registry.refusals} == {
        (f"tiny 1 {variant}", reason) for variant in ("mul-0.0", "mul-0.8")
    }


def test_what_was_weighed_is_kept(store: ModelStore, tmp_path: Path) -> None:
    """Variants of one network are weighed once, and not again by the next start, whatever it allows a batch."""
    file, first, second = tmp_path / "timings.json", Weighed(Footprint(0, 1000)), Weighed(None)
    assert rows_of(load(store, first, 10_000, file)) == {10}
    assert len(first.weighed) == 1
    assert rows_of(load(store, second, 20_000, file)) == {20}
    assert not second.weighed


def test_footprints_that_make_no_sense_are_measured_anew(store: ModelStore, tmp_path: Path) -> None:
    """Whatever somebody wrote into the file."""
    file = tmp_path / "timings.json"
    load(store, Weighed(Footprint(0, 1000, 7)), 10_000, file)
    assert '"step":7' in file.read_text()
    file.write_text(file.read_text().replace('"step":7', '"step":0'))
    again = Weighed(Footprint(0, 1000))
    assert rows_of(load(store, again, 10_000, file)) == {10}
    assert len(again.weighed) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured by Linux's /proc")
@pytest.mark.parametrize("share", [0.25, 1.0])
async def test_a_large_signal_is_served_with_few_rows_a_batch(store: ModelStore, share: float) -> None:
    """A network of 0.6 kB of weights and a signal of 1 MB a row: as many rows as are measured to fit, and no more."""
    content = wide_network(CHANNELS, SIDE)
    classes = tuple(map(str, range(CHANNELS)))
    store.publish(manifest({"v": content}, "wide", shape=(1, SIDE, SIDE), classes=classes), {"v": content})
    engine, most = Counting(), int(share * 32 * 2**20)
    slow = patch.object(batch_size, "LONGEST_BATCH_S", 60.0)  # a busy machine shall not bound them first
    with slow:
        async with serve(store, engine, threads=1, batch_bytes=most) as client:
            answered = await client.post(
                "/v1/models/wide/predict", json={"inputs": [[[[0.5] * SIDE] * SIDE]], "votes": 50, "sigma": 0.5}
            )
            described = (await client.get("/v1/models/wide")).json()["batches"]["v"]
    assert answered.json()["predictions"][0]["votes_used"] == 50
    assert described["bytes"] <= most
    largest = max(engine.rows["wide"])
    assert described["rows"] <= largest
    assert largest * 4 * CHANNELS * SIDE * SIDE < most  # the signal alone
    assert 3 * largest * 4 * CHANNELS * SIDE * SIDE > most / 2  # not needlessly few


def test_a_batch_may_take_its_share_of_half_the_memory(store: ModelStore) -> None:
    """By default, divided by the threads; and never nothing."""
    with patch("noisevote.service.settings.usable_memory", lambda: 2**30):
        assert Settings(model_store=store.root, threads=4).most_batch_bytes == 2**27
        assert Settings(model_store=store.root, threads=1024).most_batch_bytes == LEAST_BATCH_BYTES
        assert Settings(model_store=store.root, threads=4, batch_bytes=2**21).most_batch_bytes == 2**21
