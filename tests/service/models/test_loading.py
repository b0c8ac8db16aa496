import os
import threading
import time
from pathlib import Path

import pytest

from noisevote.engine.errors import BadModelError
from noisevote.engine.footprint import Footprint
from noisevote.engine.session_key import SessionKey
from noisevote.engine.trial import Expectation, TrialLimits
from noisevote.model_store.manifest import Manifest, Variant
from noisevote.model_store.store import ModelStore
from noisevote.service.models import loading, trying
from noisevote.service.models.loading import LoadedVersion, Loader, load_models, look
from noisevote.service.models.networks import one_of_each_network_first
from noisevote.service.models.registry import ModelRegistry
from noisevote.service.models.trying import MOST_WORKERS, AbandonedError
from noisevote.service.scheduling.batch_size import BatchProfile
from noisevote.service.scheduling.engine import Engine
from tests.support.engines import FakeEngine, Trusting
from tests.support.manifests import manifest, variant

GOOD = {"mul-0.0": b"zero", "mul-0.8": b"eight"}
DAMAGES = ["load", "run", "read", "parse", "memory"]


@pytest.fixture
def mixed(tmp_path: Path) -> ModelStore:
    """A store with a model of two variants, and a bad one before it and after it."""
    store = ModelStore(tmp_path)
    for name in ("a-bad", "good", "z-bad"):
        store.publish(manifest(GOOD, name), GOOD)
    return store


class Breaking(FakeEngine):
    """Fails on bad models, in a way that no model should be able to."""

    def __init__(self, damage: str) -> None:
        super().__init__()
        self.damage = damage
        self.loaded: set[SessionKey] = set()

    def load(self, key: SessionKey, manifest: Manifest, content: bytes, *, tried: bool = False) -> None:  # noqa: ARG002
        """Break, or remember the session."""
        self._break("load", key, ZeroDivisionError("a path: /secret"))
        self._break("memory", key, MemoryError())
        self.loaded.add(key)

    def unload(self, key: SessionKey) -> None:
        """Forget it."""
        self.loaded.discard(key)

    def time(self, _: Engine, key: SessionKey, *__: object) -> BatchProfile:
        """In place of `measure`."""
        self._break("run", key, IndexError("a path: /secret"))
        return BatchProfile(8, 0.001, ((8, 0.008),))

    def _break(self, damage: str, key: SessionKey, error: Exception) -> None:
        if damage == self.damage and "bad" in key.model:
            raise error


