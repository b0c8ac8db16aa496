"""What a start keeps for the next one, and what it does with a file that cannot be used."""

import json
import logging
import os
from dataclasses import replace
from pathlib import Path

import pytest

from noisevote.engine.errors import BadModelError
from noisevote.engine.trial import Expectation, TrialLimits
from noisevote.model_store.store import ModelStore
from noisevote.service.models.findings import LONGEST_FILE_BYTES, MOST_KEPT, Findings, processor, trial_of
from noisevote.service.models.loading import DEFAULT_LIMITS, Loader, LoadLimits, look, registry_of
from noisevote.service.models.registry import ModelRegistry
from noisevote.service.scheduling.batch_size import BatchProfile
from tests.support.engines import FakeEngine
from tests.support.graphs import CLASSES
from tests.support.serving import publish_tiny

CURVE = ((1, 0.001), (2, 0.0015), (4, 0.0029))


def measured() -> BatchProfile:
    return BatchProfile.of(CURVE)


def forbidden() -> BatchProfile:
    raise AssertionError("it is kept, and need not be measured")


class Counting(FakeEngine):
    """An engine that counts what it tries, and refuses what it is told to."""

    def __init__(self, bad: bytes | None = None) -> None:
        super().__init__(CLASSES)
        self.tried: list[bytes] = []
        self.bad = bad

    def trial(self, limits: TrialLimits) -> "Counting":  # type: ignore[override]  # noqa: ARG002  # a trial of its own
        """Itself."""
        return self

    def check(self, expectation: Expectation, content: bytes, *, weigh: bool = False) -> None:  # noqa: ARG002
        """Note it."""
        self.tried.append(content)
        if content == self.bad:
            raise BadModelError("it is bad")

    def abandon(self) -> None:
        """Nothing is under way."""

    def close(self) -> None:
        """Nothing is kept."""


def start(
    store: ModelStore,
    file: Path | None,
    *about: object,
    limits: LoadLimits = DEFAULT_LIMITS,
    bad: bytes | None = None,
) -> tuple[ModelRegistry, Counting]:
    """Load a store, on an engine that knows what it tried and ran."""
    engine, now = Counting(bad), iter(range(10**6))
    loader = Loader(store, engine, 4, lambda: next(now) / 1e3, limits, Findings(file, *about))
    found = look(store)
    return registry_of([version.served() for version in loader.load(found.manifests.values())], found), engine


def test_a_second_start_finds_nothing_out_again(store: ModelStore, tmp_path: Path) -> None:
    """The same profiles without a trial and a run; another engine's, or other files, are tried and measured."""
    file = tmp_path / "cache" / "timings.json"
    first, busy = start(store, file, "engine")
    second, idle = start(store, file, "engine")
    assert (len(busy.tried), bool(busy.batches)) == (2, True)
    assert (idle.tried, idle.batches) == ([], [])
    assert second.profiles() == first.profiles()
    assert len(start(store, file, "another engine")[1].tried) == 2
    publish_tiny(store, name="other", shape=(3,))
    assert {key.model for key, *_ in start(store, file, "another engine")[1].batches} == {"other"}


def test_a_file_is_tried_again_where_more_is_asked_of_it(store: ModelStore, tmp_path: Path) -> None:
    """Within other limits; or with other bytes, whatever the file is called."""
    file = tmp_path / "timings.json"
    start(store, file)
    shorter = replace(DEFAULT_LIMITS, trial=replace(DEFAULT_LIMITS.trial, seconds=1))
    smaller = replace(DEFAULT_LIMITS, trial=replace(DEFAULT_LIMITS.trial, memory=2**30))
    assert len(start(store, file, limits=shorter)[1].tried) == 2
    assert len(start(store, file, limits=smaller)[1].tried) == 2
    assert not start(store, file, limits=smaller)[1].tried
    asked = Expectation((2,), 0, 1, 3, "noisevote", 1)
    names = {
        trial_of("a", asked, DEFAULT_LIMITS.trial),
        trial_of("b", asked, DEFAULT_LIMITS.trial),
        trial_of("a", replace(asked, classes=4), DEFAULT_LIMITS.trial),
        trial_of("a", replace(asked, shape=(3,)), DEFAULT_LIMITS.trial),
        trial_of("a", replace(asked, rows_per_run=1), DEFAULT_LIMITS.trial),
    }
    assert len(names) == 5


def test_what_is_refused_is_tried_at_every_start(store: ModelStore, tmp_path: Path) -> None:
    """It may have been the machine; the good file beside it is tried once."""
    manifest = store.manifest("tiny")
    bad = store.read(manifest, manifest.variants[1])
    for _ in range(2):
        served, engine = start(store, tmp_path / "timings.json", bad=bad)
        assert [refusal.reason for refusal in served.refusals] == ["it is bad"]
    assert engine.tried == [bad]


