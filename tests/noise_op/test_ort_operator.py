from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from noisevote.noise_op.contract import OP_VERSION, OP_VERSIONS, Activation, OperatorVersion
from noisevote.noise_op.function_body import gaussian_noise_function
from noisevote.noise_op.library import Kernel
from noisevote.noise_op.reference import gaussian_noise
from tests.noise_op.conftest import FLOAT, Case, cases, graph, session
from tests.support.effort import examples

INVALID = "INVALID_ARGUMENT"


def example(rows: int = 4, shape: tuple[int, ...] = (6, 5), activation: Activation = "none") -> Case:
    """A plain case whose fields tests replace."""
    rng = np.random.default_rng(5)
    return Case(
        x=rng.standard_normal((rows, *shape), dtype=np.float32),
        sigma=rng.uniform(0.1, 1, (rows, 2)).astype(np.float32),
        seed=rng.integers(-(2**63), 2**63 - 1, rows),
        vote=np.arange(rows),
        row=np.arange(rows),
        step=0,
        site=3,
        activation=activation,
    )


def run(
    case: Case, kernel: Kernel | None, threads: int = 1, version: OperatorVersion = OP_VERSION
) -> NDArray[np.float32]:
    """The operator in ONNX Runtime: on the kernel, or with None on the function body."""
    function = gaussian_noise_function(version)
    model = graph(function, {"y": FLOAT}, version=version, site=case.site, activation=case.activation)
    return np.asarray(session(model, kernel, threads).run(["y"], case.feeds())[0])


def reference(case: Case, version: OperatorVersion = OP_VERSION) -> NDArray[np.float32]:
    """The same case by the NumPy reference."""
    return gaussian_noise(
        case.x, case.sigma, case.seed, case.vote, case.row, case.step,
        site=case.site, activation=case.activation, version=version,
    )  # fmt: skip


@settings(deadline=None, max_examples=examples(60))
@given(case=cases(), version=st.sampled_from(OP_VERSIONS))
def test_kernel_function_body_and_reference_agree(kernel: Kernel, case: Case, version: OperatorVersion) -> None:
    """On any shape, seed, site, step, fan-out, noise kind and version the three implementations give one signal."""
    expected = reference(case, version)
    # Rounding is relative to the signal plus its noise, which may nearly cancel.
    scale = np.abs(case.x[case.row]) * (1 + 7 * case.sigma[:, :1].max()) + 7 * case.sigma[:, 1:].max()
    tolerance = 1e-5 * float(scale.max())
    np.testing.assert_allclose(run(case, kernel, version=version), expected, rtol=1e-5, atol=tolerance)
    np.testing.assert_allclose(run(case, None, version=version), expected, rtol=1e-5, atol=tolerance)


def test_sigma_zero_returns_the_signal_exactly(kernel: Kernel) -> None:
    """Without noise the operator is the identity, bit for bit, on both engines."""
    case = replace(example(), sigma=np.zeros((4, 2), np.float32))
    for engine in (kernel, None):
        assert (run(case, engine) == case.x).all()
        assert (run(replace(case, activation="relu"), engine) == np.maximum(case.x, 0)).all()


@pytest.mark.parametrize("version", OP_VERSIONS)
@pytest.mark.parametrize("engine_is_kernel", [True, False])
def test_a_row_depends_on_nothing_but_itself(kernel: Kernel, engine_is_kernel: bool, version: OperatorVersion) -> None:
    """A row computed alone equals the same row among others, in another place and with other threads, bit for bit."""
    engine = kernel if engine_is_kernel else None
    case = example(rows=9, shape=(8, 30, 30))  # 7,200 elements, 65 thousand in all: several tasks
    together = run(case, engine, threads=2, version=version)
    order = np.random.default_rng(0).permutation(9)
    shuffled = replace(case, sigma=case.sigma[order], seed=case.seed[order], vote=case.vote[order], row=case.row[order])
    assert (run(shuffled, engine, version=version) == together[order]).all()
    for r in range(9):
        one = slice(r, r + 1)
        alone = replace(
            case, x=case.x[one], sigma=case.sigma[one], seed=case.seed[one], vote=case.vote[one], row=np.array([0])
        )
        assert (run(alone, engine, version=version)[0] == together[r]).all()


