import re
import time
from pathlib import Path

import numpy as np
import pytest

from noisevote.engine.onnx_engine import OnnxEngine
from noisevote.engine.trial import TrialLimits
from noisevote.model_store.store import ModelStore
from noisevote.noise_op.library import load_kernel
from noisevote.service.models.loading import LoadLimits, load_models
from noisevote.service.models.registry import ModelRegistry
from tests.support.graphs import SHAPE
from tests.support.poison import POISONS, put_all
from tests.support.serving import publish_tiny, serve

pytestmark = pytest.mark.slow

SECONDS = 5.0
# Of each kind that a file alone shows.
LAZILY = ("loop", "string-logits", "nan-weights", "eight-gibibytes")
LIMITS = LoadLimits(TrialLimits(SECONDS, memory=2**30), input_bytes=32 * 2**20, batch_bytes=2**30)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> ModelRegistry:
    """What is loaded of a store with every poisoned model, beside a good one that comes last."""
    store = ModelStore(tmp_path_factory.mktemp("poisoned"))
    assert len(list(put_all(store))) >= 50
    publish_tiny(store, name="zz-good")
    return load_models(store, OnnxEngine(load_kernel()), 4, time.perf_counter, LIMITS)


@pytest.mark.parametrize("name", POISONS)
def test_a_poisoned_model_is_refused_by_name(registry: ModelRegistry, name: str) -> None:
    """With a short reason for people, without a path of this machine and without what ONNX Runtime says."""
    (reason,) = (refusal.reason for refusal in registry.refusals if refusal.name.split()[0] == name)
    assert re.search(POISONS[name].reason, reason), reason
    assert len(reason) < 700
    assert "ONNXRuntimeError" not in reason
    assert str(Path.cwd()) not in reason
    assert "/tmp" not in reason


async def test_lazily_poisoned_models_are_refused_by_name(tmp_path: Path) -> None:
    """Each by its first request, with the same reason; afterwards there is no such model, and the good one serves."""
    store = ModelStore(tmp_path)
    for name in LAZILY:
        POISONS[name].put(store, name)
    publish_tiny(store, name="zz-good")
    asked = {"inputs": [np.zeros(SHAPE).tolist()], "votes": 1}
    async with serve(store, lazy=True, load_seconds=2) as client:
        for name in LAZILY:
            first = (await client.post(f"/v1/models/{name}/predict", json=asked)).json()["error"]
            assert first["code"] == "unknown_variant", name
            assert re.search(POISONS[name].reason, first["message"]), first
            second = (await client.post(f"/v1/models/{name}/predict", json=asked)).json()["error"]
            assert second["code"] == "unknown_model", name
        assert (await client.post("/v1/models/zz-good/predict", json=asked)).status_code == 200


def test_the_good_model_beside_them_serves(registry: ModelRegistry) -> None:
    """Both variants of it, and no other."""
    assert list(registry.models) == ["zz-good"]
    assert len(registry.sessions()) == len(registry.profiles()) == 2
