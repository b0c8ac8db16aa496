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
from noisevote.training.publish.twins import Difference, LessAccurateError, Twin, add, standard_error
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
    twin = Twin(described, variant, variant.provenance, folder)
    twin.make(store, data, PLAN.sigmas)
    return twin


def test_a_twin_is_measured_beside_its_variant_and_added(store: ModelStore, data: DataSet, tmp_path: Path) -> None:
    """Same images, seeds and votes: wherever both are measured there is a difference; the added twin loads and runs."""
    twin = made(store, data, tmp_path)
    assert twin.plans(3, None) == (PLAN,)
    measured = twin.measured(data, (PLAN,), threads=1)
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
    measured = twin.measured(data, (PLAN,), threads=1).model_copy(update={"accuracy": worse})
    with pytest.raises(LessAccurateError, match=r"multiplicative sigma 0.5, votes 3: .*-0.20 points"):
        add(store, twin, measured)
    assert [each.name for each in store.manifest("tiny").variants] == ["mul-0.5"]


def test_it_is_measured_where_and_as_much_as_its_variant(store: ModelStore, tmp_path: Path) -> None:
    """A plan for each number of votes that the table has; fewer votes, or other sigmas, where they are asked for."""
    described = store.manifest("tiny")
    table = [point(0.0, 0.9, votes=20), point(0.4, 0.8, votes=1), point(0.4, 0.9, votes=20), point(1.0, 0.7, votes=2)]
    measured = described.variants[0].model_copy(update={"accuracy": tuple(table)})
    assert measured.provenance is not None
    twin = Twin(described, measured, measured.provenance, tmp_path)

    def plan(votes: int, *sigmas: float) -> Plan:
        return Plan(("multiplicative",), sigmas, votes, seed=0)

    assert twin.plans(20, None) == (plan(20, 0.0, 0.4), plan(2, 1.0))
    assert twin.plans(2, None) == (plan(2, 0.0, 0.4, 1.0),)
    assert twin.plans(10, (0.5, 1.0)) == (plan(10, 0.5), plan(2, 1.0))


def test_draws_of_its_own_are_given_their_chance(store: ModelStore, data: DataSet, tmp_path: Path) -> None:
    """A twin of another operator version is named for it, and held to 0.1 points or three standard errors."""
    described = store.manifest("tiny")
    (original,) = described.variants
    assert original.provenance is not None
    twin = Twin(described, original, original.provenance, tmp_path, operator=2)
    assert twin.name == "mul-0.5-int8-op2"
    assert twin.file == tmp_path / "mul-0.5-int8-op2.onnx"
    twin.make(store, data, PLAN.sigmas)
    measured = twin.measured(data, (PLAN,), threads=1)
    assert measured.operator_version == 2
    silent, noisy = twin.differences(measured)[0], twin.differences(measured)[-1]
    assert silent.error == 0  # at sigma 0
    assert silent.most_below == 0.001
    assert noisy.most_below == 3 * noisy.error > 0.001
    far = noisy.twin.model_copy(update={"accuracy": 0.0})
    with pytest.raises(LessAccurateError, match=r"sigma 0.5, votes 3: .*standard error .* points below at most"):
        add(store, twin, measured.model_copy(update={"accuracy": (*original.accuracy[:-1], far)}))


@pytest.mark.parametrize(("below", "room"), [(2.9, True), (3.1, False)])
def test_chance_ends_at_three_standard_errors(below: float, room: bool) -> None:
    """Of a point that differs by draws; by 0.1 points of one that does not."""
    assert (Difference(point(0.5, 0.9), point(0.5, 0.9 - below * 0.002), error=0.002).room > 0) is room
    assert (Difference(point(0.5, 0.9), point(0.5, 0.9 - below / 3 * 0.001)).room > 0) is room


def test_a_standard_error_is_what_repeated_tests_spread() -> None:
    """On simulated tests of 400 images it is the spread of the mean over groups, at most a quarter larger."""
    rng = np.random.default_rng(5)
    likely = rng.beta(6, 1, 400)  # that a vote is right, image by image
    tests = rng.random((200, 20, 400)) < likely
    one, five = tests.mean(axis=2), (tests.reshape(200, 4, 5, 400).sum(axis=2) > 2).mean(axis=2)
    twenty = (tests.sum(axis=1) > 10).mean(axis=1)
    errors = []
    for each in range(200):
        table = [
            point(0.5, one[each].mean(), votes=1, images=400, spread=one[each].std(ddof=1)),
            point(0.5, five[each].mean(), votes=5, images=400, spread=five[each].std(ddof=1)),
            point(0.5, twenty[each], votes=20, images=400),
        ]
        errors.append([standard_error(table, each) for each in table])
    found = np.sqrt(np.mean(np.square(errors), axis=0))
    seen = [one.mean(axis=1).std(), five.mean(axis=1).std(), twenty.std()]
    assert np.all(found[:2] / seen[:2] < 1.25)
    assert np.all(found / seen > 0.9)  # of 20 votes by what 5 spread, which is more
