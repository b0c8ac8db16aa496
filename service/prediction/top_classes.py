"""The classes that got most of the votes, where there are too many to name them all."""

import numpy as np
from numpy.typing import NDArray

from noisevote.voting.tally import Tally


def top_classes(tally: Tally, count: int) -> NDArray[np.int64]:
    """The `count` leading classes of each input, int64 [inputs, at most `count`].

    They are in the order of the decision: most votes first, ties by the larger mean probability, then the lower index.
    """
    classes = np.broadcast_to(np.arange(tally.histogram.shape[1]), tally.histogram.shape)
    order = np.lexsort((classes, -tally.probabilities, -tally.histogram), axis=1)
    return np.asarray(order[:, :count])