def test_only_its_owner_may_read_what_is_kept(store: ModelStore, tmp_path: Path) -> None:
    """Folder and file are private, and nothing else is left there, even where writing fails."""
    file = tmp_path / "cache" / "timings.json"
    start(store, file)
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert [each.name for each in file.parent.iterdir()] == [file.name]
    file.unlink()
    file.mkdir()
    start(store, file)
    assert [each.name for each in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize(
    ("mode", "owner", "reason"),
    [
        (0o620, None, "other users may write to it"),
        (0o602, None, "other users may write to it"),
        (0o600, 4321, "it belongs to another user"),
    ],
)
def test_what_others_can_have_written_is_not_used(
    store: ModelStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    mode: int,
    owner: int | None,
    reason: str,
) -> None:
    """Or a stranger could spare a poisoned file its trial. One line tells of it, and the file becomes its own again."""
    file = tmp_path / "timings.json"
    start(store, file)
    file.chmod(mode)
    with monkeypatch.context() as patched, caplog.at_level(logging.INFO):
        if owner is not None:
            patched.setattr(os, "geteuid", lambda: owner)
        assert len(start(store, file)[1].tried) == 2
    assert [record.getMessage() for record in caplog.records] == [f"timings: {file} is not used: {reason}"]
    assert not start(store, file)[1].tried


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"about": 1}',
        b"\xff\xfe",
        b'{"about": "ABOUT", "passed": []}',
        b'{"about": "an earlier version", "curves": {}}',
        b'{"about": "ABOUT", "curves": {}, "passed": {"a": 1}}',
        b'{"about": "ABOUT", "curves": {}, "passed": [7]}',
        b'{"about": "ABOUT", "curves": 3, "passed": []}',
        b'{"about": "ABOUT", "curves": {"a": []}, "passed": ["a"]}',
        b'{"about": "ABOUT", "curves": {"a": [[0, 1.0]]}, "passed": ["a"]}',
        b'{"about": "ABOUT", "curves": {"a": [[1, -1.0]]}, "passed": ["a"]}',
        b'{"about": "ABOUT", "curves": {"a": [[1, Infinity]]}, "passed": ["a"]}',
        b'{"about": "ABOUT", "curves": {"a": [["x", 1.0]]}, "passed": ["a"]}',
        b'{"about": "another", "curves": {"a": [[1, 1.0]]}, "passed": ["a"]}',
        b"[" * 100_000,
        b" " * (LONGEST_FILE_BYTES + 1),
    ],
)
def test_what_cannot_be_used_is_found_out_anew(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever lies there, one line tells of it; then it is whole again."""
    file = tmp_path / "timings.json"
    file.touch(0o600)
    file.write_bytes(content.replace(b"ABOUT", Findings(file, "engine")._about.encode()))
    findings = Findings(file, "engine")
    caplog.set_level(logging.INFO)
    findings.read()
    assert len(caplog.records) == 1
    assert not findings.passed("a")
    assert findings.profile("a", measured) == measured()
    findings.note_passed("a")
    findings.write()
    again = Findings(file, "engine")
    again.read()
    assert again.passed("a")
    assert again.profile("a", forbidden) == measured()
    assert len(caplog.records) == 1


def test_where_nothing_can_be_kept_nothing_fails(tmp_path: Path) -> None:
    """A file in the place of the folder, a folder and a FIFO in the place of the file, and nowhere at all."""
    (tmp_path / "file").write_text("")
    (tmp_path / "timings.json").mkdir()
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "file" / "timings.json", tmp_path / "timings.json", tmp_path / "fifo", None):
        findings = Findings(path)
        findings.read()
        assert findings.profile("a", measured) == measured()
        findings.write()


def test_a_file_that_grows_too_long_loses_what_is_oldest(tmp_path: Path) -> None:
    """A repository where versions come and go keeps what it found out of the newest."""
    file = tmp_path / "timings.json"
    findings = Findings(file)
    for number in range(MOST_KEPT + 1):
        findings.profile(str(number), measured)
        findings.note_passed(str(number))
    findings.write()
    again = Findings(file)
    again.read()
    assert (again.passed("0"), again.passed("1"), again.passed(str(MOST_KEPT))) == (False, True, True)
    assert again.profile("1", forbidden) == measured()
    with pytest.raises(AssertionError):
        again.profile("0", forbidden)


def test_findings_are_of_one_processor_and_one_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that several machines share, an image that was moved, or an upgrade gives nobody another one's."""
    file = tmp_path / "timings.json"
    here = Findings(file)
    here.profile("a", measured)
    here.note_passed("a")
    here.write()
    assert json.loads(file.read_text())["curves"]
    place = "noisevote.service.models.findings"
    for changed, other in (("processor", lambda: processor() + " another"), ("version", lambda _: "another")):
        with monkeypatch.context() as patched:
            patched.setattr(f"{place}.{changed}", other)
            there = Findings(file)
            there.read()
            assert not there.passed("a")
            with pytest.raises(AssertionError):
                there.profile("a", forbidden)
