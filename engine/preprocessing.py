"""An image of any size made an input as the manifest declares: resized, cut out, normalised.

In the service on request, and wherever a model is measured on images: once for both, so that they see the same pixels.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from noisevote.model_store.manifest import InputSpec, Preprocess


class UnfitImageError(ValueError):
    """An image cannot become an input; the message says why."""


def preprocessed(samples: NDArray[Any], spec: InputSpec) -> NDArray[np.float32]:
    """An input float32 [channels, height, width] in the value range.

    Sizes are those of torchvision's Resize and CenterCrop, and so are the pixels, bilinear with antialiasing.

    Args:
        samples: uint8 [height, width, channels], red, green and blue or grey.
        spec: what the model takes; it declares a `preprocess`.

    Raises:
        UnfitImageError: after resizing, the image is smaller than what is to be cut out.
    """
    given = spec.preprocess
    if given is None:
        raise UnfitImageError("the model declares no preprocessing")
    sized = _resized(samples, given, (spec.shape[1], spec.shape[2]))
    ordered = sized[..., ::-1] if given.channels == "bgr" else sized
    bright = np.moveaxis(ordered, 2, 0).astype(np.float32) / np.float32(255)
    if given.mean:
        mean, std = (np.array(each, np.float32)[:, np.newaxis, np.newaxis] for each in (given.mean, given.std))
        bright = (bright - mean) / std
    else:
        bright = bright * np.float32(spec.value_range[1] - spec.value_range[0]) + np.float32(spec.value_range[0])
    # Rounding may pass the ends by a bit.
    low, high = (np.float32(bound) for bound in spec.value_range)
    return np.asarray(np.minimum(np.maximum(bright, low), high))


def normalised_range(preprocess: Preprocess) -> tuple[float, float]:
    """The values that normalised brightnesses take; without mean and std 0 … 1."""
    if not preprocess.mean:
        return 0.0, 1.0
    pairs = list(zip(preprocess.mean, preprocess.std, strict=True))
    return min(-mean / std for mean, std in pairs), max((1 - mean) / std for mean, std in pairs)


def _resized(samples: NDArray[Any], given: Preprocess, size: tuple[int, int]) -> NDArray[Any]:
    height, width = samples.shape[:2]
    if given.resize == "stretch":
        return _scaled(samples, size)
    shorter = min(height, width)
    scaled = _scaled(samples, (given.resize * height // shorter, given.resize * width // shorter))
    top, left = (round((have - want) / 2) for have, want in zip(scaled.shape[:2], size, strict=True))
    if top < 0 or left < 0:
        found = f"{scaled.shape[1]}×{scaled.shape[0]}"
        raise UnfitImageError(f"resized it is {found} pixels, smaller than the model's {size[1]}×{size[0]}")
    return scaled[top : top + size[0], left : left + size[1]]


def _scaled(samples: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    if samples.shape[:2] == size:
        return samples
    grey = samples.shape[2] == 1
    image = Image.fromarray(samples[..., 0] if grey else samples)
    found = np.asarray(image.resize((size[1], size[0]), Image.Resampling.BILINEAR))
    return found[..., np.newaxis] if grey else found
