"""An answer of the service, computed again from its file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noisevote.client import UnrepeatableError
from noisevote.client.calls import read_answer
from noisevote.client.replay import compared
from noisevote.evaluation.replay import ReplayError, cast_again
from noisevote.model_store.store import ModelStore
from tests.support.graphs import SHAPE
from tests.support.serving import publish_tiny, serve

INPUTS = np.random.default_rng(6).random((3, *SHAPE)).astype(np.float32)
ASKED: dict[str, Any] = {"inputs": INPUTS.tolist(), "sigma": 1.5, "votes": 40, "seed": 2**64 - 2, "return": "votes"}
RULES = [{"rule": "fixed"}, {"rule": "exact"}, {"rule": "confidence", "delta": 0.1}]


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """A store with `tiny`, and the inputs beside it."""
    store = ModelStore(tmp_path / "models")
    publish_tiny(store)
    np.save(tmp_path / "inputs.npy", INPUTS)
    return store


async def answered(store: ModelStore, **more: Any) -> dict[str, Any]:
    """What the service answers."""
    async with serve(store) as client:
        response = await client.post("/v1/models/tiny/predict", json=ASKED | more)
        assert response.status_code == 200
        return dict(response.json())


@pytest.mark.parametrize("stop", RULES)
@pytest.mark.parametrize("more", [{}, {"reads": 4, "first_vote": 11}, {"noise": "additive", "alpha": 0.3}])
async def test_on_the_kernel_an_answer_repeats_to_the_last_bit(
    store: ModelStore, tmp_path: Path, stop: dict[str, Any], more: dict[str, Any]
) -> None:
    """Every figure and every logit, under every rule; seeds go on modulo 2⁶⁴ from input to input."""
    answer = await answered(store, stop=stop, **more)
    again = read_answer(cast_again(answer, [tmp_path / "inputs.npy"], store.root, kernel=True))
    found = compared(read_answer(json.dumps(answer).encode()), again)
    assert (found.outcome, found.differences) == ("same to the last bit", ())


@pytest.mark.parametrize("stop", RULES)
async def test_on_the_function_body_votes_repeat_but_for_close_ones(
    store: ModelStore, tmp_path: Path, stop: dict[str, Any]
) -> None:
    """In stock ONNX Runtime sums are rounded otherwise, so figures may differ, but no vote that is not close."""
    answer = await answered(store, stop=stop)
    again = read_answer(cast_again(answer, [tmp_path / "inputs.npy"], store.root, kernel=False))
    found = compared(read_answer(json.dumps(answer).encode()), again)
    assert found.succeeded
    assert found.close is not None
    for mine, theirs in zip(read_answer(json.dumps(answer).encode()).predictions, again.predictions, strict=True):
        np.testing.assert_allclose(mine.logits(), theirs.logits(), rtol=1e-4, atol=1e-4)


async def test_what_was_changed_is_found(store: ModelStore, tmp_path: Path) -> None:
    """Of what determines votes any key, and any figure."""
    answer = await answered(store)
    inputs = [tmp_path / "inputs.npy"]
    for key, value in {"seed": 5, "first_vote": 1, "sigma": 1.4, "reads": 2, "noise": "additive"}.items():
        again = read_answer(cast_again(answer | {key: value}, inputs, store.root, kernel=True))
        assert compared(read_answer(json.dumps(answer).encode()), again).outcome == "different"
    forged = json.loads(json.dumps(answer))
    forged["predictions"][1]["votes"][7]["index"] ^= 1
    again = read_answer(cast_again(answer, inputs, store.root, kernel=True))
    (found,) = compared(read_answer(json.dumps(forged).encode()), again).differences
    assert found.key == "predictions[1].votes[7].index"


async def test_what_cannot_be_computed_is_named(store: ModelStore, tmp_path: Path) -> None:
    """A version or variant that is not there, another file, inputs that are not those of the model."""
    answer = await answered(store)
    inputs = [tmp_path / "inputs.npy"]
    for changed, message in (({"version": "9"}, "9"), ({"variant": "mul-9"}, "mul-9"), ({"model": "other"}, "other")):
        with pytest.raises(ReplayError, match=message):
            cast_again(answer | changed, inputs, store.root, kernel=True)
    with pytest.raises(ReplayError, match=r"none\.npy"):
        cast_again(answer, [tmp_path / "none.npy"], store.root, kernel=True)
    again = read_answer(cast_again(answer, inputs, store.root, kernel=True))
    with pytest.raises(UnrepeatableError, match="sha256"):
        compared(read_answer(json.dumps(answer | {"sha256": "00" * 32}).encode()), again)
    with pytest.raises(UnrepeatableError, match="inputs"):
        compared(read_answer(json.dumps(answer | {"predictions": answer["predictions"][:1]}).encode()), again)
