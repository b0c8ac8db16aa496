"""`noisevote verify` repeats what the service answered, and finds what was changed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noisevote.evaluation.verify import main
from noisevote.model_store.store import ModelStore
from tests.support.serving import serve
from tests.support.smoothed import SHAPE, publish_smoothed

pytestmark = pytest.mark.slow

PATH = "/v1/models/smooth/certify"
INPUTS = np.random.default_rng(2).random((3, *SHAPE)).astype(np.float32)
REQUESTS: list[dict[str, Any]] = [
    {"n0": 40, "n": 1500},
    {"n0": 40, "n": 50_000, "rule": "anytime", "radius": 0.1},
    {"n0": 40, "n": 50_000, "rule": "anytime", "radius": 1.2},
]
Verify = Callable[[dict[str, Any]], int]


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """A store with `smooth`."""
    store = ModelStore(tmp_path / "models")
    publish_smoothed(store)
    return store


@pytest.fixture
def verify(store: ModelStore, tmp_path: Path) -> Verify:
    """Verifies an answer about INPUTS; returns the exit status."""
    np.save(tmp_path / "inputs.npy", INPUTS)

    def verified(answer: dict[str, Any], file: str = "inputs.npy") -> int:
        (tmp_path / "answer.json").write_text(json.dumps(answer))
        places = [str(tmp_path / "answer.json"), "--input", str(tmp_path / file)]
        return main([*places, "--model-store", str(store.root)])

    return verified


async def answered(store: ModelStore, **request: Any) -> dict[str, Any]:
    """What the service answers."""
    async with serve(store) as client:
        found: dict[str, Any] = (await client.post(PATH, json={"inputs": INPUTS.tolist(), **request})).json()
        return found


@pytest.mark.parametrize("request_", REQUESTS)
async def test_an_answer_of_the_service_is_verified(
    store: ModelStore, verify: Verify, request_: dict[str, Any]
) -> None:
    """Votes, counts, radius and reason, under either rule: exit status 0."""
    assert verify(await answered(store, **request_)) == 0


async def test_whatever_is_changed_is_found(
    store: ModelStore, verify: Verify, capsys: pytest.CaptureFixture[str]
) -> None:
    """A larger radius, another count, fewer votes, another nonce or seed, another alpha: status 1, and it is named."""
    answer = await answered(store, **REQUESTS[0])
    changes: dict[str, Any] = {
        "radius": 0.9, "count": 499, "votes_used": 100, "seed": 1, "index": None, "abstain": True, "lower_bound": 0.99,
        "first_vote": 0, "stopped_by": "radius",
    }  # fmt: skip
    certified = next(i for i, each in enumerate(answer["certificates"]) if not each["abstain"])
    for key, value in changes.items():
        changed = json.loads(json.dumps(answer))
        value = (changed["certificates"][certified]["index"] + 1) % 3 if key == "index" else value  # noqa: PLW2901
        changed["certificates"][certified][key] = value
        assert verify(changed) == 1, key
        assert f"certificates[{certified}].{key}: {value!r} was answered" in capsys.readouterr().out
    for key, value in {"nonce": "00" * 16, "alpha": 0.5, "n0": 41, "sigma": 1.0, "sha256": "00" * 32}.items():
        assert verify(answer | {key: value}) == 1, key


async def test_another_input_is_not_what_was_certified(store: ModelStore, verify: Verify, tmp_path: Path) -> None:
    """Its bytes are in the seed."""
    answer = await answered(store, **REQUESTS[0])
    np.save(tmp_path / "inputs.npy", INPUTS[::-1])
    assert verify(answer) == 1


async def test_the_requests_body_is_an_input_file(store: ModelStore, verify: Any, tmp_path: Path) -> None:
    """As nested numbers and as bytes."""
    answer = await answered(store, **REQUESTS[0])
    (tmp_path / "body.json").write_text(json.dumps({"inputs": INPUTS.tolist(), "n": 500}))
    assert verify(answer, "body.json") == 0


@pytest.mark.parametrize("change", [{"model": "other"}, {"variant": "other"}, {"certificates": []}, {"nonce": "1"}])
async def test_what_cannot_be_told_is_status_2(
    store: ModelStore, verify: Verify, change: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """An unknown model, another number of inputs, an answer that is none."""
    assert verify(await answered(store, **REQUESTS[0]) | change) == 2
    assert capsys.readouterr().err.startswith("noisevote verify: ")
