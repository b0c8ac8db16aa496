"""The operator as an ONNX model-local function of standard operators, with the same Philox draws.

Every published file carries it, so that it runs in any ONNX Runtime; where the native kernel is
registered, ONNX Runtime takes that instead.

Standard operators cannot ask whether an optional input is there and then use it, so the body wants
`row` and `step` given: exported graphs pass the identity and 0.
"""

from typing import Any, Literal

import numpy as np
import onnx
from onnx import FunctionProto, NodeProto, TensorProto, helper, numpy_helper

from noisevote.noise_op.contract import DOMAIN, OP_TYPE, OP_VERSION, PER_BLOCK, QUANTIZED_OP_TYPE, OperatorVersion
from noisevote.noise_op.nibble_tables import UNIT, WEIGHTS, entries
from noisevote.noise_op.reference import MULTIPLIERS, ROUNDS, WEYL

OPSET = 21

INPUTS = ("X", "sigma", "seed", "vote", "row", "step")
ATTRIBUTES = ("site", "activation")
QUANTIZED_ATTRIBUTES = (*ATTRIBUTES, "scale", "zero_point", "rate", "y_zero_point", "channels_last")
DRAWS = "draws"  # the version of the operator; no attribute of version 1


class _Body:
    """Appends nodes and names their outputs."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self._constants: dict[tuple[str, object], str] = {}

    def __call__(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def output(self, name: str, op: str, *inputs: str) -> None:
        self.nodes.append(helper.make_node(op, list(inputs), [name]))

    def constant(self, value: object, dtype: type[np.generic]) -> str:
        key = (dtype.__name__, value if not isinstance(value, list) else tuple(value))
        if key not in self._constants:
            tensor = numpy_helper.from_array(np.array(value, dtype))
            self._constants[key] = self("Constant", value=tensor)
        return self._constants[key]

    def word(self, value: int) -> str:
        return self.constant(value, np.uint64)

    def attribute(self, name: str, kind: "onnx.AttributeProto.AttributeType", field: str) -> str:
        """A constant taken from the function's own attribute."""
        node = helper.make_node("Constant", [], [f"{name}_value"])
        node.attribute.append(onnx.AttributeProto(name=field, type=kind, ref_attr_name=name))
        self.nodes.append(node)
        return f"{name}_value"


def gaussian_noise_function(version: OperatorVersion = OP_VERSION) -> FunctionProto:
    """`noisevote::GaussianNoise` as a FunctionProto over ONNX opset 21."""
    body = _Body()
    _apply(body, _draws(body, version))
    return _function(OP_TYPE, body, ["Y"], ATTRIBUTES, version)


def quantized_noise_function(version: OperatorVersion = OP_VERSION) -> FunctionProto:
    """`noisevote::QuantizedNoise` as a FunctionProto over ONNX opset 21."""
    body = _Body()
    z = _draws(body, version)
    x = body("Gather", "X", "row", axis=0)
    shape = body("Shape", x)
    in_order, numbered = _in_order_of_draws(body, x)
    steps = body("Sub", body("Cast", in_order, to=TensorProto.FLOAT), _float_attribute(body, "zero_point", "INT"))
    rate = _float_attribute(body, "rate", "FLOAT")
    gain = body("Mul", _float_attribute(body, "scale", "FLOAT"), rate)
    noisy = _noisy(body, body("Mul", body("Flatten", steps, axis=1), gain), z, rate)
    _round(body, body("Where", *_choices(body, noisy)), numbered, shape)
    return _function(QUANTIZED_OP_TYPE, body, ["Y"], QUANTIZED_ATTRIBUTES, version)


def philox_words_function(version: OperatorVersion = OP_VERSION) -> FunctionProto:
    """The same body cut after Philox, for checks: outputs the four words, uint64 [R, blocks] each."""
    body = _Body()
    outputs = ["w0", "w1", "w2", "w3"]
    for name, word in zip(outputs, _words(body, version), strict=True):
        body.output(name, "Identity", word)
    return _function("PhiloxWords", body, outputs, ATTRIBUTES[:1])


def _function(
    name: str, body: _Body, outputs: list[str], attributes: tuple[str, ...], version: OperatorVersion = 1
) -> FunctionProto:
    opset = [helper.make_opsetid("", OPSET)]
    known = [*attributes, *drawing_attributes(version)]
    return helper.make_function(DOMAIN, name, list(INPUTS), outputs, body.nodes, opset, known)


