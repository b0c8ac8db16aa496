"""A small network with additive noise at its input and nowhere else, as those are that certify."""

import math
from functools import cache

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from scipy import special

from noisevote.model_store.manifest import Manifest
from noisevote.model_store.store import ModelStore
from noisevote.noise_op.contract import DOMAIN, OP_TYPE, OP_VERSION
from noisevote.noise_op.function_body import OPSET, gaussian_noise_function
from noisevote.noise_op.reference import normals
from tests.support.manifests import manifest, variant

SHAPE = (1, 4, 4)
CLASSES = 3
SIGMA = 0.5


@cache
def weights(seed: int = 0) -> NDArray[np.float32]:
    """The one matrix, float32 [16, classes]."""
    drawn = np.random.default_rng(seed).normal(0, 1, (math.prod(SHAPE), CLASSES))
    return np.asarray(drawn.astype(np.float32))


@cache
def smoothed_network(seed: int = 0, *, noisy_input: bool = True) -> bytes:
    """Noise, then one matrix: [N, 1, 4, 4] to [R, 3]; or, for comparison, the matrix and then noise."""
    nodes = [
        helper.make_node("Flatten", ["noisy" if noisy_input else "input"], ["flat"]),
        helper.make_node("MatMul", ["flat", "matrix"], ["logits" if noisy_input else "clean"]),
    ]
    names = ["input" if noisy_input else "clean", "sigma", "seed", "vote", "row", "zero"]
    noise = helper.make_node(
        OP_TYPE, names, ["noisy" if noisy_input else "logits"], domain=DOMAIN, site=0, activation="none"
    )
    graph = helper.make_graph(
        [noise, *nodes] if noisy_input else [*nodes, noise],
        "smoothed",
        [
            helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", *SHAPE]),
            helper.make_tensor_value_info("sigma", TensorProto.FLOAT, ["R", 2]),
            *(helper.make_tensor_value_info(name, TensorProto.INT64, ["R"]) for name in ("seed", "vote", "row")),
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["R", CLASSES])],
        [numpy_helper.from_array(weights(seed), "matrix"), numpy_helper.from_array(np.array(0), "zero")],
    )
    model = helper.make_model(
        graph,
        functions=[gaussian_noise_function()],
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, OP_VERSION)],
        ir_version=10,
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def logits_of(example: NDArray[np.float32], seed: int, first: int, count: int) -> NDArray[np.float32]:
    """The slow reference: logits of votes `first` … of one input, float32 [count, CLASSES], one row of noise each."""
    flat = example.reshape(-1).astype(np.float32)
    noisy = [flat + np.float32(SIGMA) * normals(seed, vote, 0, 0, flat.size) for vote in range(first, first + count)]
    return np.asarray(np.stack(noisy) @ weights())


def selected(logits: NDArray[np.float32]) -> int:
    """The class that most of these votes are for; ties go to the larger mean probability."""
    votes = np.bincount(logits.argmax(axis=1), minlength=CLASSES).tolist()
    means = special.softmax(logits.astype(np.float64), axis=1).mean(axis=0).tolist()
    return max(range(CLASSES), key=lambda index: (votes[index], means[index]))


def publish_smoothed(store: ModelStore, name: str = "smooth", version: str = "1") -> Manifest:
    """A model with a variant that certifies at SIGMA and one that does not."""
    files = {"in-0.5": smoothed_network(), "out-0.5": smoothed_network(noisy_input=False)}
    variants = tuple(
        variant(
            each, content, noise="additive", sigma_train=SIGMA, layers=1, certifies=SIGMA if each[0] == "i" else None
        )
        for each, content in files.items()
    )
    published = manifest(files, name, version, SHAPE, variants=variants)
    store.publish(published, files)
    return published
