"""The README's example: asks a server what it asks, and compares answers as it means them."""

import json
import re
import subprocess
from typing import Any

import pytest

from tests.support.process import ROOT, TIMEOUT_S

README = (ROOT / "README.md").read_text()
MARK = "<!-- example: tests/end_to_end/test_readme.py"
DOCUMENTED_ADDRESS = "http://127.0.0.1:8000"


def example() -> tuple[str, dict[str, Any]]:
    """The command after the mark, and the answer after the command."""
    found = re.search(r"```sh\n(.*?)```.*?```json\n(.*?)```", README[README.index(MARK) :], re.DOTALL)
    assert found is not None
    assert DOCUMENTED_ADDRESS in found[1]
    return found[1], json.loads(found[2])


def assert_answers_the_example(address: str) -> None:
    """The README's command, run in the repository's root: the documented answer, but for the time it took."""
    command, documented = example()
    here = command.replace(DOCUMENTED_ADDRESS, address)
    run = subprocess.run(["bash", "-c", here], cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    answer = json.loads(run.stdout)
    for each in (answer, documented):
        del each["timing_ms"]
    # The README rounds probabilities, and processors and libraries differ in the last bits.
    for name in ("mean_probabilities", "lower_bound"):
        found, written = (each["predictions"][0].pop(name) for each in (answer, documented))
        assert found == pytest.approx(written, abs=1e-3)
    assert answer == documented
