"""Images of any size, and whole numbers: what a request may give of models that declare so."""

import base64
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from noisevote.engine.preprocessing import preprocessed
from noisevote.model_store.manifest import InputSpec, Preprocess
from noisevote.service.errors import InvalidValueError
from noisevote.service.prediction import images
from noisevote.service.prediction.inputs import decode_inputs

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGENET = InputSpec(shape=(3, 24, 24), value_range=(-3, 3), preprocess=Preprocess(resize=32, mean=MEAN, std=STD))
PIXELS = np.random.default_rng(0).integers(0, 256, (50, 71, 3)).astype(np.uint8)


def item(pixels: np.ndarray[Any, Any], kind: str = "PNG") -> dict[str, str]:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return {"image": base64.b64encode(stream.getvalue()).decode()}


def test_resizing_and_cutting_are_those_of_training() -> None:
    """As torchvision's Resize(32), CenterCrop(24), ToTensor and Normalize: sizes rounded down, bilinear, centred."""
    (found,) = decode_inputs([item(PIXELS)], IMAGENET, preprocess=True)
    resized = np.asarray(Image.fromarray(PIXELS).resize((32 * 71 // 50, 32), Image.Resampling.BILINEAR))
    top, left = 4, round((45 - 24) / 2)
    cut = resized[top : top + 24, left : left + 24].astype(np.float32) / 255
    expected = ((cut - np.array(MEAN)) / np.array(STD)).transpose(2, 0, 1)
    assert np.abs(found - expected).max() < 1e-5


def test_without_asking_nothing_is_resized() -> None:
    """And a normalised model refuses an image even of its own size, which would mean other values."""
    with pytest.raises(InvalidValueError, match=r"inputs\[0\]\.image: this model takes normalised images; ask with"):
        decode_inputs([item(PIXELS[:24, :24])], IMAGENET)
    plain = InputSpec(shape=(3, 24, 24), preprocess=Preprocess())
    with pytest.raises(InvalidValueError, match="the image is 71×50 pixels, the model takes 24×24"):
        decode_inputs([item(PIXELS)], plain)
    assert decode_inputs([item(PIXELS[:24, :24])], plain).shape == (1, 3, 24, 24)


def test_grey_bgr_and_stretched() -> None:
    """Channels are converted and ordered; without mean and std brightness is spread over the value range."""
    grey = InputSpec(shape=(1, 10, 12), value_range=(-1, 1), preprocess=Preprocess())
    found = decode_inputs([item(np.full((30, 20), 255, np.uint8))], grey, preprocess=True)
    assert found.shape == (1, 1, 10, 12)
    assert (found == 1).all()
    bgr = InputSpec(shape=(3, 4, 4), preprocess=Preprocess(channels="bgr"))
    red = np.zeros((9, 9, 3), np.uint8)
    red[..., 0] = 255
    assert decode_inputs([item(red)], bgr, preprocess=True)[0, :, 0, 0].tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("given", "spec", "message"),
    [
        (item(PIXELS), InputSpec(shape=(3, 24, 24)), "preprocess: true, but this model's manifest declares no"),
        ([[0.0]], IMAGENET, r"inputs\[0\]: .* is no image; preprocess is for images alone"),
        (
            item(PIXELS),
            InputSpec(shape=(3, 24, 60), preprocess=Preprocess(resize=32)),
            "smaller than the model's 60×24",
        ),
        ({"image": "AAAA"}, IMAGENET, "neither a PNG nor a JPEG"),
    ],
)
def test_what_cannot_be_preprocessed_is_refused(given: Any, spec: InputSpec, message: str) -> None:
    """Naming the input."""
    with pytest.raises(InvalidValueError, match=message):
        decode_inputs([given], spec, preprocess=True)


def test_huge_pictures_are_refused_before_they_are_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """By their header."""
    monkeypatch.setattr(images, "MOST_PIXELS", 50 * 71 - 1)
    with pytest.raises(InvalidValueError, match="the image is 71×50 pixels, more than 3549 in all"):
        decode_inputs([item(PIXELS)], IMAGENET, preprocess=True)


def test_16_bits_become_8() -> None:
    """Rounded, so that 65535 is white."""
    samples = images.decode_any_size(
        base64.b64decode(item(np.array([[0, 65535, 32768]], np.uint16))["image"]), 1, "image"
    )
    assert samples[..., 0].tolist() == [[0, 255, 128]]


def test_whole_numbers_are_taken_as_they_are() -> None:
    """As numbers, as bytes and as integers of 32 and 64 bits; fractions are refused by place."""
    spec = InputSpec(shape=(3,), value_range=(0, 256), integers=True)
    for dtype in ("uint8", "int32", "int64", "float32"):
        raw = base64.b64encode(np.array([0, 7, 255], dtype).tobytes()).decode()
        assert decode_inputs([{"b64": raw, "dtype": dtype}], spec).tolist() == [[0, 7, 255]]
    assert decode_inputs([[0, 256, 3]], spec).tolist() == [[0, 256, 3]]
    with pytest.raises(InvalidValueError, match=r"inputs\[0\]\[1\]: 0\.5 is no whole number"):
        decode_inputs([[0, 0.5, 3]], spec)
    with pytest.raises(InvalidValueError, match="257"):
        decode_inputs([[0, 257, 3]], spec)


def test_what_is_declared_must_fit() -> None:
    """Images only, one number a channel, whole numbers that float32 holds."""
    for fields in (
        {"shape": (7,), "preprocess": Preprocess()},
        {"shape": (3, 4, 4), "preprocess": Preprocess(mean=(0.5,), std=(0.5,))},
        {"shape": (7,), "integers": True, "value_range": (0, 2**25)},
    ):
        with pytest.raises(ValueError, match=r"preprocess|value_range"):
            InputSpec(**fields)
    with pytest.raises(ValueError, match="1 numbers in mean, 0 in std"):
        Preprocess(mean=(0.5,))


def test_images_and_the_room_that_measures_agree() -> None:
    """One function makes inputs for both."""
    (served,) = decode_inputs([item(PIXELS)], IMAGENET, preprocess=True)
    assert np.array_equal(served, preprocessed(PIXELS, IMAGENET))
