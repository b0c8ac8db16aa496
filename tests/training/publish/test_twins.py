from pathlib import Path

import numpy as np
import pytest

from noisevote.engine.onnx_engine import OnnxEngine
from noisevote.engine.session_key import SessionKey
from noisevote.evaluation.accuracy import evaluate
from noisevote.evaluation.accuracy_points import accuracy_points
from noisevote.evaluation.examples import Examples
from noisevote.evaluation.onnx_runtime import OnnxRuntime
from noisevote.evaluation.plan import Plan
from noisevote.model_store.store import ModelStore
from noisevote.noise_op.library import load_kernel
from noisevote.training.data.data_set import DataSet
from noisevote.training.publish.twins import LessAccurateError, Twin, add
from tests.support.graphs import CLASSES, SHAPE, tiny_network
from tests.support.manifests import manifest, point, variant

PLAN = Plan(("multiplicative",), (0.0, 0.5), votes=3, seed=0)


@pytest.fixture(scope="module")
def data() -> DataSet:
    """Random inputs with random labels: what is measured is whether two files decide alike."""
    rng = np.random.default_rng(1)
    inputs, labels = rng.integers(0, 256, (96, *SHAPE), np.uint8), rng.integers(0, CLASSES, 96)
    examples = Examples(inputs, labels)
    return DataSet("none", examples, examples, tuple(map(str, range(CLASSES))), {})


@pytest.fixture
def store(tmp_path: Path, data: DataSet) -> ModelStore:
    """The tiny network as one measured variant."""
    file = tmp_path / "tiny.onnx"
    file.write_bytes(tiny_network())
    table = accuracy_points(evaluate(OnnxRuntime(file), tmp_path / "tiny.json", data.test, PLAN))
    store = ModelStore(tmp_path / "models")
    measured = variant("mul-0.5", tiny_network(), sigma_train=0.5, accuracy=table)
    described = manifest({}, shape=SHAPE, classes=data.classes, variants=(measured,))
    store.publish(described, {"mul-0.5": tiny_network()})
    return store


def made(store: ModelStore, data: DataSet, folder: Path) -> Twin:
    """The twin of the only variant, its file written."""
    described = store.manifest("tiny")
    variant = described.variants[0]
    assert variant.provenance is not None
    twin = Twin(described, variant, variant.provenance, folder / "mul-0.5-int8.onnx")
    twin.make(store, data, PLAN.sigmas)
    return twin


def test_a_twin_is_measured_beside_its_variant_and_added(store: ModelStore, data: DataSet, tmp_path: Path) -> None:
    """Same images, seeds and votes: wherever both are measured there is a difference; the added twin loads and runs."""
    twin = made(store, data, tmp_path)
    assert twin.plan(3, None) == PLAN
    measured = twin.measured(data, PLAN, threads=1)
    differences = twin.differences(measured)
    assert [each.point.sigma for each in differences] == [0.0] * 3 + [0.5] * 3
    assert all(abs(each.gain) < 0.1 for each in differences)
    assert measured.recipe["calibration"] == {"inputs": 160, "votes": 4, "percentile": 99.99, "sigmas": [0.0, 0.5]}
    accurate = measured.model_copy(update={"accuracy": twin.variant.accuracy})  # of 96 images none may tip
    add(store, twin, accurate)
    publication = store.publication("tiny")
    engine = OnnxEngine(load_kernel())
    key = SessionKey("tiny", "1", "mul-0.5-int8")
    engine.load(key, publication.manifest, publication.files["mul-0.5-int8"])


def test_a_less_accurate_twin_is_not_added(store: ModelStore, data: DataSet, tmp_path: Path) -> None:
    """More than 0.1 points below anywhere, and the version stays as it is; the place is named."""
    twin = made(store, data, tmp_path)
    original = twin.variant.accuracy
    worse = (*original[:-1], point(0.5, original[-1].accuracy - 0.002, votes=3, images=96))
    measured = twin.measured(data, PLAN, threads=1).model_copy(update={"accuracy": worse})
    with pytest.raises(LessAccurateError, match=r"multiplicative sigma 0.5, votes 3: .*-0.20 points"):
        add(store, twin, measured)
    assert [each.name for each in store.manifest("tiny").variants] == ["mul-0.5"]