def drawing_attributes(version: OperatorVersion) -> dict[str, int]:
    """What a node says of its version beside its other attributes.

    ONNX Runtime does not tell kernels of one name apart by the version of their domain, so the kernel is told here.
    """
    return {} if version == 1 else {DRAWS: version}


def _draws(body: _Body, version: OperatorVersion) -> str:
    """Normals of whole blocks, float32 [R, blocks, …], in the order of the elements once flattened."""
    words = _words(body, version)
    return _normals(body, words) if version == 1 else _nibble_sums(body, words)


def _words(body: _Body, version: OperatorVersion) -> list[str]:
    """Four uint64 tensors [R, blocks] of 32-bit words."""
    return _philox(body, *_counter_and_key(body, PER_BLOCK[version]), ROUNDS[version])


def _counter_and_key(body: _Body, per_block: int) -> tuple[list[str], list[str]]:
    """The counter's four words and the key's two, uint64 tensors that broadcast to [R, blocks]."""
    size = body("Size", body("Flatten", body("Gather", "X", body.constant([0], np.int64)), axis=1))
    last = body("Add", size, body.constant(per_block - 1, np.int64))
    blocks = body("Div", last, body.constant(per_block, np.int64))
    block = body("Range", body.constant(0, np.int64), blocks, body.constant(1, np.int64))
    site = body.attribute("site", onnx.AttributeProto.INT, "value_int")
    column = body.constant([1], np.int64)

    def unsigned(name: str) -> str:
        return body("Cast", name, to=TensorProto.UINT64)

    vote = body("Unsqueeze", unsigned("vote"), column)
    counter = [unsigned(block), unsigned(site), vote, unsigned("step")]
    seed = body("Unsqueeze", unsigned("seed"), column)
    return counter, [_low(body, seed), _high(body, seed)]


def _low(body: _Body, name: str) -> str:
    return body("BitwiseAnd", name, body.word(0xFFFFFFFF))


def _high(body: _Body, name: str) -> str:
    return body("BitShift", name, body.word(32), direction="RIGHT")