@pytest.mark.parametrize("version", OP_VERSIONS)
def test_long_rows_are_cut_without_a_trace(kernel: Kernel, version: OperatorVersion) -> None:
    """A row longer than one task of the kernel gives what the reference gives over its whole length."""
    case = example(rows=2, shape=(5, 10_001))
    found = run(case, kernel, threads=2, version=version)
    np.testing.assert_allclose(found, reference(case, version), rtol=1e-5, atol=1e-5)


def test_versions_draw_apart(kernel: Kernel) -> None:
    """A file says by its version of the domain how it draws; one library computes both, and they share no draw."""
    case = replace(example(shape=(64, 64)), sigma=np.tile(np.array([[0, 1]], np.float32), (4, 1)))
    first, second = (run(case, kernel, version=version) - case.x for version in OP_VERSIONS)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 5 / np.sqrt(first.size)


def test_row_and_step_may_be_absent_on_the_kernel(kernel: Kernel) -> None:
    """Without `row` each row reads its own input, and without `step` the time step is 0."""
    case = example()
    model = graph(gaussian_noise_function(), {"y": FLOAT}, optional=False, site=3, activation="none")
    feeds = {name: value for name, value in case.feeds().items() if name not in ("row", "step")}
    np.testing.assert_array_equal(session(model, kernel).run(["y"], feeds)[0], run(case, kernel))


def test_empty_rows_are_no_error(kernel: Kernel) -> None:
    """No rows in, no rows out."""
    case = example()
    none = replace(case, sigma=case.sigma[:0], seed=case.seed[:0], vote=case.vote[:0], row=case.row[:0])
    assert run(none, kernel).shape == (0, 6, 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vote": np.array([0, 1, -2, 3])}, r"vote\[2\] = -2"),
        ({"vote": np.array([0, 1, 2, 2**32])}, r"vote\[3\] = 4294967296"),
        ({"row": np.array([0, 1, 2, 4])}, r"row\[3\] = 4 is outside 0 .. 3"),
        ({"row": np.array([-1, 1, 2, 3])}, r"row\[0\] = -1"),
        ({"row": np.array([0, 1, 2])}, r"row must have shape \[4\]"),
        ({"seed": np.array([0, 1, 2])}, r"seed must have shape \[4\]"),
        ({"sigma": np.full((4, 2), -0.5, np.float32)}, r"sigma\[0, 0\] = -0.5"),
        ({"sigma": np.full((4, 2), np.nan, np.float32)}, r"sigma\[0, 0\] = -?nan"),
        ({"sigma": np.full((4, 2), np.inf, np.float32)}, r"sigma\[0, 0\] = inf"),
        ({"step": -1}, r"step\[0\] = -1"),
        ({"x": np.float32(1.0)}, r"X must have a first dimension"),
    ],
)
def test_bad_inputs_are_refused_by_name(kernel: Kernel, change: dict[str, object], message: str) -> None:
    """The kernel names the input and the value that it cannot use, instead of reading outside its arrays."""
    feeds = example().feeds() | {name: np.asarray(value) for name, value in change.items()}
    model = graph(gaussian_noise_function(), {"y": FLOAT}, site=3, activation="none")
    runner = session(model, kernel)
    with pytest.raises(Exception, match=message) as caught:
        runner.run(["y"], feeds)
    assert INVALID in str(caught.value)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"site": 0, "activation": "tanh"}, 'activation = "tanh"'),
        ({"site": -1, "activation": "none"}, "site = -1"),
        ({"site": 2**32, "activation": "none"}, "site = 4294967296"),
    ],
)
def test_bad_attributes_are_refused_when_the_session_is_made(
    kernel: Kernel, attributes: dict[str, Any], message: str
) -> None:
    """A node that the kernel cannot honour never becomes a session."""
    model = graph(gaussian_noise_function(), {"y": FLOAT}, **attributes)
    with pytest.raises(Exception, match=message):
        session(model, kernel)
