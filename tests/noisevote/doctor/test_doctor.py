import json
import os
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from noisevote.commands.doctor import main
from noisevote.doctor import installation, machine
from noisevote.model_store.store import ModelStore
from tests.noisevote.test_dispatch import BEYOND_A_CLIENT, without
from tests.support.process import free_port
from tests.support.serving import publish_tiny


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """A store with `tiny`."""
    store = ModelStore(tmp_path / "models")
    publish_tiny(store)
    return store


def looked(store: ModelStore, capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[int, dict[str, dict[str, str]]]:
    """The exit status, and findings by subject; the worse one where there are several."""
    place = ("--model-store", str(store.root), "--port", str(free_port()))
    status = main([*place, "--json", *flags])
    findings = json.loads(capsys.readouterr().out)["findings"]
    order = ["ok", "warning", "failure"]
    return status, {each["subject"]: each for each in sorted(findings, key=lambda each: order.index(each["health"]))}


def test_a_machine_that_serves_is_well(store: ModelStore, capsys: pytest.CaptureFixture[str]) -> None:
    """Status 0; every subject is looked at, and what is not well says what to do."""
    status, findings = looked(store, capsys)
    assert status == 0
    subjects = {"kernel", "threads", "memory", "open files", "store", "port", "clock", "packages", "settings"}
    assert subjects <= set(findings)
    assert all((each["advice"] is None) == (each["health"] == "ok") for each in findings.values())


def test_a_port_in_use_is_a_failure(store: ModelStore, capsys: pytest.CaptureFixture[str]) -> None:
    """Status 1, and what to do; so is a host that is none."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        status, findings = looked(store, capsys, "--port", str(taken.getsockname()[1]))
    assert (status, findings["port"]["health"]) == (1, "failure")
    assert "in use" in findings["port"]["found"]
    assert looked(store, capsys, "--host", "no.such.host.invalid")[0] == 1


def test_a_store_is_read_to_the_end(store: ModelStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A damaged file and a misnamed folder are named; a store with nothing else is a failure, as is none."""
    publish_tiny(store, "2")
    (store.root / "tiny" / "v5").mkdir()
    (store.root / "tiny" / "2" / "mul-0.0.onnx").write_bytes(b"other")
    found, _ = installation.store(store.root)
    assert [each.health for each in found] == ["ok", "warning", "warning"]
    assert found[0].found.startswith("1 versions in ")
    told = " ".join(each.found for each in found)
    assert "mul-0.0" in told
    assert "v5" in told
    (store.root / "tiny" / "1" / "manifest.json").write_text("{}")
    assert looked(store, capsys)[0] == 1
    assert installation.store(tmp_path / "none")[0][0].health == "failure"


def test_limits_of_a_cgroup_are_found(tmp_path: Path) -> None:
    """Memory and processors of the tightest one around the process."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/outer/inner\n")
    (tmp_path / "proc/meminfo").write_text("MemTotal:       8388608 kB\n")
    inner = tmp_path / "sys/fs/cgroup/outer/inner"
    inner.mkdir(parents=True)
    (inner / "memory.max").write_text("max\n")
    assert machine.memory(tmp_path).found == "the machine has 8,192 MiB"
    (inner.parent / "memory.max").write_text(f"{512 * 2**20}\n")
    found = machine.memory(tmp_path)
    assert (found.health, found.found) == ("warning", "the cgroup allows 512 MiB")
    (inner / "cpu.max").write_text("100000 100000\n")
    if (os.cpu_count() or 1) > 1:
        assert machine.processors(tmp_path).health == "warning"


def test_settings_tell_what_batches_may_take(
    store: ModelStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads times memory is what the machine must have beside the models."""
    monkeypatch.setenv("NOISEVOTE_THREADS", "3")
    monkeypatch.setenv("NOISEVOTE_BATCH_BYTES", str(64 * 2**20))
    _, findings = looked(store, capsys)
    assert findings["settings"]["found"].endswith("3 batches at once, of at most 64 MiB each")


def test_a_clock_that_is_behind_the_models_is_told() -> None:
    """A model cannot be published later than today."""
    today = datetime(2026, 1, 1, tzinfo=UTC)
    assert machine.clock(today - timedelta(days=1), today).health == "ok"
    assert machine.clock(today + timedelta(days=1), today).health == "warning"


def test_unusable_settings_are_a_failure(
    store: ModelStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the message with which the server would end."""
    monkeypatch.setenv("NOISEVOTE_PROT", "1")
    status, findings = looked(store, capsys)
    assert status == 1
    assert "NOISEVOTE_PROT" in findings["settings"]["found"]


def test_without_extras_it_says_what_cannot_run() -> None:
    """The base installation can ask it too: what is missing is a warning with the command that installs it."""
    done = without(BEYOND_A_CLIENT, "doctor", "--port", str(free_port()))
    assert done.stderr == ""
    assert (
        'warn  packages: noisevote serve cannot run here\n      pip install "noisevote[serve]", if it shall'
        in done.stdout
    )
