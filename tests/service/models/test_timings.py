"""What a start keeps for the next one, and what it does with a file that cannot be used."""

import json
from pathlib import Path

import pytest

from noisevote.model_store.store import ModelStore
from noisevote.service.models.loading import DEFAULT_LIMITS, Loader, look, registry_of
from noisevote.service.models.registry import ModelRegistry
from noisevote.service.models.timings import KeptTimings, processor
from noisevote.service.scheduling.batch_size import BatchProfile
from tests.support.engines import FakeEngine
from tests.support.graphs import CLASSES
from tests.support.serving import publish_tiny

CURVE = ((1, 0.001), (2, 0.0015), (4, 0.0029))


def measured() -> BatchProfile:
    return BatchProfile.of(CURVE)


def forbidden() -> BatchProfile:
    raise AssertionError("it is kept, and need not be measured")


def start(store: ModelStore, file: Path | None, *about: object) -> tuple[ModelRegistry, FakeEngine]:
    """Load a store, on an engine that knows what it ran."""
    engine, now = FakeEngine(CLASSES), iter(range(10**6))
    loader = Loader(store, engine, 4, lambda: next(now) / 1e3, DEFAULT_LIMITS, KeptTimings(file, *about))
    found = look(store)
    return registry_of([version.served() for version in loader.load(found.manifests.values())], found), engine


def test_a_second_start_measures_nothing_again(store: ModelStore, tmp_path: Path) -> None:
    """The same profiles without a run; another engine, or other files, are measured."""
    file = tmp_path / "cache" / "timings.json"
    first, ran = start(store, file, "engine")
    second, idle = start(store, file, "engine")
    assert ran.batches
    assert not idle.batches
    assert second.profiles() == first.profiles()
    assert start(store, file, "another engine")[1].batches
    publish_tiny(store, name="other")
    assert {key.model for key, *_ in start(store, file, "another engine")[1].batches} == {"other"}
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert [each.name for each in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"about": 1}',
        b"\xff\xfe",
        b'{"about": "ABOUT", "curves": 3}',
        b'{"about": "ABOUT", "curves": {"a": []}}',
        b'{"about": "ABOUT", "curves": {"a": [[0, 1.0]]}}',
        b'{"about": "ABOUT", "curves": {"a": [[1, -1.0]]}}',
        b'{"about": "ABOUT", "curves": {"a": [["x", 1.0]]}}',
        b"[" * 100_000,
    ],
)
def test_what_cannot_be_used_is_measured_anew(tmp_path: Path, content: bytes) -> None:
    """Whatever lies there; then it is whole again."""
    file = tmp_path / "timings.json"
    about = KeptTimings(file, "engine")
    file.write_bytes(content.replace(b"ABOUT", about._about.encode()))
    timings = KeptTimings(file, "engine")
    timings.read()
    assert timings.profile("a", measured) == measured()
    timings.write()
    again = KeptTimings(file, "engine")
    again.read()
    assert again.profile("a", forbidden) == measured()


def test_where_nothing_can_be_kept_nothing_fails(tmp_path: Path) -> None:
    """A file in the place of the folder, a folder in the place of the file, and nowhere at all."""
    (tmp_path / "file").write_text("")
    (tmp_path / "timings.json").mkdir()
    for path in (tmp_path / "file" / "timings.json", tmp_path / "timings.json", None):
        timings = KeptTimings(path)
        timings.read()
        assert timings.profile("a", measured) == measured()
        timings.write()


def test_timings_are_of_one_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that several machines share, or an image that was moved, gives nobody another one's."""
    file = tmp_path / "timings.json"
    here = KeptTimings(file)
    here.profile("a", measured)
    here.write()
    assert json.loads(file.read_text())["curves"]
    monkeypatch.setattr("noisevote.service.models.timings.processor", lambda: processor() + " another")
    there = KeptTimings(file)
    there.read()
    with pytest.raises(AssertionError):
        there.profile("a", forbidden)
