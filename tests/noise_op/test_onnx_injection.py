from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from noisevote.engine.feeds import Feeds
from noisevote.engine.session import load_session
from noisevote.noise_op import onnx_probes
from noisevote.noise_op.errors import UninjectableError
from noisevote.noise_op.library import load_kernel
from noisevote.noise_op.onnx_injection import Injected, Options, inject
from noisevote.noise_op.onnx_preparation import load
from noisevote.noise_op.reference import gaussian_noise
from tests.support.foreign import CLASSES, SHAPE, model, network, softmax, weights

RNG = np.random.default_rng(3)
IMAGES = RNG.random((3, *SHAPE)).astype(np.float32)
node = helper.make_node


def answers(foreign: ModelProto, inputs: NDArray[Any]) -> NDArray[np.float32]:
    """What the foreign model says by itself."""
    session = onnxruntime.InferenceSession(foreign.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": inputs})[0])


def run(injected: Injected, inputs: NDArray[np.float32], sigma: float = 0.0, *, kernel: bool = True) -> Any:
    """Logits of one vote of each input."""
    session = load_session(injected.model.SerializeToString(), load_kernel() if kernel else None)
    rows = np.arange(len(inputs))
    sigmas = np.tile(np.array([sigma, 0], np.float32), (len(rows), 1))
    return session.run(Feeds(inputs, sigmas, rows + 5, rows, rows))


@pytest.mark.parametrize("kernel", [True, False])
@pytest.mark.parametrize("opset", [9, 11, 13, 17, 21])
def test_without_noise_the_file_is_its_source(opset: int, kernel: bool) -> None:
    """From any opset, on the kernel and on the function body; only the softmax is cut off."""
    foreign = softmax(opset)
    logits = run(inject(foreign, Options()), IMAGES, kernel=kernel)
    found = np.exp(logits - logits.max(axis=1, keepdims=True))
    assert np.abs(found / found.sum(axis=1, keepdims=True) - answers(foreign, IMAGES)).max() < 1e-6


def test_noise_stands_after_norm_and_bias_and_takes_the_relu_in() -> None:
    """The first site's signal is Conv, norm folded; the last one's is MatMul with its bias: the reference says so."""
    injected = inject(network(), Options())
    assert [(each.layer, each.operator, each.site) for each in injected.products] == [
        ("stem", "Conv", 0), ("body", "Conv", 1), ("head", "MatMul", 2)
    ]  # fmt: skip
    assert not any(each.op_type == "BatchNormalization" for each in injected.model.graph.node)
    noises = [each for each in injected.model.graph.node if each.op_type == "GaussianNoise"]
    assert [helper.get_node_attr_value(each, "activation") for each in noises] == [b"relu", b"none", b"none"]
    quiet = run(inject(network(), Options(digital=("stem", "body"))), IMAGES)
    noisy = run(inject(network(), Options(digital=("stem", "body"))), IMAGES, 0.4)
    rows = np.arange(3)
    sigma = np.tile(np.array([0.4, 0], np.float32), (3, 1))
    assert np.allclose(noisy, gaussian_noise(quiet, sigma, rows + 5, rows, site=0), atol=1e-6)


def test_kernel_and_function_body_draw_the_same_noise() -> None:
    """With noise at every site the two agree but for rounding."""
    injected = inject(softmax(9), Options())
    assert np.allclose(run(injected, IMAGES, 0.3), run(injected, IMAGES, 0.3, kernel=False), atol=1e-5)


def test_layers_are_digital_or_scaled_by_pattern() -> None:
    """`first` and `last` are products; of several factors that match, the last counts; both are read off the file."""
    options = Options(digital=("first", "hea*"), sigma_scale={"*": 2.0, "body": 0.5})
    injected = inject(network(), options)
    assert [(each.site, each.sigma_scale) for each in injected.products] == [(None, 1.0), (0, 0.5), (None, 1.0)]
    (site,) = onnx_probes.sites_of(injected.model)
    assert (site.layer, site.sigma_scale) == ("body", 0.5)
    assert onnx_probes.quiet_products(injected.model) == ["stem", "head"]
    twice = inject(network(), Options(digital=("first", "last")))
    assert np.allclose(run(injected, IMAGES, 0.4), run(twice, IMAGES, 0.2), atol=1e-6)


def test_products_of_two_signals_are_digital_unless_asked_for() -> None:
    """As attention's are; the reason is told."""
    tail = [
        node("Reshape", ["logits", "as_rows"], ["q"]), node("Transpose", ["q"], ["k"], perm=[0, 2, 1]),
        node("MatMul", ["q", "k"], ["scores"], name="scores"), node("MatMul", ["scores", "q"], ["mixed"], name="mixed"),
        node("Flatten", ["mixed"], ["out"]),
    ]  # fmt: skip
    foreign = network(*tail, more={"as_rows": np.array([0, 1, 5])})
    found = {each.layer: each for each in inject(foreign, Options()).products}
    assert found["scores"].site is None
    assert found["scores"].reason == "product of two signals"
    assert [each.site for each in inject(foreign, Options(analog=("mixed",))).products] == [0, 1, 2, None, 3]


def test_images_with_channels_last_come_with_channels_first() -> None:
    """The published graph turns them; sizes that the file leaves open are given."""
    foreign = network(more={"nchw": np.array([0])}, shape=("N", 3, "H", "W"))
    with pytest.raises(UninjectableError, match=r"leaves sizes open \(3x\?x\?\); give them \(--shape\)"):
        inject(foreign, Options())
    assert inject(foreign, Options(shape=SHAPE)).shape == SHAPE
    with pytest.raises(UninjectableError, match=r"shape 4x8x8 does not fit the file's 3x\?x\?"):
        inject(foreign, Options(shape=(4, 8, 8)))
    turned = network(shape=("N", 8, 8, 3))
    turned.graph.node[0].input[0] = "nchw"
    turned.graph.node.insert(0, node("Transpose", ["x"], ["nchw"], perm=[0, 3, 1, 2]))
    injected = inject(turned, Options())
    assert injected.shape == SHAPE
    assert injected.ends.channels_last
    assert np.allclose(run(injected, IMAGES), answers(turned, IMAGES.transpose(0, 2, 3, 1)), atol=1e-6)


@pytest.mark.parametrize("element", [TensorProto.INT32, TensorProto.INT64, TensorProto.UINT8])
def test_whole_numbers_are_taken_as_float32(element: int) -> None:
    """The graph casts them back."""
    matrix = RNG.normal(size=(6, CLASSES)).astype(np.float32)
    nodes = [node("Cast", ["x"], ["f"], to=TensorProto.FLOAT), node("Gemm", ["f", "w"], ["out"])]
    foreign = model(nodes, {"w": matrix}, shape=("N", 6), element=element)
    tokens = RNG.integers(0, 200, (4, 6))
    injected = inject(foreign, Options())
    dtype = helper.tensor_dtype_to_np_dtype(element)
    assert injected.ends.dtype == dtype.name
    assert np.allclose(run(injected, tokens.astype(np.float32)), answers(foreign, tokens.astype(dtype)), atol=1e-4)


def test_a_file_of_batch_1_takes_any_number_of_rows() -> None:
    """Also where it reshapes to [1, …]."""
    foreign = network(shape=(1, *SHAPE))
    flatten = next(each for each in foreign.graph.node if each.op_type == "Flatten")
    flatten.op_type = "Reshape"
    flatten.input.append("flat_shape")
    foreign.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, 4 * 64]), "flat_shape"))
    expected = np.concatenate([answers(foreign, IMAGES[i : i + 1]) for i in range(3)])
    assert np.allclose(run(inject(foreign, Options()), IMAGES), expected, atol=1e-6)


