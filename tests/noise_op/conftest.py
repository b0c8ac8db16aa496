from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import FunctionProto, TensorProto, helper

from noisevote.noise_op.contract import ACTIVATIONS, DOMAIN, OP_VERSION, Activation, OperatorVersion
from noisevote.noise_op.function_body import OPSET, drawing_attributes
from noisevote.noise_op.library import Kernel, load_kernel

FLOAT, INT64, UINT8, UINT64 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.UINT8, TensorProto.UINT64


@pytest.fixture(scope="session")
def kernel() -> Kernel:
    """The built kernel; `make test` builds it, so its absence is a failure."""
    loaded = load_kernel()
    assert loaded is not None
    return loaded


@dataclass(frozen=True)
class Case:
    """One call of the operator with everything it draws with."""

    x: NDArray[np.float32]
    sigma: NDArray[np.float32]
    seed: NDArray[np.int64]
    vote: NDArray[np.int64]
    row: NDArray[np.int64]
    step: int
    site: int
    activation: Activation

    def feeds(self) -> dict[str, object]:
        """Inputs of a graph made by `graph`."""
        names = ("x", "sigma", "seed", "vote", "row")
        return {name: getattr(self, name) for name in names} | {"step": np.array(self.step)}


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Operator calls over shapes, 64-bit seeds, sites, votes, steps, fan-outs and both noise kinds."""
    word = st.integers(0, 2**32 - 1)
    shape = draw(st.lists(st.integers(1, 9), min_size=1, max_size=3))
    inputs, rows = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(word))
    sigma = rng.uniform(0, 2, (rows, 2)).astype(np.float32)
    sigma[rng.random((rows, 2)) < 0.3] = 0  # each kind alone, and silence
    return Case(
        x=rng.standard_normal((inputs, *shape), dtype=np.float32) * np.float32(3),
        sigma=sigma,
        seed=np.array([draw(st.integers(-(2**63), 2**63 - 1)) for _ in range(rows)], np.int64),
        vote=np.array([draw(word) for _ in range(rows)], np.int64),
        row=rng.integers(0, inputs, rows),
        step=draw(word),
        site=draw(word),
        activation=draw(st.sampled_from(ACTIVATIONS)),
    )


def graph(
    function: FunctionProto,
    outputs: dict[str, int],
    optional: bool = True,
    signal: int = FLOAT,
    version: OperatorVersion = OP_VERSION,
    **attributes: Any,
) -> onnx.ModelProto:
    """A model of one node that calls `function`, of that version of the operator, with the function inside."""
    row_and_step = ["row", "step"] if optional else []
    inputs = [
        helper.make_tensor_value_info("x", signal, None),
        helper.make_tensor_value_info("sigma", FLOAT, ["R", 2]),
        *(helper.make_tensor_value_info(name, INT64, ["R"]) for name in ("seed", "vote", *row_and_step[:1])),
        *(helper.make_tensor_value_info(name, INT64, []) for name in row_and_step[1:]),
    ]
    names = [value.name for value in inputs]
    told = attributes if function.name == "PhiloxWords" else attributes | drawing_attributes(version)
    node = helper.make_node(function.name, names, list(outputs), domain=DOMAIN, **told)
    results = [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()]
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, version)]
    one_node = helper.make_graph([node], "one_node", inputs, results)
    return helper.make_model(one_node, functions=[function], opset_imports=opsets, ir_version=10)


def session(model: onnx.ModelProto, kernel: Kernel | None, threads: int = 1) -> onnxruntime.InferenceSession:
    """An ONNX Runtime session on the kernel, or, with None, on the function body."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # refused inputs are what some tests are about
    if kernel is not None:
        kernel.register(options)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
