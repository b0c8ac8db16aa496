from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from noisevote.noise_op.contract import ACTIVATIONS, OP_VERSIONS, PER_BLOCK, Activation, OperatorVersion
from noisevote.noise_op.function_body import gaussian_noise_function, quantized_noise_function
from noisevote.noise_op.library import Batch, Blocks, Bytes, Kernel, Team
from noisevote.noise_op.reference import Quantization, in_steps, noisy, quantized_noise, rounded, sigma_in_steps
from tests.noise_op.conftest import FLOAT, UINT8, graph, session
from tests.support.effort import examples


@dataclass(frozen=True)
class Case:
    """One call of QuantizedNoise."""

    x: NDArray[np.uint8]
    sigma: NDArray[np.float32]
    seed: NDArray[np.int64]
    vote: NDArray[np.int64]
    row: NDArray[np.int64]
    step: int
    site: int
    activation: Activation
    how: Quantization
    channels_last: bool
    version: OperatorVersion = 1

    def feeds(self) -> dict[str, object]:
        """Inputs of the operator as a graph of one node."""
        names = ("x", "sigma", "seed", "vote", "row")
        return {name: getattr(self, name) for name in names} | {"step": np.array(self.step)}

    def attributes(self) -> dict[str, Any]:
        """Attributes of that node."""
        layout = {"channels_last": int(self.channels_last)}
        return {"site": self.site, "activation": self.activation} | asdict(self.how) | layout


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Calls over shapes, layouts, quantisations, seeds, votes, fan-outs and both noise kinds."""
    word = st.integers(0, 2**32 - 1)
    byte = st.integers(0, 255)
    rng = np.random.default_rng(draw(word))
    shape = draw(
        st.sampled_from(
            [
                (5,),
                (17, 3),
                (2, 6, 40),
                (4, 4, 33),
                (7, 7, 19),
                (1, 1, 21),
                (3, 5, 1),
                (2, 2, 37),
                (6, 6, 18),
                (14, 14, 17),
            ]
        )
    )
    inputs, rows = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    sigma = rng.uniform(0, 2, (rows, 2)).astype(np.float32)
    sigma[rng.random((rows, 2)) < 0.4] = 0  # each kind alone, and silence
    return Case(
        x=rng.integers(0, 256, (inputs, *shape), np.uint8),
        sigma=sigma,
        seed=rng.integers(-(2**63), 2**63 - 1, rows),
        vote=rng.integers(0, 2**32, rows),
        row=rng.integers(0, inputs, rows),
        step=draw(word),
        site=draw(word),
        activation=draw(st.sampled_from(ACTIVATIONS)),
        how=Quantization(
            scale=float(np.float32(draw(st.sampled_from([0.5, 0.013, 0.0625, 1.7])))),
            zero_point=draw(byte),
            rate=float(np.float32(draw(st.sampled_from([1.0, 7.3, 2.0, 90.0])))),
            y_zero_point=draw(byte),
        ),
        channels_last=draw(st.booleans()),
        version=draw(st.sampled_from(OP_VERSIONS)),
    )


def run(case: Case, kernel: Kernel | None, threads: int = 1) -> NDArray[np.uint8]:
    """The operator in ONNX Runtime: on the kernel, or with None on the function body."""
    function = quantized_noise_function(case.version)
    model = graph(function, {"y": UINT8}, signal=UINT8, version=case.version, **case.attributes())
    return np.asarray(session(model, kernel, threads).run(["y"], case.feeds())[0])


def reference(case: Case) -> NDArray[np.uint8]:
    """The same case by the NumPy reference, normals included."""
    return quantized_noise(
        case.x, case.sigma, case.seed, case.vote, case.row, case.step,
        site=case.site, activation=case.activation, how=case.how, channels_last=case.channels_last,
        version=case.version,
    )  # fmt: skip


def exact(case: Case, kernel: Kernel) -> NDArray[np.uint8]:
    """The reference on the kernel's own normals, so that not even a rounding is left to differ."""
    made = []
    for r in range(len(case.sigma)):
        signal = in_steps(case.x[case.row[r]], case.how)
        order = np.moveaxis(signal, -1, 0) if case.channels_last else signal
        blocks = -(-signal.size // PER_BLOCK[case.version])
        of = Blocks(int(case.seed[r]), case.site, int(case.vote[r]), case.step, 0, blocks)
        z = kernel.normals(of, version=case.version)
        sigma = sigma_in_steps(case.sigma[r], case.how)
        y = noisy(order, sigma, z[: signal.size].reshape(order.shape), case.activation)
        made.append(rounded(np.moveaxis(y, 0, -1) if case.channels_last else y, case.how))
    return np.array(made)


def by_isa(case: Case, kernel: Kernel, isa: str) -> NDArray[np.uint8]:
    """The kernel itself, on one instruction set."""
    size = case.x[0].size
    channels = case.x.shape[-1] if case.channels_last else 1
    y = np.empty((len(case.sigma), *case.x.shape[1:]), np.uint8)
    batch = Batch(
        rows=len(case.sigma), channels=channels, positions=size // channels, channels_last=case.channels_last,
        sigma=case.sigma.ctypes.data, seed=case.seed.ctypes.data, vote=case.vote.ctypes.data,
        source=case.row.ctypes.data, site=case.site, step=case.step, relu=case.activation == "relu",
        version=case.version,
    )  # fmt: skip
    kernel.forward_bytes(batch, Bytes(**asdict(case.how)), case.x.ctypes.data, y.ctypes.data, Team(1, None), isa=isa)
    return y


@settings(deadline=None, max_examples=examples(60))
@given(case=cases())
def test_every_instruction_set_gives_the_bytes_of_the_reference(kernel: Kernel, case: Case) -> None:
    """On the same normals kernel and reference agree in every bit, in both layouts, as a node and by itself."""
    expected = exact(case, kernel)
    for isa in kernel.isas():
        np.testing.assert_array_equal(by_isa(case, kernel, isa), expected)
    np.testing.assert_array_equal(run(case, kernel), expected)


@settings(deadline=None, max_examples=examples(12))
@given(case=cases())
def test_kernel_function_body_and_reference_agree(kernel: Kernel, case: Case) -> None:
    """With normals of their own they differ by rounding alone: few bytes, by as little as normals differ."""
    expected = reference(case).astype(int)
    steps = 1 + 2e-4 * 512 * case.how.scale * case.how.rate  # of 1e-5 of the largest signal plus noise
    for engine in (kernel, None):
        apart = np.abs(run(case, engine).astype(int) - expected)
        assert apart.max(initial=0) <= steps
        assert (apart > 0).mean() < 0.05


@settings(deadline=None, max_examples=examples(20))
@given(case=cases())
def test_it_is_the_float_operator_between_bytes(kernel: Kernel, case: Case) -> None:
    """Bytes are what GaussianNoise of that version makes of the signal they stand for, in steps, bit for bit."""
    function = gaussian_noise_function(case.version)
    model = graph(function, {"y": FLOAT}, version=case.version, site=case.site, activation=case.activation)
    signal = in_steps(case.x, case.how)
    in_order = np.moveaxis(signal, -1, 1) if case.channels_last else signal
    sigma = sigma_in_steps(case.sigma, case.how)
    feeds = case.feeds() | {"x": np.ascontiguousarray(in_order), "sigma": sigma}
    y = np.asarray(session(model, kernel).run(["y"], feeds)[0])
    expected = rounded(np.moveaxis(y, 1, -1) if case.channels_last else y, case.how)
    np.testing.assert_array_equal(run(case, kernel), expected)


def test_without_noise_halves_go_to_the_even_byte_and_ends_saturate(kernel: Kernel) -> None:
    """At sigma 0 all three give the bytes that ONNX's QuantizeLinear would, at every byte, with and without ReLU."""
    rows = 4  # as many as the function body needs for equal rounding
    expectations: tuple[tuple[Quantization, Activation, list[int]], ...] = (
        (Quantization(0.5, 0, 1.0, 0), "none", [0, 0, 1, 2, 2, 2, 3, 4, 4]),
        (Quantization(0.5, 4, 1.0, 100), "none", [98, 98, 99, 100, 100, 100, 101, 102, 102]),
        (Quantization(100.0, 4, 1.0, 100), "none", [0, 0, 0, 0, 100, 200, 255, 255, 255]),
        (Quantization(0.5, 4, 1.0, 100), "relu", [100, 100, 100, 100, 100, 100, 101, 102, 102]),
    )
    for how, activation, expected in expectations:
        case = Case(
            x=np.arange(9, dtype=np.uint8).reshape(1, 9), sigma=np.zeros((rows, 2), np.float32),
            seed=np.arange(rows), vote=np.arange(rows), row=np.zeros(rows, np.int64), step=0, site=0,
            activation=activation, how=how, channels_last=False,
        )  # fmt: skip
        for found in (reference(case), run(case, kernel), run(case, None)):
            np.testing.assert_array_equal(found, np.tile(np.array(expected, np.uint8), (rows, 1)))


@pytest.mark.parametrize("version", OP_VERSIONS)
def test_a_row_depends_on_nothing_but_itself(kernel: Kernel, version: OperatorVersion) -> None:
    """A row computed alone equals the same row among others, and with other threads."""
    rng = np.random.default_rng(0)
    rows = 7
    case = Case(
        x=rng.integers(0, 256, (2, 14, 14, 64), np.uint8), sigma=np.full((rows, 2), 0.5, np.float32),
        seed=np.arange(rows), vote=np.arange(rows) + 9, row=rng.integers(0, 2, rows), step=3, site=1,
        activation="relu", how=Quantization(0.02, 130, 40.0, 0), channels_last=True, version=version,
    )  # fmt: skip
    together = run(case, kernel, threads=2)
    for r in range(rows):
        one = slice(r, r + 1)
        alone = Case(case.x, case.sigma[one], case.seed[one], case.vote[one], case.row[one], case.step, case.site,
                     case.activation, case.how, case.channels_last, version)  # fmt: skip
        np.testing.assert_array_equal(run(alone, kernel)[0], together[r])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": 0.0}, "QuantizedNoise: scale = 0"),
        ({"rate": float("inf")}, "QuantizedNoise: rate = inf"),
        ({"zero_point": 256}, "QuantizedNoise: zero_point = 256 is outside 0 .. 255"),
        ({"y_zero_point": -1}, "QuantizedNoise: y_zero_point = -1"),
        ({"channels_last": 2}, "QuantizedNoise: channels_last = 2"),
        ({"draws": 3}, "QuantizedNoise: draws = 3 is outside 1 .. 2"),
        ({"activation": "tanh"}, 'QuantizedNoise: activation = "tanh"'),
    ],
)
def test_bad_attributes_are_refused_when_the_session_is_made(
    kernel: Kernel, change: dict[str, Any], message: str
) -> None:
    """A node that the kernel cannot honour never becomes a session."""
    attributes: dict[str, Any] = {"site": 0, "activation": "none", "channels_last": 0}
    attributes |= asdict(Quantization(1.0, 0, 1.0, 0))
    model = graph(quantized_noise_function(), {"y": UINT8}, signal=UINT8, **(attributes | change))
    with pytest.raises(Exception, match=message):
        session(model, kernel)
