"""The monotone cubic through points (PCHIP): between two points it stays between their values.

Fritsch and Carlson 1980, with the derivatives of Fritsch and Butland, SIAM J. Sci. Stat. Comput. 5, 1984. SciPy's
`PchipInterpolator` is the same; importing scipy.interpolate takes 25 MiB and half a second of every server's start.
"""

import numpy as np
from numpy.typing import NDArray


class MonotoneCubic:
    """The curve through (xs, ys), each float64 [n], n at least 2, xs rising."""

    def __init__(self, xs: NDArray[np.float64], ys: NDArray[np.float64]) -> None:
        self._xs = xs
        self._ys = ys
        self._slopes = _slopes(np.diff(xs), np.diff(ys) / np.diff(xs))

    def __call__(self, at: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values at places [m] within the xs."""
        i = np.clip(np.searchsorted(self._xs, at, side="right") - 1, 0, len(self._xs) - 2)
        step = self._xs[i + 1] - self._xs[i]
        t = (at - self._xs[i]) / step
        rest = 1 - t
        return np.asarray(  # Hermite's form
            rest * rest * ((1 + 2 * t) * self._ys[i] + t * step * self._slopes[i])
            + t * t * ((1 + 2 * rest) * self._ys[i + 1] - rest * step * self._slopes[i + 1])
        )


def _slopes(steps: NDArray[np.float64], rises: NDArray[np.float64]) -> NDArray[np.float64]:
    """Derivatives at the points [n], from the steps between them and the rises of the straight lines, each [n − 1]."""
    if len(steps) == 1:
        return np.repeat(rises, 2)
    first, second = 2 * steps[1:] + steps[:-1], steps[1:] + 2 * steps[:-1]
    same_way = rises[:-1] * rises[1:] > 0
    before, after = (np.where(same_way, each, 1.0) for each in (rises[:-1], rises[1:]))
    inner = np.where(same_way, (first + second) / (first / before + second / after), 0.0)
    return np.array([_end(steps[:2], rises[:2]), *inner, _end(steps[:-3:-1], rises[:-3:-1])])


def _end(steps: NDArray[np.float64], rises: NDArray[np.float64]) -> float:
    """The derivative at an end, from the two nearest steps and rises: a parabola's, kept monotone."""
    (near, far), (rise, next_rise) = steps.tolist(), rises.tolist()
    slope = ((2 * near + far) * rise - near * next_rise) / (near + far)
    if slope * rise <= 0:
        return 0.0
    return float(3 * rise if rise * next_rise <= 0 and abs(slope) > 3 * abs(rise) else slope)