def test_one_sigmoid_becomes_two_classes() -> None:
    """Softmax of 0 and the logit is the sigmoid."""
    foreign = network(
        node("Gemm", ["logits", "one"], ["yes"]), node("Sigmoid", ["yes"], ["out"]),
        more={"one": np.ones((CLASSES, 1), np.float32)},
    )  # fmt: skip
    logits = run(inject(foreign, Options()), IMAGES)
    assert np.allclose(1 / (1 + np.exp(logits[:, 0] - logits[:, 1])), answers(foreign, IMAGES)[:, 0], atol=1e-6)


def test_a_softmax_that_is_written_out_is_cut_off() -> None:
    """exp(x − max) ÷ Σ, as jax2tf writes it."""
    foreign = network(
        node("ReduceMax", ["logits"], ["top"], axes=[1], keepdims=1), node("Sub", ["logits", "top"], ["low"]),
        node("Exp", ["low"], ["e"]), node("ReduceSum", ["e", "axis"], ["sum"]), node("Div", ["e", "sum"], ["out"]),
        more={"axis": np.array([1])},
    )  # fmt: skip
    injected = inject(foreign, Options())
    assert (injected.ends.logits, injected.ends.head) == ("logits", "softmax")
    assert np.allclose(run(injected, IMAGES), answers(network(), IMAGES), atol=1e-5)


def test_votes_fan_out_at_the_first_site_only_if_nothing_goes_past_it() -> None:
    """A shortcut around the first product puts the fan-out at the input; rows then read their own input."""
    assert onnx_probes.fan_out_sites(inject(network(), Options()).model) == {0}
    shortcut = network(
        node("ReduceMean", ["x"], ["bright"], axes=[1, 2, 3], keepdims=0),
        node("Unsqueeze", ["bright", "one"], ["column"]), node("Add", ["logits", "column"], ["out"]),
        more={"one": np.array([1])},
    )  # fmt: skip
    injected = inject(shortcut, Options())
    assert onnx_probes.fan_out_sites(injected.model) == set()
    session = load_session(injected.model.SerializeToString(), load_kernel())
    row = np.array([2, 0, 0, 1])
    feeds = Feeds(IMAGES, np.zeros((4, 2), np.float32), row, row, row)
    assert np.allclose(session.run(feeds), answers(shortcut, IMAGES)[row], atol=1e-6)


