import hashlib
import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from noisevote.service.callers import Quotas
from noisevote.service.rest.keys import KeysError, KeysFile, key_line, new_key, parse_keys
from tests.support.process import ROOT, clean_environment

USUAL = Quotas(queued_votes=100, priority=4)


class Clock:
    """Time that passes when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def write(path: Path, *lines: str) -> None:
    """A file of these lines, put in place of the other as Kubernetes does it."""
    new = path.with_suffix(".new")
    new.write_text("".join(f"{line}\n" for line in lines))
    os.replace(new, path)


def test_a_key_is_known_by_its_hash_alone() -> None:
    """The line holds no part of the key; the key, and no other, finds its holder, scopes and quotas."""
    key, other = new_key(), new_key()
    line = key_line("alice", ["predict", "admin", "predict"], key)
    assert key not in line
    assert json.loads(line)["sha256"] == hashlib.sha256(key.encode()).hexdigest()
    own = json.dumps(json.loads(key_line("bob", ["predict"], other)) | {"priority": 8, "votes_per_minute": 5})
    keys = parse_keys(f"# staff\n\n{line}\n{own}\n", USUAL)
    alice, bob = keys.caller(key.encode()), keys.caller(other.encode())
    assert alice is not None
    assert bob is not None
    assert (alice.name, set(alice.scopes), alice.quotas) == ("alice", {"predict", "admin"}, USUAL)
    assert bob.quotas == Quotas(votes_per_minute=5, queued_votes=100, priority=8)
    for wrong in (b"", key.encode()[:-1], key.encode() + b"x", b"\xff" * 9, b"x" * 10**6):
        assert keys.caller(wrong) is None


def test_keys_have_256_random_bits() -> None:
    """No two alike, and 43 characters of 6 bits after the prefix."""
    keys = {new_key() for _ in range(1000)}
    assert len(keys) == 1000
    assert all(re.fullmatch(r"nv_[A-Za-z0-9_-]{43}", key) for key in keys)


GOOD = json.loads(key_line("a", ["predict"], "k"))


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (["{"], "line 1"),
        (["[]"], "line 1"),
        ([json.dumps(GOOD | {"scopes": ["root"]})], "line 1: scopes"),
        ([json.dumps(GOOD | {"scopes": []})], "line 1: scopes"),
        ([json.dumps(GOOD | {"name": "a b"})], "line 1: name"),
        ([json.dumps(GOOD | {"sha256": "nv_secret"})], "line 1: sha256"),
        ([json.dumps(GOOD | {"priority": 9})], "line 1: priority"),
        ([json.dumps(GOOD | {"votes": 9})], "line 1: votes"),
        ([json.dumps(GOOD), json.dumps(GOOD | {"sha256": "0" * 64})], "line 2: name: 'a' is there twice"),
        ([json.dumps(GOOD), json.dumps(GOOD | {"name": "b"})], "line 2: sha256"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(lines: list[str], problem: str) -> None:
    """By its number and key, without its value: a key may have been put where its hash belongs."""
    with pytest.raises(KeysError, match=re.escape(problem)) as caught:
        parse_keys("\n".join(lines), USUAL)
    assert "nv_secret" not in str(caught.value)


def test_keys_change_without_a_restart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A replaced file counts a second later at most; one that cannot be used changes nothing and is in the log."""
    path, clock, one, two = tmp_path / "keys.jsonl", Clock(), new_key(), new_key()
    write(path, key_line("alice", ["predict"], one))
    file = KeysFile(path, USUAL, clock)
    write(path, key_line("alice", ["predict"], two))
    clock.now = 1.0
    assert file.current().caller(one.encode()) is None
    assert file.current().caller(two.encode()) is not None
    for damage in ("not json", None):
        if damage is None:
            path.unlink()
        else:
            write(path, damage)
        clock.now += 1.0
        with caplog.at_level(logging.ERROR):
            assert file.current().caller(two.encode()) is not None
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    assert "line 1" in caplog.text
    write(path)
    clock.now += 1.0
    assert file.current().caller(two.encode()) is None


def test_the_file_is_looked_at_once_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many requests there are."""
    path, clock = tmp_path / "keys.jsonl", Clock()
    write(path)
    file = KeysFile(path, USUAL, clock)
    looks = []

    def look(_: KeysFile) -> tuple[int, ...]:
        looks.append(clock.now)
        return (1,)

    monkeypatch.setattr(KeysFile, "_stat", look)
    for tenth in range(30):
        clock.now = tenth / 10
        file.current()
    assert looks == [1.0, 2.0]


def test_the_command_prints_the_key_once_and_the_line_to_add(tmp_path: Path) -> None:
    """The line alone on standard output; the key on standard error; together they open a door."""
    command = [sys.executable, "-m", "noisevote", "key", "alice", "--scope", "predict", "--scope", "admin"]
    made = subprocess.run(command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=True)
    (key,) = re.findall(r"^nv_\S+$", made.stderr, re.MULTILINE)
    caller = parse_keys(made.stdout, USUAL).caller(key.encode())
    assert caller is not None
    assert caller.scopes == {"predict", "admin"}
    refused = subprocess.run([*command[:4], "a b"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("noisevote key: name: ")
    assert refused.stderr.count("\n") == 1


def test_what_counts_by_the_minute_is_imported_with_a_key_that_needs_it() -> None:
    """Where keys are read, and not with the first request of such a key; other keys bring nothing along."""
    code = """
import sys
from noisevote.service.callers import Quotas
from noisevote.service.rest.keys import key_line, new_key, parse_keys
line = key_line("a", ["predict"], new_key())
parse_keys(line, Quotas(queued_votes=3, priority=1))
print("limits" in sys.modules)
parse_keys(line, Quotas(votes_per_minute=3))
print("limits" in sys.modules)
"""
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout.split() == ["False", "True"]
