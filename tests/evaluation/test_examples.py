import numpy as np

from noisevote.evaluation.examples import Examples


def test_bytes_stand_for_zero_to_one() -> None:
    """Each stored byte becomes the float32 nearest to it divided by 255."""
    stored = np.arange(256, dtype=np.uint8).reshape(2, 1, 8, 16)
    values = Examples(stored, np.zeros(2, np.uint8)).values(slice(None))
    assert values.dtype == np.float32
    assert np.array_equal(values, (stored.astype(np.float64) / 255).astype(np.float32))


def test_float32_is_taken_as_it_is() -> None:
    """Inputs of any shape that are stored as float32 reach the network unchanged."""
    stored = np.random.default_rng(0).normal(size=(4, 7, 2)).astype(np.float32)
    examples = Examples(stored, np.arange(4, dtype=np.uint8))
    assert np.array_equal(examples.values(np.array([3, 0])), stored[[3, 0]])
    assert len(examples.first(3)) == 3