def lstm() -> ModelProto:
    rng = np.random.default_rng(0)
    values = {"w": rng.normal(size=(1, 16, 6)), "r": rng.normal(size=(1, 16, 4)), "m": rng.normal(size=(4, CLASSES))}
    nodes = [
        node("Transpose", ["x"], ["steps"], perm=[1, 0, 2]), node("LSTM", ["steps", "w", "r"], ["", "h"], hidden_size=4,
        name="memory"), node("Squeeze", ["h", "zero"], ["last"]), node("Gemm", ["last", "m"], ["out"]),
    ]  # fmt: skip
    floats: dict[str, NDArray[np.generic]] = {name: value.astype(np.float32) for name, value in values.items()}
    return model(nodes, floats | {"zero": np.array([0])}, shape=("N", 7, 6))


REFUSED: list[tuple[str, ModelProto, Options, str]] = [
    ("recurrent", lstm(), Options(), "memory: LSTM multiplies in every time step"),
    (
        "hidden product",
        network(node("Mul", ["logits", "w"], ["p"], name="disguised"), node("ReduceSum", ["p", "axis"], ["o"]),
                node("Concat", ["o", "logits"], ["out"], axis=1),
                more={"w": np.ones(CLASSES, np.float32), "axis": np.array([1])}),
        Options(), "disguised: Mul by weights and then a sum is a product",
    ),
    ("random", network(node("RandomNormalLike", ["logits"], ["r"], name="dice"), node("Add", ["r", "logits"], ["out"])),
     Options(), "dice: RandomNormalLike draws at random"),
    ("batch statistics", network(node("BatchNormalization", ["logits", *["five"] * 4], ["out", "m_", "v_"], name="bn",
                                      training_mode=1), more={"five": np.ones(5, np.float32)}),
     Options(), "bn: BatchNormalization takes the batch's statistics"),
    ("dropout", network(node("Dropout", ["logits", "half", "yes"], ["out"], name="drop"),
                        more={"half": np.array(0.5, np.float32), "yes": np.array(True)}),
     Options(), "drop: Dropout is active"),
    ("state", model([node("Gemm", ["x", "w"], ["out"]), node("Identity", ["h"], ["h_next"])],
                    {"w": np.ones((6, 3), np.float32)}, shape=("N", 6), outputs=("out", "h_next"), more_inputs=("h",)),
     Options(), "inputs x, h: the model takes 2 inputs; it carries a state"),
    ("two outputs", network(node("Relu", ["logits"], ["out"]), node("Tanh", ["logits"], ["two"]),
                            outputs=("out", "two")),
     Options(), "outputs out, two: a classifier has one; say which"),
    ("segmentation", model([node("Conv", ["x", "kernel"], ["out"])], {"kernel": weights()["kernel"]}, rank=4),
     Options(), "segmentation"),
    ("regression", network(node("Gemm", ["logits", "one"], ["out"]), more={"one": np.ones((5, 1), np.float32)}),
     Options(), "one value without a sigmoid is a regression"),
    ("labels", network(node("Sigmoid", ["logits"], ["out"])), Options(), "5 sigmoids are several labels"),
    ("pattern", network(), Options(digital=("nothing*",)), "'nothing\\*' matches no layer; there are stem, body, head"),
    ("all digital", network(), Options(digital=("*",)), "no product of it gets noise"),
    ("no product", model([node("Flatten", ["x"], ["out"])], {}), Options(), "no product was found"),
]  # fmt: skip


@pytest.mark.parametrize(("foreign", "options", "message"), [each[1:] for each in REFUSED], ids=[e[0] for e in REFUSED])
def test_what_cannot_be_done_is_refused_by_name(foreign: ModelProto, options: Options, message: str) -> None:
    """Never left noiseless in silence: the message has the node and the reason."""
    with pytest.raises(UninjectableError, match=message):
        inject(foreign, options)


def test_operators_of_others_are_refused_by_name() -> None:
    """What they multiply is not known."""
    foreign = network(node("Relu", ["logits"], ["out"], name="fused"))
    foreign.graph.node[-1].domain = "com.microsoft"
    with pytest.raises(UninjectableError, match=r"fused: com\.microsoft\.Relu is no standard operator"):
        inject(foreign, Options())


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    """Damaged, empty or missing."""
    for content in (b"no model", b""):
        (tmp_path / "m.onnx").write_bytes(content)
        with pytest.raises(UninjectableError, match=r"m\.onnx: is no ONNX file"):
            load(tmp_path / "m.onnx")
    with pytest.raises(UninjectableError, match=r"gone\.onnx"):
        load(tmp_path / "gone.onnx")


def test_the_same_model_gives_the_same_bytes() -> None:
    """And the source is left as it was."""
    foreign = softmax()
    before = foreign.SerializeToString(deterministic=True)
    first, second = (inject(foreign, Options()).model.SerializeToString(deterministic=True) for _ in range(2))
    assert first == second
    assert foreign.SerializeToString(deterministic=True) == before
