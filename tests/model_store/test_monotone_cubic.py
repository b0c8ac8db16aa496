import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import PchipInterpolator

from noisevote.model_store.monotone_cubic import MonotoneCubic


@given(
    st.lists(st.integers(0, 30), min_size=2, max_size=9, unique=True),
    st.data(),
    st.lists(st.floats(0, 1), min_size=1, max_size=9),
)
def test_it_is_scipys(steps: list[int], data: st.DataObject, places: list[float]) -> None:
    """Through any points, at any place between them."""
    xs = np.sort(steps) / 10
    values = st.floats(-4, 4, allow_subnormal=False)
    ys = np.array(data.draw(st.lists(values, min_size=len(xs), max_size=len(xs))))
    at = np.clip(xs[0] + np.array(places) * (xs[-1] - xs[0]), xs[0], xs[-1])
    np.testing.assert_allclose(MonotoneCubic(xs, ys)(at), PchipInterpolator(xs, ys)(at), rtol=1e-9, atol=1e-12)
