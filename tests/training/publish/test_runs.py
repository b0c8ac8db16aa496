import hashlib
import shutil
from pathlib import Path

import pytest
import torch

from noisevote.evaluation import results
from noisevote.evaluation.accuracy import evaluate
from noisevote.evaluation.plan import Plan
from noisevote.evaluation.results import EvaluationError
from noisevote.model_store.store import ModelStore, VersionExistsError
from noisevote.noise_op.contract import NoiseKind
from noisevote.training.data.data_set import DataSet
from noisevote.training.measure.torch_twin import TorchTwin
from noisevote.training.publish import export
from noisevote.training.publish.runs import UnpublishableError, certified_sigma, describe, publish
from noisevote.training.runs import checkpoint
from noisevote.training.runs.checkpoint import Checkpoint
from noisevote.training.runs.recipe import Recipe
from noisevote.training.runs.run_folder import RunFolder


@pytest.fixture
def copied(measured: RunFolder, tmp_path: Path) -> RunFolder:
    """A run that a test may damage."""
    folder = RunFolder(tmp_path / "run")
    shutil.copytree(measured.path, folder.path)
    return folder


def test_published_version_reads_back(measured: RunFolder, data: DataSet, tmp_path: Path) -> None:
    """The store gives back the exported bytes, and a manifest that states recipe, costs, data and measurements."""
    store = ModelStore(tmp_path)
    publish([measured], data, store, "1")
    publication = store.publication("mnist-cnn")
    assert publication.refusals == {}
    (variant,) = publication.manifest.variants
    content = measured.exported.read_bytes()
    assert publication.files == {"mul-0.3": content}
    assert variant.sha256 == hashlib.sha256(content).hexdigest()
    assert variant.recipe == measured.read_recipe().model_dump()
    assert (variant.parameters, variant.multiply_accumulates, variant.samples) == (870634, 19094528, 75530)
    assert variant.layers == 6
    assert variant.provenance is not None
    assert variant.provenance.train_images == 64
    assert variant.provenance.files == {"digits": f"md5:{'0' * 32}"}
    assert publication.manifest.input.shape == (1, 28, 28)
    assert publication.manifest.classes == tuple("0123456789")
    measurements = results.read(measured.evaluation_by("onnxruntime")).cell("multiplicative", 0.5)
    assert measurements is not None
    at_half = {point.votes: point.accuracy for point in variant.accuracy if point.sigma == 0.5}
    assert at_half == {found.votes: found.accuracy for found in measurements.measured}
    assert {(point.images, point.seed, point.reads) for point in variant.accuracy} == {(64, 4, 1)}


def test_weights_of_before_there_were_several_algorithms_are_published(copied: RunFolder, data: DataSet) -> None:
    """Their state names bare MD5 sums, and the manifest says the algorithm."""
    weights = checkpoint.read(copied.weights)
    state = {key: value for key, value in weights.state.items() if key != "data_hashes"}
    checkpoint.write(copied.weights, Checkpoint(weights.tensors, state | {"data_md5": {"digits": "1" * 32}}))
    provenance = describe(copied, data).provenance
    assert provenance is not None
    assert provenance.files == {"digits": f"md5:{'1' * 32}"}


def test_version_is_published_once(measured: RunFolder, data: DataSet, tmp_path: Path) -> None:
    """A version that exists is replaced only when that is asked for."""
    store = ModelStore(tmp_path)
    publish([measured], data, store, "1")
    with pytest.raises(VersionExistsError):
        publish([measured], data, store, "1")
    publish([measured], data, store, "1", replace=True)


def test_a_version_keeps_what_another_has(measured: RunFolder, data: DataSet, tmp_path: Path) -> None:
    """Its variants come along as they are, files and all, but for one whose name a run has."""
    store = ModelStore(tmp_path)
    publish([measured], data, store, "1")
    first = store.publication("mnist-cnn", "1")
    (own,) = first.manifest.variants
    other = own.model_copy(update={"name": "other", "file": "other.onnx"})
    outdated = own.model_copy(update={"parameters": 1})
    before = first.manifest.model_copy(update={"version": "2", "variants": (other, outdated)})
    store.publish(before, {"other": first.files["mul-0.3"], "mul-0.3": first.files["mul-0.3"]})
    publish([measured], data, store, "3", kept_version="2")
    made = store.publication("mnist-cnn", "3")
    assert made.refusals == {}
    assert made.manifest.variants == (other, own)
    assert made.files["other"] == first.files["mul-0.3"]


def test_measurements_of_another_file_are_refused(copied: RunFolder, data: DataSet, tmp_path: Path) -> None:
    """A table is never published beside a file that it was not measured on."""
    copied.exported.write_bytes(copied.exported.read_bytes() + b"\0")
    with pytest.raises(EvaluationError, match=r"is of a file of sha256 .*, but mul-0\.3\.onnx has"):
        publish([copied], data, ModelStore(tmp_path / "store"), "1")
    assert not (tmp_path / "store").exists()


def test_what_the_twin_measured_is_published_if_the_file_casts_its_votes(
    copied: RunFolder, data: DataSet, tmp_path: Path
) -> None:
    """A table measured by the torch twin goes with the export of the same weights, and with no other file."""
    twin = TorchTwin(copied, torch.device("cpu"))
    plan = Plan(("multiplicative",), (0.7,), 3, seed=4)
    evaluate(twin, copied.evaluation_by("torch"), data.test, plan)
    assert describe(copied, data).measured_by == "mixed"
    copied.evaluation_by("onnxruntime").unlink()
    assert describe(copied, data).measured_by == "torch"
    network = copied.read_network()
    with torch.no_grad():
        for weights in network.parameters():
            weights.mul_(-1)
    export.write(export.export(network, copied.read_recipe()), copied.exported)
    with pytest.raises(UnpublishableError, match="are not those of the weights"):
        publish([copied], data, ModelStore(tmp_path / "store"), "1")


@pytest.mark.parametrize(("missing", "why"), [("weights.safetensors", "not finished"), ("mul-0.3.onnx", "export it")])
def test_unready_run_is_refused_by_name(
    copied: RunFolder, data: DataSet, tmp_path: Path, missing: str, why: str
) -> None:
    """A run without its weights or its file is named, with what is to be done first."""
    (copied.path / missing).unlink()
    with pytest.raises(UnpublishableError, match=why):
        publish([copied], data, ModelStore(tmp_path / "store"), "1")


@pytest.mark.parametrize(
    ("network", "noise", "sigma", "certifies"),
    [
        ("mnist-smoothed", "additive", 0.5, 0.5),
        ("mnist-smoothed", "additive", 0.0, None),
        ("mnist-smoothed", "multiplicative", 0.5, None),
        ("mnist-cnn", "additive", 0.5, None),
    ],
)
def test_what_certifies_says_so_in_its_manifest(
    network: str, noise: NoiseKind, sigma: float, certifies: float | None
) -> None:
    """Additive noise on the input alone, and no other."""
    assert certified_sigma(Recipe(network=network, noise=noise, sigma_train=sigma)) == certifies
