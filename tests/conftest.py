import gc
import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

HERE = Path(__file__).parent

# How long an example takes says how busy the machine is. CI judges a change by the same examples every time; elsewhere
# each run looks for new ones.
settings.register_profile("usual", deadline=None)
settings.register_profile("ci", derandomize=True, deadline=None)
# `make prove` names it: as many examples as one waits for once.
settings.register_profile("prove", max_examples=3000, deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "usual")

# As in service/__init__.py; tests of the operator import ONNX Runtime without the service.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# No test leaves timings in the home folder, or gets a batch size that another one measured.
os.environ.setdefault("NOISEVOTE_TIMINGS_FILE", "off")
# Tests that run side by side would each start as many threads as there are processors.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what trains and what starts processes, and begin with what takes long: no worker ends up alone with it."""
    for item in items:
        if (HERE / "training") in item.path.parents:
            item.add_marker("training")
        if (HERE / "end_to_end") in item.path.parents:
            item.add_marker("slow")
    items.sort(key=lambda item: not any(item.get_closest_marker(name) for name in ("training", "slow")))


def pytest_collection_finish() -> None:
    """Do once what tests would do again and again, now that all is imported that they need."""
    if "noisevote.training.publish.export" in sys.modules:
        from tests.support.exporting import keep_translations  # not without torch

        keep_translations()
    gc.collect()
    gc.freeze()  # imports stay: looking through them is half of what later collections would take


def pytest_sessionfinish() -> None:
    """End the process that forks servers, where a test asked it to."""
    if (started := sys.modules.get("tests.support.fork_server")) is not None:
        started.close_fork_server()
