import base64
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray
from PIL import Image

from noisevote.model_store.manifest import InputSpec
from noisevote.service.errors import InvalidValueError
from noisevote.service.prediction.inputs import decode_inputs

GREY = InputSpec(shape=(1, 4, 5))
COLOUR = InputSpec(shape=(3, 4, 5))
POINTS = InputSpec(shape=(5, 2), value_range=(0, 27), padding="repeat_last")
PIXELS = npst.arrays(np.uint8, (4, 5, 3))


def image_file(pixels: NDArray[np.uint8], file_format: str = "PNG", **options: object) -> dict[str, str]:
    """Pixels [height, width(, channels)] as an image input."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, file_format, **options)
    return {"image": base64.b64encode(file.getvalue()).decode()}


def raw(values: NDArray[np.generic], dtype: str) -> dict[str, str]:
    """An array as a raw input."""
    return {"b64": base64.b64encode(values.tobytes()).decode(), "dtype": dtype}


@given(
    npst.arrays(np.float32, st.tuples(st.integers(1, 3), *map(st.just, GREY.shape)), elements=st.floats(0, 1, width=32))
)
def test_float_inputs_arrive_bit_for_bit(values: NDArray[np.float32]) -> None:
    """As nested numbers and as bytes."""
    np.testing.assert_array_equal(decode_inputs(values.tolist(), GREY), values)
    np.testing.assert_array_equal(decode_inputs([raw(value, "float32") for value in values], GREY), values)


@given(PIXELS)
def test_a_png_is_its_pixels(pixels: NDArray[np.uint8]) -> None:
    """Grey and colour, channels first, 0 … 255 onto the value range; the same as raw bytes."""
    (grey,) = decode_inputs([image_file(pixels[..., 0])], GREY)
    np.testing.assert_array_equal(grey[0], pixels[..., 0] / np.float32(255))
    (colour,) = decode_inputs([image_file(pixels)], COLOUR)
    np.testing.assert_array_equal(colour, np.moveaxis(pixels, 2, 0) / np.float32(255))
    (bytes_,) = decode_inputs([raw(np.ascontiguousarray(np.moveaxis(pixels, 2, 0)), "uint8")], COLOUR)
    np.testing.assert_array_equal(bytes_, colour)


def test_forms_may_be_mixed() -> None:
    """Each input has its own form, and the order is kept."""
    pixels = np.arange(20, dtype=np.uint8).reshape(4, 5)
    items = [image_file(pixels), (pixels[np.newaxis] / 255).tolist(), raw(pixels, "uint8")]
    decoded = decode_inputs(items, GREY)
    np.testing.assert_array_equal(decoded[0], decoded[1])
    np.testing.assert_array_equal(decoded[0], decoded[2])
    assert decoded.dtype == np.float32


def test_integers_are_numbers() -> None:
    """0 and 1 need no decimal point."""
    assert decode_inputs([np.ones((1, 4, 5), int).tolist()], GREY).sum() == 20


def test_a_jpeg_is_read() -> None:
    """An even surface survives its compression."""
    decoded = decode_inputs([image_file(np.full((4, 5), 128, np.uint8), "JPEG", quality=95)], GREY)
    np.testing.assert_allclose(decoded, 128 / 255, atol=0.01)


def test_colours_are_converted_to_the_models_channels() -> None:
    """Grey for a colour model has equal channels; colour for a grey model is its luma (ITU-R 601)."""
    grey = np.full((4, 5), 100, np.uint8)
    assert np.unique(decode_inputs([image_file(grey)], COLOUR)).size == 1
    red = np.zeros((4, 5, 3), np.uint8)
    red[..., 0] = 255
    assert decode_inputs([image_file(red)], GREY)[0, 0, 0, 0] == pytest.approx(0.299, abs=0.005)


def test_palettes_and_opaque_alpha_are_read() -> None:
    """A palette is looked up; alpha that hides nothing is dropped."""
    red = np.zeros((4, 5, 4), np.uint8)
    red[..., (0, 3)] = 255
    plain = decode_inputs([image_file(red[..., :3])], COLOUR)
    np.testing.assert_array_equal(decode_inputs([image_file(red)], COLOUR), plain)
    file = io.BytesIO()
    Image.fromarray(red[..., :3]).convert("P").save(file, "PNG")
    indexed = {"image": base64.b64encode(file.getvalue()).decode()}
    np.testing.assert_array_equal(decode_inputs([indexed], COLOUR), plain)


def test_bytes_fill_other_value_ranges_to_their_ends() -> None:
    """0 is the lower bound and 255 the upper one, exactly, whatever the range."""
    ends = np.repeat(np.array([0, 255], np.uint8), 10).reshape(1, 4, 5)
    for bounds in ((-1.0, 1.0), (0.0, 255.0), (-0.1, 0.3), (1 / 3, 2 / 3)):
        decoded = decode_inputs([raw(ends, "uint8")], InputSpec(shape=(1, 4, 5), value_range=bounds))
        assert {float(np.float32(bound)) for bound in bounds} == set(np.unique(decoded).tolist())


def test_what_is_no_picture_cannot_be_an_image() -> None:
    """A model of sequences takes numbers only."""
    with pytest.raises(InvalidValueError, match=r"inputs of shape \[20\] cannot be given as an image"):
        decode_inputs([image_file(np.zeros((4, 5), np.uint8))], InputSpec(shape=(20,)))


def test_inputs_of_one_axis_are_numbers() -> None:
    """The innermost lists are checked too."""
    spec = InputSpec(shape=(3,))
    np.testing.assert_array_equal(decode_inputs([[0, 0.5, 1]], spec), np.array([[0, 0.5, 1]], np.float32))
    with pytest.raises(InvalidValueError, match=r"inputs\[1\]: 2 values"):
        decode_inputs([[0, 0.5, 1], [0, 0]], spec)
    with pytest.raises(InvalidValueError, match=r"inputs\[1\]\[2\]: 7.0 is outside"):
        decode_inputs([[0, 0.5, 1], [0, 0, 7]], spec)


@given(st.lists(st.tuples(st.integers(0, 27), st.floats(0, 27, width=32)), min_size=1, max_size=9))
def test_sequences_of_any_length_fit_by_the_manifests_rule(points: list[tuple[int, float]]) -> None:
    """A shorter list goes on with its last point, a longer one ends at the model's length."""
    (decoded,) = decode_inputs([[list(point) for point in points]], POINTS)
    np.testing.assert_array_equal(decoded, np.array((points + 5 * points[-1:])[:5], np.float32))


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ([], r"inputs\[0\]: an empty list; at least one element of shape \[2\] is needed"),
        ([[1, 2], [3]], r"inputs\[0\]\[1\]: 1 values; the shape is \[2, 2\], so 2 are needed"),
        ([[1, 2], 3], r"inputs\[0\]\[1\]: 3"),
        ([[1, 2], [3, "4"]], r"inputs\[0\]\[1\]\[1\]: .*4.* is not a number"),
        ([[1, 2], [3, 27.5]], r"inputs\[0\]\[1\]\[1\]: 27.5 is outside the value range"),
    ],
)
def test_sequences_that_are_none_are_refused(item: list[object], message: str) -> None:
    """By the place where they go wrong."""
    with pytest.raises(InvalidValueError, match=message):
        decode_inputs([item], POINTS)


def test_bytes_of_a_sequence_have_the_whole_shape() -> None:
    """Padding is for lists, whose length can be seen."""
    whole = np.arange(10, dtype=np.float32).reshape(5, 2)
    np.testing.assert_array_equal(decode_inputs([raw(whole, "float32")], POINTS)[0], whole)
    with pytest.raises(InvalidValueError, match=r"inputs\[0\].b64: 32 bytes"):
        decode_inputs([raw(whole[:4], "float32")], POINTS)


def test_without_a_rule_lists_have_the_models_length() -> None:
    """Neither more nor fewer points."""
    exact = InputSpec(shape=(5, 2), value_range=(0, 27))
    for length in (4, 6):
        with pytest.raises(InvalidValueError, match=rf"inputs\[0\]: {length} values"):
            decode_inputs([[[0, 0]] * length], exact)
