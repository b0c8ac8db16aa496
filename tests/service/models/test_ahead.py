"""When a process that tries files is started before the server is imported."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread

import pytest

from noisevote.engine.errors import BadModelError
from noisevote.engine.footprint import Footprint
from noisevote.engine.trial import Expectation, TrialLimits
from noisevote.engine.trial_process import TrialProcess
from noisevote.model_store.manifest import Manifest, Variant
from noisevote.model_store.store import ModelStore, digest
from noisevote.noise_op.library import load_kernel
from noisevote.service.models.ahead import TrialAhead, trial_ahead
from noisevote.service.settings import Settings
from tests.support.graphs import CLASSES, SHAPE, tiny_network
from tests.support.manifests import manifest


def test_a_first_start_has_one_within_its_limits(tmp_path: Path) -> None:
    """Where nothing is kept of earlier starts, or never is."""
    for file in (tmp_path / "timings.json", None):
        settings = Settings(timings_file=file)
        trial = trial_ahead(settings)
        assert trial is not None
        assert trial.limits == TrialLimits(settings.load_seconds, settings.load_bytes)
        trial.close()


@pytest.mark.parametrize("lazy", [{"lazy": True}, {"model_bytes": 2**20}, {}])
def test_where_none_may_be_needed_there_is_none(lazy: dict[str, int], tmp_path: Path) -> None:
    """Files that a request loads are tried then, and those of a later start passed before."""
    kept = tmp_path / "timings.json"
    if not lazy:
        kept.touch()
    assert trial_ahead(Settings(timings_file=kept, **lazy)) is None  # type: ignore[arg-type]  # its settings


class Store:
    """Two variants of a network and one of another, and how often each file was read."""

    def __init__(self) -> None:
        self.files = {"a": tiny_network(0), "b": tiny_network(1), "c": tiny_network(2)}
        described = manifest(self.files, shape=SHAPE, classes=tuple(map(str, range(CLASSES))))
        a, b, c = described.variants
        larger = b.model_copy(update={"parameters": b.parameters + 1})
        self.manifest = described.model_copy(update={"variants": (a, c, larger)})
        self.reads: Counter[str] = Counter()

    def told(self) -> Iterator[tuple[Manifest, Variant]]:
        """All of them."""
        return ((self.manifest, variant) for variant in self.manifest.variants)

    def read(self, _: Manifest, variant: Variant) -> bytes:
        """See `ModelStore.read`."""
        self.reads[variant.name] += 1
        return self.files[variant.name]

    def expectation(self, name: str) -> Expectation:
        """What is expected of a file."""
        return Expectation.of(self.manifest, self.manifest.variant(name))


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes, bool]]:
    """What the process was asked, file and whether it was to be weighed; it finds a footprint of the file's length."""
    asked: list[tuple[bytes, bool]] = []

    def check(_: TrialProcess, __: Expectation, content: bytes, *, weigh: bool = False) -> Footprint | None:
        asked.append((content, weigh))
        if content == b"bad":
            raise BadModelError("it is bad")
        return Footprint(len(content), 1) if weigh else None

    monkeypatch.setattr(TrialProcess, "check", check)
    monkeypatch.setattr(TrialProcess, "start", lambda _: None)
    return asked


def begun(store: Store) -> TrialAhead:
    """A trial that has gone through the files, as far as it does."""
    trial = TrialAhead(None, TrialLimits(30, 2**30))
    trial.begin(store.told, store.read)
    assert trial._thread is not None
    trial._thread.join()
    return trial


def test_files_that_were_tried_ahead_are_not_tried_again(checks: list[tuple[bytes, bool]]) -> None:
    """One of each network first, which is weighed; the loader gets what was found, once."""
    store = Store()
    trial, files = begun(store), store.files
    assert checks == [(files["a"], True), (files["b"], True), (files["c"], False)]
    assert trial.check(store.expectation("a"), files["a"], weigh=True) == Footprint(len(files["a"]), 1)
    assert trial.check(store.expectation("c"), files["c"]) is None
    assert len(checks) == 3
    trial.check(store.expectation("a"), files["a"], weigh=True)
    assert len(checks) == 4
    trial.close()


def test_what_is_asked_for_otherwise_is_tried_when_it_is_asked_for(checks: list[tuple[bytes, bool]]) -> None:
    """Other bytes, for another manifest, or weighed where it was not."""
    store = Store()
    trial = begun(store)
    for content, expectation, weigh in (
        (tiny_network(3), store.expectation("a"), True),
        (store.files["b"], replace(store.expectation("b"), classes=CLASSES + 1), False),
        (store.files["c"], store.expectation("c"), True),
    ):
        trial.check(expectation, content, weigh=weigh)
        assert checks[-1] == (content, weigh)
    assert len(checks) == 6
    trial.close()


def test_a_bad_file_is_refused_once_and_ends_what_is_tried_ahead(checks: list[tuple[bytes, bool]]) -> None:
    """So does one that cannot be read: whoever asks for it says why."""
    store = Store()
    store.files["a"] = b"bad"
    told = store.manifest.variants
    bad = told[0].model_copy(update={"sha256": digest(b"bad")})
    store.manifest = store.manifest.model_copy(update={"variants": (bad, *told[1:])})
    trial = begun(store)
    with pytest.raises(BadModelError, match="it is bad"):
        trial.check(store.expectation("a"), b"bad", weigh=True)
    assert checks == [(b"bad", True)]
    trial.close()

    missing = Store()
    del missing.files["a"]
    missing.read = ModelStore(Path("nowhere")).read  # type: ignore[method-assign,assignment]  # it finds none
    trial = begun(missing)
    assert len(checks) == 1
    trial.close()


@pytest.mark.parametrize("then", [TrialAhead.close, TrialAhead.abandon])
def test_it_ends_while_a_file_hangs(then: Callable[[TrialAhead], None]) -> None:
    """A server that ends waits for no trial."""
    store, reading, goes_on = Store(), Event(), Event()

    def read(*_: object) -> bytes:
        reading.set()
        goes_on.wait()
        return b"no ONNX file"

    trial = TrialAhead(load_kernel(), TrialLimits(3600, 2**30))
    trial.begin(store.told, read)
    thread = trial._thread
    assert thread is not None
    reading.wait()
    ending = Thread(target=then, args=(trial,))
    ending.start()
    goes_on.set()
    ending.join()
    thread.join()
    trial.close()
    assert trial._process is None
