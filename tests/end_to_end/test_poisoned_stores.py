"""A server as a process, on stores with models that cannot be served."""

import signal
import time
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np
import pytest

from noisevote.model_store.store import ModelStore
from tests.support.graphs import SHAPE
from tests.support.poison import HANGING, OTHERS, POISONS
from tests.support.process import TIMEOUT_S, ended, server, start_line
from tests.support.serving import publish_tiny

BODY = {"inputs": np.zeros((1, *SHAPE)).tolist(), "sigma": 0.5, "votes": 5, "seed": 1}
LIMITS = ("--port", "0", "--load-seconds", "5", "--load-bytes", str(2**30))
# What Python and a loaded machine need to end, beside the grace time.
EXIT_S = 5.0


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """A store with a good model that comes last."""
    store = ModelStore(tmp_path / "models")
    publish_tiny(store, name="zz-good")
    return store


def check_serving(store: ModelStore, names: set[str]) -> None:
    """The good model answers, the others are named at start, and the server ends as it should."""
    with server(*LIMITS, "--model-store", str(store.root)) as process:
        line, address = start_line(process)
        assert "zz-good 1: mul-0.0, mul-0.8 |" in line
        assert names <= set(line.replace(",", " ").split())
        assert httpx.get(f"{address}/readyz").status_code == 200
        answer = httpx.post(f"{address}/v1/models/zz-good/predict", json=BODY)
        assert sum(answer.json()["predictions"][0]["histogram"]) == 5
        process.send_signal(signal.SIGTERM)
        status, _, errors = ended(process)
    assert status == 0
    assert all(f"refused: {name}" in errors for name in names)


# Each that hangs computes until its time limit. tests/service/models/test_poisoned.py loads all of them.
@pytest.mark.parametrize("hanging", [["loop"], pytest.param([*HANGING], marks=pytest.mark.prove)], ids=["one", "all"])
def test_a_store_full_of_poisoned_models_serves_the_good_one(store: ModelStore, hanging: list[str]) -> None:
    """Sixty models that cannot be served, some of which hang, each named at start, and one that is served."""
    names = {*OTHERS, *hanging}
    assert len(names) >= 50
    for name in names:
        POISONS[name].put(store, name)
    check_serving(store, names)


@pytest.mark.prove
@pytest.mark.parametrize("name", POISONS)
def test_each_poisoned_model_leaves_the_one_beside_it_serving(store: ModelStore, name: str) -> None:
    """Alone with it in a store."""
    POISONS[name].put(store, name)
    check_serving(store, {name})


@pytest.mark.parametrize(
    ("name", "grace"),
    [
        ("loop", 0),
        ("endless-at-start", 2),
        *(pytest.param(name, grace, marks=pytest.mark.prove) for name in HANGING for grace in (0, 1, 4)),
    ],
)
def test_sigterm_ends_a_server_whose_models_hang(store: ModelStore, name: str, grace: int) -> None:
    """Within the grace time, with status 0, and no process that tried them is left."""
    HANGING[name].put(store, "hangs")
    flags = ("--port", "0", "--model-store", str(store.root), "--grace-seconds", str(grace))
    with server(*flags) as process:
        child = first_child(process.pid)
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        status, output, _ = ended(process)
        took = time.monotonic() - began
    assert (status, output) == (0, "")
    assert took < grace + EXIT_S
    assert not Path(f"/proc/{child}").exists()


def first_child(process: int) -> int:
    """The process that tries the server's models, once there is one that is busy."""
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        for task in Path(f"/proc/{process}/task").iterdir():
            with suppress(FileNotFoundError):  # a thread may end while it is looked at, and so may a child
                children = (task / "children").read_text().split()
                if children and _cpu_ticks(int(children[0])) > 50:
                    return int(children[0])
        time.sleep(0.02)
    raise AssertionError("no child")


def _cpu_ticks(process: int) -> int:
    """Hundredths of seconds that it has computed."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


@pytest.mark.prove
def test_a_hanging_model_keeps_no_other_from_serving(store: ModelStore) -> None:
    """Ready after the time limit, with the reason in the log."""
    for name, poison in HANGING.items():
        poison.put(store, name)
    check_serving(store, set(HANGING))


@pytest.mark.parametrize(
    ("inside", "named"),
    [("", "models/zz-good/: is no version's number"), ("models/zz-good", "is the store the folder above?")],
)
def test_a_store_at_another_level_names_what_was_ignored(store: ModelStore, inside: str, named: str) -> None:
    """Nothing can be served, and the message leads to where the store is."""
    with server("--port", "0", "--model-store", str(store.root.parent / inside)) as process:
        status, output, errors = ended(process)
    assert (status, output) == (1, "")
    message = next(line for line in errors.splitlines() if line.startswith("noisevote: no model in"))
    assert named in message