def _philox(body: _Body, counter: list[str], key: list[str], rounds: int) -> list[str]:
    """So many rounds, unrolled: four uint64 tensors [R, blocks] of 32-bit words."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(rounds):
        p0 = body("Mul", c0, body.word(int(MULTIPLIERS[0])))
        p1 = body("Mul", c2, body.word(int(MULTIPLIERS[1])))
        c0 = body("BitwiseXor", body("BitwiseXor", _high(body, p1), c1), k0)
        c1 = _low(body, p1)
        c2 = body("BitwiseXor", body("BitwiseXor", _high(body, p0), c3), k1)
        c3 = _low(body, p0)
        k0 = _low(body, body("Add", k0, body.word(int(WEYL[0]))))
        k1 = _low(body, body("Add", k1, body.word(int(WEYL[1]))))
    return [c0, c1, c2, c3]


def _normals(body: _Body, words: list[str]) -> str:
    """Quarter-wave Box-Muller: float [R, blocks, 4]."""
    normals = []
    last = body.constant([2], np.int64)
    for radius_word, angle_word in (words[:2], words[2:]):
        r = _radius(body, radius_word)
        cosine, sine = _angle(body, angle_word)
        normals += [body("Unsqueeze", body("Mul", r, part), last) for part in (cosine, sine)]
    return body("Concat", *normals, axis=2)


def _nibble_sums(body: _Body, words: list[str]) -> str:
    """Version 2: the eight normals of each block, [R, blocks, 4, 2], exact sums of two table entries."""
    last = body.constant([-1], np.int64)
    word = body("Concat", *(body("Unsqueeze", word, last) for word in words), axis=-1)  # [R, blocks, 4]
    tables = [body.constant((weight * entries() * UNIT).tolist(), np.float32) for weight in WEIGHTS]

    def entry(at: int) -> str:
        byte = body("BitwiseAnd", body("BitShift", word, body.word(8 * at), direction="RIGHT"), body.word(0xFF))
        return body("Gather", tables[at % 2], body("Cast", byte, to=TensorProto.INT64))

    halves = [body("Unsqueeze", body("Add", entry(first), entry(first + 1)), last) for first in (0, 2)]
    return body("Concat", *halves, axis=-1)


def _radius(body: _Body, word: str) -> str:
    """sqrt(−2 ln u), u = (float(word) + 0.5)·2⁻³²."""
    half = body("Add", body("Cast", word, to=TensorProto.FLOAT), body.constant(0.5, np.float32))
    log = body("Log", body("Mul", half, body.constant(2.0**-32, np.float32)))
    return body("Sqrt", body("Mul", log, body.constant(-2.0, np.float32)))


def _angle(body: _Body, word: str) -> tuple[str, str]:
    """Cosine and sine from 23 bits of a quarter wave and a sign bit each."""
    k = body("BitwiseAnd", body("BitShift", word, body.word(6), direction="RIGHT"), body.word(0xFFFFFE))
    odd = body("Cast", body("Add", k, body.word(1)), to=TensorProto.FLOAT)
    f = body("Mul", odd, body.constant(2.0**-24, np.float32))
    quarter = body.constant(np.pi / 2, np.float32)
    one, two = body.constant(1.0, np.float32), body.constant(2.0, np.float32)
    parts = []
    for fraction, bit in ((body("Sub", one, f), 31), (f, 30)):
        sign_bit = body("BitwiseAnd", body("BitShift", word, body.word(bit), direction="RIGHT"), body.word(1))
        sign = body("Sub", one, body("Mul", two, body("Cast", sign_bit, to=TensorProto.FLOAT)))
        parts.append(body("Mul", body("Sin", body("Mul", fraction, quarter)), sign))
    return parts[0], parts[1]


def _apply(body: _Body, z: str) -> None:
    """Y = act(x + sqrt((sigma0·x)² + sigma1²)·z) on x = X[row], flattened to [R, elements] in between."""
    x = body("Gather", "X", "row", axis=0)
    shape = body("Shape", x)
    noisy = _noisy(body, body("Flatten", x, axis=1), z)
    noisy = body("Reshape", noisy, shape)
    body.output("Y", "Where", *_choices(body, noisy))


def _noisy(body: _Body, flat: str, z: str, rate: str | None = None) -> str:
    """The noise added to a signal [R, elements], which is counted in steps of 1/`rate` where that is given."""
    count = body("Shape", flat, start=1, end=2)
    drawn = body("Flatten", z, axis=1)  # [R, normals of whole blocks]
    drawn = body("Slice", drawn, body.constant([0], np.int64), count, body.constant([1], np.int64))
    column = body.constant([1], np.int64)
    multiplicative = body("Gather", "sigma", body.constant([0], np.int64), axis=1)  # [R, 1]
    additive = body("Gather", "sigma", column, axis=1)
    if rate is not None:
        additive = body("Mul", additive, rate)
    scaled = body("Mul", flat, multiplicative)
    variance = body("Add", body("Mul", scaled, scaled), body("Mul", additive, additive))
    return body("Add", flat, body("Mul", body("Sqrt", variance), drawn))


def _choices(body: _Body, noisy: str) -> tuple[str, str, str]:
    """Whether there is a ReLU, and the signal with and without it."""
    activation = body.attribute("activation", onnx.AttributeProto.STRING, "value_string")
    is_relu = body("Equal", activation, body("Constant", value_string="relu"))
    return is_relu, body("Relu", noisy), noisy


def _float_attribute(body: _Body, name: str, kind: Literal["INT", "FLOAT"]) -> str:
    """A number among the attributes, float32 []."""
    if kind == "FLOAT":
        return body.attribute(name, onnx.AttributeProto.FLOAT, "value_float")
    return body("Cast", body.attribute(name, onnx.AttributeProto.INT, "value_int"), to=TensorProto.FLOAT)


def _in_order_of_draws(body: _Body, x: str) -> tuple[str, str]:
    """X as [R, channels, positions], and that shape; without `channels_last` the channels count as one."""
    channels = body("Shape", x, start=-1)
    is_last = body("Cast", body.attribute("channels_last", onnx.AttributeProto.INT, "value_int"), to=TensorProto.BOOL)
    last = body("Where", is_last, channels, body.constant([1], np.int64))
    rows = body("Shape", x, start=0, end=1)
    given = body("Reshape", x, body("Concat", rows, body.constant([-1], np.int64), last, axis=0))
    in_order = body("Transpose", given, perm=[0, 2, 1])
    return in_order, body("Shape", in_order)


def _round(body: _Body, steps: str, numbered: str, shape: str) -> None:
    """Y = round(steps) + y_zero_point within a byte, put back as X lies."""
    steps = body("Add", body("Round", steps), _float_attribute(body, "y_zero_point", "INT"))
    bounds = (body.constant(0.0, np.float32), body.constant(255.0, np.float32))
    quantized = body("Cast", body("Clip", steps, *bounds), to=TensorProto.UINT8)
    lying = body("Transpose", body("Reshape", quantized, numbered), perm=[0, 2, 1])
    body.output("Y", "Reshape", lying, shape)
