"""From pen strokes to a served model: trained, exported, measured, published, asked over HTTP."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from noisevote.model_store.store import ModelStore
from noisevote.training.__main__ import main
from noisevote.training.data import strokes
from tests.support.serving import serve

STORED = Path(__file__).parents[1] / "data" / "mnist_strokes.npz"
PATH = "/v1/models/stroke-lstm/predict"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelStore:
    """A store with a `stroke-lstm` that learned from 64 digits for two epochs."""
    file = tmp_path / strokes.FILE
    with np.load(STORED) as stored:
        np.savez(file, **{f"{part}_{name}": stored[name] for part in ("train", "test") for name in stored})
    monkeypatch.setattr(strokes, "SHA256", hashlib.sha256(file.read_bytes()).hexdigest())
    monkeypatch.setenv("NOISEVOTE_DATA", str(tmp_path))
    run, models = str(tmp_path / "run"), tmp_path / "models"
    few = ["--epochs", "2", "--batch", "32", "--sigma-train", "0.4", "--threads", "1"]
    assert main(["train", "--network", "stroke-lstm", "--run", run, *few]) == 0
    assert main(["export", run]) == 0
    assert main(["evaluate", run, "--sigmas", "0", "0.4", "--votes", "2", "--images", "8", "--threads", "1"]) == 0
    assert main(["publish", run, "--version", "1", "--store", str(models)]) == 0
    return ModelStore(models)


async def test_points_are_asked_as_they_are_drawn(store: ModelStore) -> None:
    """Lists of any number of points are answered, each as its points padded to 56 are; votes repeat by their seed."""
    points = [[5, 5], [6, 5], [7, 5], [8, 6], [8, 7], [7, 8], [6, 9]]
    long = points * 12
    padded = points + [points[-1]] * (56 - len(points))
    body = {"sigma": 0.4, "votes": 10, "seed": 3}
    async with serve(store) as client:
        manifest = (await client.get("/v1/models/stroke-lstm")).json()["manifest"]
        answers = [(await client.post(PATH, json=body | {"inputs": [item]})).json() for item in (points, padded, long)]
        cut = (await client.post(PATH, json=body | {"inputs": [long[:56]]})).json()
        empty = await client.post(PATH, json=body | {"inputs": [[]]})
    assert manifest["input"] | {"preprocessing": ""} == {
        "shape": [56, 2],
        "dtype": "float32",
        "value_range": [0.0, 27.0],
        "preprocessing": "",
        "padding": "repeat_last",
        "integers": False,
        "preprocess": None,
    }
    assert answers[0]["predictions"] == answers[1]["predictions"]
    assert answers[2]["predictions"] == cut["predictions"]
    assert answers[0]["predictions"] != answers[2]["predictions"]
    assert sum(answers[0]["predictions"][0]["histogram"]) == 10
    assert answers[0]["analog_cost"]["latency_parallel"] == 57
    assert empty.status_code == 422
    assert "at least one element" in empty.json()["error"]["message"]
