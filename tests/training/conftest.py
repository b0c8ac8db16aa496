import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from noisevote.evaluation.accuracy import evaluate
from noisevote.evaluation.examples import Examples
from noisevote.evaluation.onnx_runtime import OnnxRuntime
from noisevote.evaluation.plan import Plan
from noisevote.training.data.data_set import DataSet
from noisevote.training.data.strokes import POINTS, of_one_length, pen_points
from noisevote.training.fit.train import train
from noisevote.training.publish import export
from noisevote.training.runs.recipe import Recipe
from noisevote.training.runs.run_folder import RunFolder
from tests.support.digits import DIGITS, stored_digits

STROKES = DIGITS.with_name("mnist_strokes.npz")
FILES = {"digits": f"md5:{'0' * 32}"}


@pytest.fixture(scope="session")
def digits() -> Examples:
    """The 64 digits that are kept with the tests."""
    return stored_digits()


@pytest.fixture(scope="session")
def strokes() -> Examples:
    """The pen strokes of the same digits."""
    with np.load(STROKES) as stored:
        moves = np.stack((stored["dx"], stored["dy"]), axis=1).astype(np.int64)
        points, offsets = pen_points(moves, stored["offsets"].astype(np.int64))
        return Examples(of_one_length(points, offsets, POINTS), stored["labels"])


@pytest.fixture(scope="session")
def examples(digits: Examples) -> dict[str, Examples]:
    """Stand-ins of data sets, by name: for MNIST the digits, for CIFAR-10 the digits in colours."""
    generator = np.random.default_rng(0)
    ink, ground = generator.uniform((150, 0), (255, 100), (len(digits), 3, 2)).transpose(2, 0, 1)[..., None, None]
    framed = np.pad(digits.values(slice(None)), ((0, 0), (0, 0), (2, 2), (2, 2)))  # [64, 1, 32, 32]
    coloured = (ground + framed * (ink - ground)).astype(np.uint8)
    return {"mnist": digits, "cifar10": Examples(coloured, digits.labels)}


@pytest.fixture(scope="session")
def data(digits: Examples) -> DataSet:
    """A data set small enough to train on in a test: the same 64 digits for training and test."""
    return DataSet("mnist", digits, digits, tuple("0123456789"), FILES)


@pytest.fixture(scope="session")
def tiny_recipe() -> Recipe:
    """Learns 64 digits in two or three seconds."""
    return Recipe(
        sigma_train=0.3, epochs=10, batch=16, lr=2e-3, average_decay=0.9, norm_batches=2, precision="float32",
        shift_pixels=0, rotate_degrees=0, scale=0,
    )  # fmt: skip


@pytest.fixture(scope="session")
def trained(data: DataSet, tiny_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run that no test may change."""
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "trained")
    train(tiny_recipe, data, folder)
    return folder


@pytest.fixture(scope="session")
def exported(trained: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained run's ONNX file, alone in its folder, which no test may change."""
    path = tmp_path_factory.mktemp("exported") / "mul-0.3.onnx"
    export.write(export.export(trained.read_network(), trained.read_recipe()), path)
    return path


@pytest.fixture(scope="session")
def measured(trained: RunFolder, exported: Path, data: DataSet, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The trained run, exported and measured with up to five votes, which no test may change."""
    folder = RunFolder(tmp_path_factory.mktemp("measured") / "run")
    shutil.copytree(trained.path, folder.path)
    shutil.copy(exported, folder.exported)
    plan = Plan(("multiplicative",), (0.0, 0.5), 5, seed=4)
    evaluate(OnnxRuntime(folder.exported), folder.evaluation_by("onnxruntime"), data.test, plan)
    return folder


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Sums in one order, so that weights can be compared bit for bit; and these batches are too small to share."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
