from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from noisevote.engine.errors import BadModelError
from noisevote.engine.onnx_file import INSIDE, TENSOR, refuse_unsafe
from tests.support.graphs import tiny_network
from tests.support.poison import OTHERS

CONTENT = tiny_network()


def holders() -> dict[str, dict[int, str]]:
    """Which fields of which messages lead to tensors, as the onnx package's own description says."""
    known = {each.name: each for each in onnx.ModelProto.DESCRIPTOR.file.message_types_by_name.values()}
    leading = {TENSOR}
    while True:
        found = {
            name
            for name, each in known.items()
            if any(field.message_type is not None and field.message_type.name in leading for field in each.fields)
        }
        if found <= leading:
            break
        leading |= found
    return {
        name: {
            field.number: field.message_type.name
            for field in known[name].fields
            if field.message_type is not None and field.message_type.name in leading
        }
        for name in leading - {TENSOR}
    }


def test_all_places_of_tensors_are_looked_at() -> None:
    """The table of fields is the one of the onnx package: a new place in a new version of ONNX shows here."""
    assert holders() == INSIDE


def tensors(message: Any) -> Iterator[TensorProto]:
    """Every tensor inside a message, by the onnx package."""
    if isinstance(message, TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        repeated = [value] if hasattr(value, "ListFields") else value
        for each in repeated:
            yield from tensors(each)


def test_every_tensor_of_a_network_is_seen() -> None:
    """Made external one by one, each is refused, wherever it lies."""
    count = len(list(tensors(onnx.load_model_from_string(CONTENT))))
    assert count > 20
    refuse_unsafe(CONTENT)
    for index in range(count):
        model = onnx.load_model_from_string(CONTENT)
        tensor = list(tensors(model))[index]
        tensor.data_location = TensorProto.EXTERNAL
        with pytest.raises(BadModelError, match="external data"):
            refuse_unsafe(bytes(model.SerializeToString()))
        tensor.ClearField("data_location")
        tensor.external_data.add(key="location", value="x")
        with pytest.raises(BadModelError, match="external data"):
            refuse_unsafe(bytes(model.SerializeToString()))


def graph_with(tensor: TensorProto) -> bytes:
    """A file with one tensor."""
    model = helper.make_model(helper.make_graph([], "one", [], [], [tensor]))
    return bytes(model.SerializeToString())


NUMBERS: list[tuple[int, Any]] = [
    (TensorProto.FLOAT, np.float32),
    (TensorProto.DOUBLE, np.float64),
    (TensorProto.FLOAT16, np.float16),
]


@pytest.mark.parametrize(("kind", "dtype"), NUMBERS)
@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("value", [0.5, -np.inf, np.nan])
def test_values_that_are_no_numbers_are_found(kind: int, dtype: Any, raw: bool, value: float) -> None:
    """In raw data and in typed fields, in every floating point type; infinity is a number here, as masks need it."""
    values = np.array([1.0, value, 2.0], dtype)
    tensor = helper.make_tensor("t", kind, [3], values.tobytes() if raw else values, raw=raw)
    assert np.array_equal(numpy_helper.to_array(tensor), values, equal_nan=True)
    if np.isnan(value):
        with pytest.raises(BadModelError, match="NaN"):
            refuse_unsafe(graph_with(tensor))
    else:
        refuse_unsafe(graph_with(tensor))


@pytest.mark.parametrize(("bits", "refused"), [(0x3F80, False), (0x7F80, False), (0x7FC0, True), (0xFF81, True)])
@pytest.mark.parametrize("raw", [False, True])
def test_so_are_those_of_brain_floats(bits: int, refused: bool, raw: bool) -> None:
    """One, infinity, and two that are no numbers."""
    tensor = TensorProto(name="t", data_type=TensorProto.BFLOAT16, dims=[1])
    if raw:
        tensor.raw_data = np.array([bits], "<u2").tobytes()
    else:
        tensor.int32_data.append(bits)
    if refused:
        with pytest.raises(BadModelError, match="NaN"):
            refuse_unsafe(graph_with(tensor))
    else:
        refuse_unsafe(graph_with(tensor))


def external(content: bytes) -> bool:
    """Whether the onnx package reads a file and finds external data in it."""
    try:
        model = onnx.load_model_from_string(content)
    except Exception:  # protobuf's own, which has no types
        return False
    return any(each.external_data or each.data_location for each in tensors(model))


SOURCES = [CONTENT, *(poison.content for name, poison in OTHERS.items() if name.startswith("outside"))]


@given(st.sampled_from(SOURCES), st.data())
def test_what_the_onnx_package_would_read_from_elsewhere_never_passes(content: bytes, data: st.DataObject) -> None:
    """However bytes are changed, cut or repeated: refused, or without external data; and no other error."""
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(changed) - 1))
        match data.draw(st.sampled_from(["change", "cut", "repeat"])):
            case "change":
                changed[place] = data.draw(st.integers(0, 255))
            case "cut":
                del changed[place : place + data.draw(st.integers(0, 8))]
            case _:
                changed[place:place] = changed[place : place + data.draw(st.integers(0, 200))]
    try:
        refuse_unsafe(bytes(changed))
    except BadModelError:
        return
    assert not external(bytes(changed))


@given(st.binary(max_size=200))
def test_any_bytes_end_in_one_kind_of_error(content: bytes) -> None:
    """Nothing that bytes may hold does anything else than pass or be refused."""
    try:
        refuse_unsafe(content)
    except BadModelError:
        return
    assert not external(content)
