"""What `/openapi.json` promises, tried by schemathesis on a running server."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from noisevote.model_store.store import ModelStore
from tests.support.process import clean_environment, server, start_line
from tests.support.serving import publish_tiny

CASES = 2000
# A schema cannot say everything: the shape of a model's input, sigma beside snr_db, the names of models.
CONFIGURATION = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", 404, 422]

# Bytes that are no JSON are of the type that the schema names for binary tensors.
[[operations]]
include-path-regex = "^/v2/.*/infer$"
[operations.checks.positive_data_acceptance]
expected-statuses = ["2xx", 400, 404, 422]

# Nobody has a key here, and these always need one.
[[operations]]
include-path-regex = "^/(v1/admin|v2/repository)/"
[operations.checks.positive_data_acceptance]
expected-statuses = [403]
"""


# Most requests are those that schemathesis derives from the schema; of what it draws, two each are the short slice.
@pytest.mark.parametrize("examples", [2, pytest.param(20, marks=pytest.mark.prove)])
def test_the_server_answers_as_its_openapi_says(tmp_path: Path, examples: int) -> None:
    """No 500, no undocumented status or content type, and no answer that its schema forbids, in 2,000 requests."""
    publish_tiny(ModelStore(tmp_path / "models"))
    configuration = tmp_path / "schemathesis.toml"
    configuration.write_text(CONFIGURATION)
    with server("--port", "0", "--model-store", str(tmp_path / "models")) as process:
        address = start_line(process)[1]
        tried = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(configuration)),
                *("run", f"{address}/openapi.json", "--checks", "all", "--max-examples", str(examples), "--seed", "1"),
                *("--no-color",),
            ],
            cwd=tmp_path,
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert tried.returncode == 0, tried.stdout[-4000:] + tried.stderr[-2000:]
    generated, passed = map(int, re.findall(r"(\d+) generated, (\d+) passed", tried.stdout)[0])
    assert generated == passed >= CASES
