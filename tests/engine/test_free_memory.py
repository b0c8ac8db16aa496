"""Memory that goes back to the system."""

import sys
from pathlib import Path

import numpy as np
import pytest

from noisevote.engine.feeds import Feeds
from noisevote.engine.free_memory import let_go_of_code
from noisevote.engine.session import load_session
from tests.support.graphs import SHAPE, tiny_network


@pytest.mark.skipif(sys.platform != "linux", reason="other systems are not asked")
def test_code_that_was_let_go_of_comes_back() -> None:
    """What is resident of files shrinks by megabytes, and a session computes the same afterwards."""
    session = load_session(tiny_network(), None)
    one = np.zeros(1, np.int64)
    feeds = Feeds(np.ones((1, *SHAPE), np.float32), np.full((1, 2), 0.5, np.float32), one, one, one)
    expected = session.run(feeds)
    before = _resident_of_files()
    let_go_of_code()
    assert _resident_of_files() < before - 2**21
    assert np.array_equal(session.run(feeds), expected)


def _resident_of_files() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssFile:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("/proc/self/status has no RssFile")
