from pathlib import Path

import numpy as np
import pytest

from noisevote.engine.onnx_engine import OnnxEngine
from noisevote.engine.session_key import SessionKey
from noisevote.evaluation.accuracy import evaluate
from noisevote.evaluation.accuracy_points import accuracy_points
from noisevote.evaluation.examples import Examples
from noisevote.evaluation.onnx_runtime import OnnxRuntime
from noisevote.evaluation.plan import Noise, Plan
from noisevote.evaluation.votes import cast_votes
from noisevote.model_store.store import ModelStore
from noisevote.noise_op.contract import OperatorVersion
from noisevote.noise_op.library import load_kernel
from noisevote.training.data.data_set import DataSet
from noisevote.training.publish.differences import Difference
from noisevote.training.publish.twin_record import TwinRecordError, read_all, record, write
from noisevote.training.publish.twins import LessAccurateError, Twin, add
from noisevote.training.report.twin_page import report
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


def made(store: ModelStore, data: DataSet, folder: Path, operator: OperatorVersion = 1) -> Twin:
    """The twin of the only variant, its file written."""
    described = store.manifest("tiny")
    variant = described.variants[0]
    assert variant.provenance is not None
    twin = Twin(described, variant, variant.provenance, folder, operator)
    twin.make(store, data, PLAN.sigmas)
    return twin


def test_a_file_stays_until_it_is_calibrated_otherwise(store: ModelStore, data: DataSet, tmp_path: Path) -> None:
    """Made again it stays to the byte; for other sigmas it is another file, and says so."""
    twin = made(store, data, tmp_path)
    first, written = twin.file.read_bytes(), twin.file.stat().st_mtime_ns
    twin.make(store, data, PLAN.sigmas)
    assert (twin.file.read_bytes(), twin.file.stat().st_mtime_ns) == (first, written)
    twin.make(store, data, (0.5,))
    assert twin.file.read_bytes() != first
    calibration = {"inputs": 160, "votes": 4, "percentile": 99.999, "sigmas": [0.5]}
    assert twin.measured(data, (PLAN,), threads=1).recipe["calibration"] == calibration


def test_a_twin_is_measured_beside_its_variant_and_added(store: ModelStore, data: DataSet, tmp_path: Path) -> None:
    """Same images, seeds and votes: wherever both are measured there is a difference; the added twin loads and runs."""
    twin = made(store, data, tmp_path)
    assert twin.plans(3, None) == (PLAN,)
    measured = twin.measured(data, (PLAN,), threads=1)
    differences = twin.compared(measured, data, (PLAN,), threads=1)
    assert [each.point.sigma for each in differences] == [0.0] * 3 + [0.5] * 3
    assert all(abs(each.gain) < 0.1 for each in differences)
    assert measured.recipe["calibration"] == {"inputs": 160, "votes": 4, "percentile": 99.999, "sigmas": [0.0, 0.5]}
    accurate = measured.model_copy(update={"accuracy": twin.variant.accuracy})  # of 96 images none may tip
    add(store, twin, accurate, twin.compared(accurate, data, (PLAN,), threads=1))
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
        add(store, twin, measured, twin.compared(measured, data, (PLAN,), threads=1))
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


def test_draws_of_its_own_are_compared_with_the_same_draws(store: ModelStore, data: DataSet, tmp_path: Path) -> None:
    """Beside a twin of another operator version its variant is measured with that version too, image by image.

    Their votes differ from those of version 1 much more often than from each other's.
    """
    twin = made(store, data, tmp_path, operator=2)
    assert twin.name == "mul-0.5-int8-op2"
    assert twin.redrawn == tmp_path / "mul-0.5-op2.onnx"
    noise: Noise = ("multiplicative", 0.5)
    source, redrawn, bytes_of = (
        cast_votes(OnnxRuntime(file), data.test, noise, PLAN)
        for file in (tmp_path / "tiny.onnx", twin.redrawn, twin.file)
    )
    assert np.mean(source != redrawn) > 3 * np.mean(bytes_of != redrawn) > 0
    measured = twin.measured(data, (PLAN,), threads=1)
    assert measured.operator_version == 2
    compared = twin.compared(measured, data, (PLAN,), threads=1)
    right = redrawn == data.test.labels[:, np.newaxis], bytes_of == data.test.labels[:, np.newaxis]
    one = next(each for each in compared if (each.twin.sigma, each.twin.votes) == (0.5, 1))
    assert (one.point.accuracy, one.twin.accuracy) == pytest.approx((right[0].mean(), right[1].mean()))
    gains = right[1].mean(axis=1) - right[0].mean(axis=1)
    assert one.error == pytest.approx(gains.std(ddof=1) / 96**0.5)
    assert all(each.error is not None for each in compared)


def test_no_chance_is_given_to_a_twin(store: ModelStore, data: DataSet, tmp_path: Path) -> None:
    """With draws of another operator version too, more than 0.1 points below are too many; the interval is said."""
    twin = made(store, data, tmp_path, operator=2)
    measured = twin.measured(data, (PLAN,), threads=1)
    (worse,) = [Difference(point(0.5, 0.9), point(0.5, 0.8985), error=0.002)]
    with pytest.raises(LessAccurateError, match=r"-0.15 ± 0.39 points\); it may be 0.1 points below at most"):
        add(store, twin, measured, [worse])
    assert not Difference(point(0.5, 0.9), point(0.5, 0.899), error=0.0).too_low


def test_what_was_published_is_reported(store: ModelStore, data: DataSet, tmp_path: Path) -> None:
    """The record read again is what was written; its page has every place, with the lowest of all named."""
    twin = made(store, data, tmp_path, operator=2)
    measured = twin.measured(data, (PLAN,), threads=1)
    compared = twin.compared(measured, data, (PLAN,), threads=1)
    noted = record(twin, measured, compared)
    write(noted, tmp_path / "records")
    assert read_all(tmp_path / "records") == [noted]
    (page,) = report(tmp_path / "records", tmp_path)
    lines = page.read_text().splitlines()
    assert "| sigma | 1 vote | 2 votes | 3 votes |" in lines
    lowest = min(compared, key=lambda each: each.gain)
    assert any(f"Lowest beside float32: {100 * lowest.gain:+.2f}" in line for line in lines)
    assert sum(line.count("±") for line in lines if line.startswith("| 0")) == len(compared)
    (tmp_path / "records" / "other.json").write_text("{}")
    with pytest.raises(TwinRecordError, match=r"other\.json"):
        report(tmp_path / "records", tmp_path)
