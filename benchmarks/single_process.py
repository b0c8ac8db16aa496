"""The service as one process, to compare with."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.ray_cluster import ROOT


@contextmanager
def single_process() -> Iterator[str]:
    """Its address; it ends with the context."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NOISEVOTE_")}
    command = [sys.executable, "-m", "service", "--port", "0"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    with process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.search(r"http://\S+", line)
            if found is None:
                raise RuntimeError(f"the service did not start: {line!r}")
            yield found.group()
        finally:
            process.terminate()
