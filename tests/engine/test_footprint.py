"""How much memory batches take: foretold by a straight line, and measured in a process that tries files."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisevote.engine.footprint import Footprint
from noisevote.engine.trial import Expectation, TrialLimits
from noisevote.engine.trial_process import TrialProcess
from noisevote.noise_op.library import Kernel, load_kernel
from tests.support.graphs import tiny_network, wide_network
from tests.support.manifests import manifest

pytestmark = pytest.mark.slow

SIDE = 64
SIGNAL = 4 * 64 * SIDE * SIDE  # bytes a row of the wide network's signal
FOOTPRINTS = st.builds(Footprint, st.integers(0, 10**6), st.integers(0, 10**5), st.sampled_from([1, 4]))
# Prints by how many kilobytes a process grows that runs so many rows of a file from its standard input once.
RUNNING = """
import sys
import numpy as np
from noisevote.engine.feeds import Feeds
from noisevote.engine.session import load_session
from noisevote.noise_op.library import load_kernel
rows = int(sys.argv[1])
session = load_session(sys.stdin.buffer.read(), load_kernel() if sys.argv[2] == "kernel" else None)
numbers = np.arange(rows)
feeds = Feeds(np.zeros((rows, 1, 64, 64), np.float32), np.ones((rows, 2), np.float32), numbers, numbers, numbers)
status = lambda: dict(line.split(":") for line in open("/proc/self/status"))
before = int(status()["VmRSS"].split()[0])
session.run(feeds)
print(int(status()["VmHWM"].split()[0]) - before)
"""

only_linux = pytest.mark.skipif(sys.platform != "linux", reason="memory is measured by Linux's /proc")


def expectation(content: bytes, shape: tuple[int, ...], classes: int) -> Expectation:
    """What a manifest says of a file."""
    return Expectation.of(manifest({"a": content}, shape=shape, classes=tuple(map(str, range(classes)))))


@pytest.fixture(scope="module", params=["kernel", "function body"])
def trial(request: pytest.FixtureRequest) -> Iterator[TrialProcess]:
    """A process that has tried and weighed another, larger file before."""
    kernel: Kernel | None = load_kernel() if request.param == "kernel" else None
    found = TrialProcess(kernel, TrialLimits(60, memory=2**31))
    larger = wide_network(96, SIDE)
    found.check(expectation(larger, (1, SIDE, SIDE), 96), larger, weigh=True)
    yield found
    found.close()


@given(FOOTPRINTS, st.integers(0, 10**7), st.integers(1, 200))
def test_the_largest_batch_is_the_one_that_counting_finds(footprint: Footprint, most: int, rows: int) -> None:
    """All rows that are asked for, or the most whole steps that fit; none where not even one does."""
    if footprint.bytes(rows) <= most:
        expected = rows
    else:
        expected = max((n for n in range(0, rows, footprint.step) if n == 0 or footprint.bytes(n) <= most), default=0)
    assert footprint.rows_within(most, rows) == expected


@given(FOOTPRINTS, st.integers(1, 50))
def test_two_measured_batches_tell_of_all(footprint: Footprint, rows: int) -> None:
    """Whatever lies on a straight line; what is measured wrongly is never less than nothing."""
    few, many = footprint.step, 4 * footprint.step
    through = Footprint.through((few, footprint.bytes(few)), (many, footprint.bytes(many)), footprint.step)
    assert through.bytes(rows) == footprint.bytes(rows)
    assert Footprint.through((1, 100), (4, 90), 1) == Footprint(90, 0, 1)


@only_linux
def test_what_a_batch_takes_is_foretold(trial: TrialProcess) -> None:
    """Of 24 rows, from batches of at most 8: what a process of its own grows by when it runs them."""
    content = wide_network(64, SIDE)
    found = trial.check(expectation(content, (1, SIDE, SIDE), 64), content, weigh=True)
    assert found is not None
    assert found.row > SIGNAL
    kind = "kernel" if found.step == 1 else "function body"
    grown = subprocess.run([sys.executable, "-c", RUNNING, "24", kind], input=content, capture_output=True, check=True)
    assert found.bytes(24) == pytest.approx(int(grown.stdout) * 1024, rel=0.35)


@only_linux
def test_a_small_signal_is_seen_beside_the_arenas_first_part(trial: TrialProcess) -> None:
    """Of 32 kB a row, so that thirty rows fit into the part that is never given back: a row takes its signal."""
    content = wide_network(8, 32)
    found = trial.check(expectation(content, (1, 32, 32), 8), content, weigh=True)
    assert found is not None
    signal = 8 * 32 * 32 * 4
    assert signal <= found.row < 20 * signal


def test_a_file_is_weighed_on_demand_alone(trial: TrialProcess) -> None:
    """Weighing takes more runs."""
    tiny = tiny_network()
    assert trial.check(expectation(tiny, (1, 6, 6), 10), tiny) is None


def test_the_smallest_part_of_the_arena_is_what_it_is_said_to_be() -> None:
    """A file that ONNX's checker accepts, of one node on one number."""
    onnx = pytest.importorskip("onnx")
    session = pytest.importorskip("noisevote.engine.session")
    model = onnx.load_from_string(session._NEGATES_A_NUMBER)
    onnx.checker.check_model(model)
    assert [node.op_type for node in model.graph.node] == ["Neg"]