def test_a_file_of_each_network_comes_first() -> None:
    """Of each model; otherwise the order stays, and no file is lost."""
    plain = manifest(dict.fromkeys(("a", "b", "c"), b"onnx"), "one")
    slower = variant("slower", samples=6)
    one = plain.model_copy(update={"variants": (*plain.variants, slower)})
    other = manifest(dict.fromkeys(("a", "b"), b"onnx"), "other")
    files = [(each, file) for each in (one, other) for file in each.variants]
    order = [(each.name, file.name) for each, file in one_of_each_network_first(iter(files))]
    assert order == [
        ("one", "a"), ("one", "slower"), ("other", "a"),
        ("one", "b"), ("one", "c"), ("other", "b"),
    ]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_whatever_goes_wrong_with_a_model_refuses_it_alone(
    mixed: ModelStore, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By name, with a reason that is no traceback; nothing of it stays loaded; the other model serves."""
    engine = Breaking(damage)
    monkeypatch.setattr(loading, "measure", engine.time)
    for method in ("read", "manifest"):
        if damage == {"read": "read", "manifest": "parse"}[method]:
            _break_method(monkeypatch, method)
    loaded = load_models(mixed, engine, 32, lambda: 0.0)
    assert list(loaded.models) == ["good"]
    assert {refusal.name.split()[0] for refusal in loaded.refusals} == {"a-bad", "z-bad"}
    assert all(refusal.reason.startswith("loading it fails (") for refusal in loaded.refusals)
    assert {key.model for key in engine.loaded} == {"good"}


def _break_method(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let a method of the store fail on bad models."""
    method = getattr(ModelStore, name)

    def broken(store: ModelStore, model: object, *arguments: object) -> object:
        if "bad" in (model if isinstance(model, str) else getattr(model, "name", "")):
            raise RecursionError("a path: /secret")
        return method(store, model, *arguments)

    monkeypatch.setattr(ModelStore, name, broken)


def test_a_folder_of_mode_000_refuses_its_model_alone(mixed: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the model's folder or its version's may not be read."""
    monkeypatch.setattr(loading, "measure", lambda *_: BatchProfile(8, 0.001, ((8, 0.008),)))
    closed = {str(mixed.root / "a-bad"), str(mixed.root / "z-bad/1/manifest.json")}
    scan, opened = os.scandir, os.open

    def scan_allowed(path: Path) -> object:
        if str(path) in closed:
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    def open_allowed(path: Path, flags: int, mode: int = 0o777) -> int:
        if str(path) in closed:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, flags, mode)

    monkeypatch.setattr(os, "scandir", scan_allowed)
    monkeypatch.setattr(os, "open", open_allowed)
    loaded = load_models(mixed, FakeEngine(), 32, lambda: 0.0)
    assert list(loaded.models) == ["good"]
    assert dict(loaded.refusals) == {
        "a-bad": "cannot be read: Permission denied",
        "z-bad 1": "z-bad/1/manifest.json: Permission denied",
    }


class Hanging(Trusting):
    """Hangs on bad models until it is abandoned, or a time is over."""

    def __init__(self, seconds: float) -> None:
        self.ended = threading.Event()
        self.seconds = seconds

    def check(self, expectation: Expectation, content: bytes, *, weigh: bool = False) -> Footprint | None:
        """Accept it, or hang."""
        if content.startswith(b"hangs"):
            self.ended.wait(self.seconds)
            raise BadModelError("hangs")
        return super().check(expectation, content, weigh=weigh)

    def abandon(self) -> None:
        """Hang no longer."""
        self.ended.set()


class Trying(FakeEngine):
    """An engine with such trials, and a count of them."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.trials: list[Hanging] = []
        self.seconds = seconds

    def trial(self, limits: TrialLimits) -> Hanging:  # noqa: ARG002
        """Another one."""
        self.trials.append(Hanging(self.seconds))
        return self.trials[-1]


@pytest.fixture
def hanging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelStore:
    """A store with as many hanging models as may hang at once, less one, before a good one."""
    monkeypatch.setattr(loading, "measure", lambda *_: BatchProfile(8, 0.001, ((8, 0.008),)))
    monkeypatch.setattr(trying, "PATIENCE_S", 0.05)
    store = ModelStore(tmp_path)
    for index in range(MOST_WORKERS - 1):
        files = {"mul-0.8": b"hangs %d" % index}
        store.publish(manifest(files, f"a-{index}"), files)
    store.publish(manifest(GOOD, "good"), GOOD)
    return store


def test_files_that_hang_hang_together(hanging: ModelStore) -> None:
    """All of them are given up after about the time of one, not one after the other."""
    engine = Trying(seconds=2.0)
    began = time.monotonic()
    loaded = load_models(hanging, engine, 32, lambda: 0.0)
    assert time.monotonic() - began < 2 * 2.0
    assert list(loaded.models) == ["good"]
    assert len(loaded.refusals) == MOST_WORKERS - 1
    assert len(engine.trials) <= MOST_WORKERS


def test_loading_can_be_given_up_while_files_hang(hanging: ModelStore) -> None:
    """It ends at once, and so do all trials."""
    engine = Trying(seconds=60)
    loader = Loader(hanging, engine, 32, lambda: 0.0)
    threading.Timer(0.5, loader.abandon).start()
    began = time.monotonic()
    with pytest.raises(AbandonedError):
        loader.load(look(hanging).manifests.values())
    assert time.monotonic() - began < 30
    assert all(trial.ended.is_set() for trial in engine.trials)


def test_loading_can_be_given_up_while_a_model_is_timed(mixed: ModelStore) -> None:
    """Between two of its runs, even if each takes long."""
    engine = FakeEngine()
    loader = Loader(mixed, engine, 32, time.monotonic)
    engine.may_run.clear()
    ended: list[list[LoadedVersion] | Exception] = []

    def load() -> None:
        try:
            ended.append(loader.load(look(mixed).manifests.values()))
        except AbandonedError as error:
            ended.append(error)

    thread = threading.Thread(target=load)
    thread.start()
    while not engine.batches:
        time.sleep(0.001)
    loader.abandon()
    engine.may_run.set()
    thread.join(30)
    assert isinstance(ended[0], AbandonedError)
    assert len(engine.batches) == 1


def test_no_more_is_read_ahead_than_one_file(mixed: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """All before it are loaded by then, so that no store is in memory twice."""
    engine, original, held = Breaking("nothing"), ModelStore.read, list[int]()
    monkeypatch.setattr(loading, "measure", engine.time)

    def read(store: ModelStore, manifest: Manifest, variant: Variant) -> bytes:
        held.append(len(held) + 1 - len(engine.loaded))
        return original(store, manifest, variant)

    monkeypatch.setattr(ModelStore, "read", read)
    assert len(load_models(mixed, engine, 32, lambda: 0.0).sessions()) == len(held) == 6
    assert set(held) == {1}


def test_what_is_passed_over_is_told(mixed: ModelStore, caplog: pytest.LogCaptureFixture) -> None:
    """In the log and in the registry, without being counted as refused."""
    (mixed.root / "good/v5").mkdir()
    loaded = _loaded(mixed)
    assert not loaded.refusals
    assert [remark.name for remark in loaded.ignored] == ["good/v5/"]
    assert "ignored: good/v5/: is no version's number" in caplog.text


def _loaded(store: ModelStore) -> ModelRegistry:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "measure", lambda *_: BatchProfile(8, 0.001, ((8, 0.008),)))
        return load_models(store, FakeEngine(), 32, lambda: 0.0)
