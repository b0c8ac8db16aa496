"""ResNet-18 on large images: votes with noise against votes without, on kernel and function body, and their memory."""

from typing import Final

from benchmarks.graphs import feeds, noiseless, running, session_of
from benchmarks.resnet18 import CLASSES, SHAPE, published_file
from benchmarks.timing import in_turns
from noisevote.engine.footprint import Footprint
from noisevote.engine.trial import Expectation, TrialLimits
from noisevote.engine.trial_process import TrialProcess
from noisevote.noise_op.contract import DOMAIN, OP_VERSION
from noisevote.noise_op.library import Kernel

ROWS: Final = 4  # of a batch: the function body computes no fewer
LARGEST: Final = 32  # the service's `batch_rows`
ROUNDS: Final = 9
NOISY, BODY, SILENT = "noise on the kernel", "noise on the function body", "no noise"
LIMITS: Final = TrialLimits(seconds=300, memory=8 * 2**30)


def measure(kernel: Kernel, threads: int = 1) -> dict[str, float]:
    """Votes per second of each, the ratios of their times, and MB a row and a largest batch."""
    file = published_file()
    sessions = {
        NOISY: session_of(file, threads, kernel),
        BODY: session_of(file, threads),
        SILENT: session_of(noiseless(file), threads),
    }
    batch = feeds(sessions[NOISY], 1, ROWS)
    timings = in_turns({name: running(session, batch) for name, session in sessions.items()}, ROUNDS, warm_up=1)
    figures = {f"{name} (votes/s)": ROWS / timings.median(name) for name in sessions}
    figures |= {f"{name} ÷ {SILENT}": timings.ratio(name, SILENT) for name in (NOISY, BODY)}
    sessions.clear()
    for name, found in ((NOISY, _weighed(file, kernel)), (BODY, _weighed(file, None))):
        figures[f"{name} (MB a row)"] = found.row / 1e6
        figures[f"{name} (MB a batch of {LARGEST})"] = found.bytes(LARGEST) / 1e6
    return figures


def _weighed(file: bytes, kernel: Kernel | None) -> Footprint:
    """What batches of it take, as the service measures it."""
    trial = TrialProcess(kernel, LIMITS)
    try:
        found = trial.check(Expectation(SHAPE, 0.0, 1.0, CLASSES, DOMAIN, OP_VERSION), file, weigh=True)
    finally:
        trial.close()
    if found is None:
        raise SystemExit("benchmarks: the memory of batches is measured on Linux alone")
    return found
