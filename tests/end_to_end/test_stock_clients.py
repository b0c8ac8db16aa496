"""Clients of the Open Inference Protocol as others make them, unmodified, against a running server.

Each lives in an environment of its own under build/clients, which the first run makes from the package registry.
"""

import json
import os
import re
import shutil
import subprocess
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.process import ROOT, free_port, server, start_line

pytestmark = pytest.mark.prove
ENVIRONMENTS = ROOT / "build" / "clients"
SCRIPTS = Path(__file__).parent / "clients"
PACKAGES = {"triton": ["tritonclient[http,grpc]"], "kserve": ["kserve"], "perf": ["perf-analyzer>=2.60"]}
# Histograms that each script compares; in all more than 10,000.
COMPARED = {"triton_http": 5200, "triton_grpc": 3000, "kserve_rest": 2600}
SECONDS = 1500
BREAKDOWN = re.compile(
    r"Avg request latency: (\d+) usec \(overhead (\d+) usec \+ queue (\d+) usec \+ compute input (\d+) usec"
    r" \+ compute infer (\d+) usec \+ compute output (\d+) usec\)"
)


def environment(name: str) -> Path:
    """Python in an environment with a client's packages; skips the test where they cannot be had."""
    folder = ENVIRONMENTS / name
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--only-binary", ":all:", *PACKAGES[name]]
        run = subprocess.run(install, capture_output=True, text=True, timeout=SECONDS, check=False)
        if run.returncode:
            pytest.skip(f"{', '.join(PACKAGES[name])} cannot be installed: {run.stderr.strip().splitlines()[-1]}")
        (folder / "complete").touch()
    return python


@pytest.fixture(scope="module")
def addresses() -> Iterator[tuple[str, str]]:
    """HTTP and gRPC of a server of the repository's own models."""
    port = free_port()
    with server("--port", "0", "--grpc-port", str(port)) as process:
        yield start_line(process)[1], f"127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("name", "script"), [("triton", "triton_http"), ("triton", "triton_grpc"), ("kserve", "kserve_rest")]
)
def test_a_stock_client_gets_the_histograms_of_v1(addresses: tuple[str, str], name: str, script: str) -> None:
    """Health, metadata, errors; then concurrent requests with sigma, votes and seeds as parameters and as tensors."""
    python = environment(name)
    command = [str(python), str(SCRIPTS / f"{script}.py"), *addresses, str(COMPARED[script])]
    run = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert run.returncode == 0, run.stderr[-4000:]
    counts = json.loads(run.stdout.splitlines()[-1])
    print(script, counts)
    assert counts["compared"] >= 0.95 * COMPARED[script]
    assert counts["different"] == 0


def test_enough_is_compared() -> None:
    """Over all scripts at least 10,000 histograms."""
    assert sum(0.95 * each for each in COMPARED.values()) >= 10_000


def test_perf_analyzer_runs_and_reads_the_breakdown(addresses: tuple[str, str], tmp_path: Path) -> None:
    """Options as tensors of its input file, by REST and gRPC: its report has the server's queue and compute times."""
    command = os.environ.get("PERF_ANALYZER") or str(environment("perf").parent / "perf_analyzer")
    data = {"data": [{"input": {"content": [0.5] * 784, "shape": [1, 28, 28]}, "sigma": [0.8], "votes": [3]}]}
    (tmp_path / "data.json").write_text(json.dumps(data))
    for protocol, address in (("http", addresses[0].removeprefix("http://")), ("grpc", addresses[1])):
        run = subprocess.run(
            [command, "-m", "mnist-cnn", "-u", address, "-i", protocol, "--input-data", str(tmp_path / "data.json"),
             "--request-count", "200", "--concurrency-range", "2"],
            capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
        if "GLIBC" in run.stderr:
            pytest.skip(f"perf_analyzer does not run here: {run.stderr.strip().splitlines()[0]}")
        assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-2000:]
        found = BREAKDOWN.search(run.stdout)
        assert found is not None, run.stdout
        total, *parts = map(int, found.groups())
        assert total == pytest.approx(sum(parts), abs=5)
        assert parts[3] > 0


def test_the_protocols_own_examples_by_curl(addresses: tuple[str, str], tmp_path: Path) -> None:
    """Curl with bodies as the protocol's documents have them: no content type, JSON, binary and raw."""
    if (curl := shutil.which("curl")) is None:
        pytest.skip("curl is not installed")
    url = f"{addresses[0]}/v2/models/mnist-cnn"
    head = json.dumps(
        {
            "model_name": "mymodel",
            "inputs": [
                {"name": "input", "shape": [1, 1, 28, 28], "datatype": "FP32", "parameters": {"binary_data_size": 3136}}
            ],
            "outputs": [{"name": "label", "parameters": {"binary_data": True}}],
        }
    )
    files = {
        "json": json.dumps({"id": "42", "inputs": [
            {"name": "input", "shape": [1, 1, 28, 28], "datatype": "FP32", "data": [0.5] * 784}],
            "outputs": [{"name": "probability", "parameters": {"classification": 2}}]}).encode(),
        "binary": head.encode() + bytes(3136),
        "raw": bytes(3136),
    }  # fmt: skip
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)

    def curled(name: str, *headers: str) -> bytes:
        sent = [argument for header in headers for argument in ("-H", header)]
        command = [curl, "-sS", "--fail-with-body", *sent, "--data-binary", f"@{tmp_path / name}", f"{url}/infer"]
        return subprocess.run(command, capture_output=True, timeout=60, check=True).stdout

    answer: dict[str, Any] = json.loads(curled("json"))
    assert (answer["id"], answer["outputs"][0]["datatype"], len(answer["outputs"][0]["data"])) == ("42", "BYTES", 2)
    binary = curled("binary", "Content-Type: application/octet-stream", f"Inference-Header-Content-Length: {len(head)}")
    assert int.from_bytes(binary[-8:], "little") in range(10)
    assert b'"binary_data_size":80' in curled("raw", "Inference-Header-Content-Length: 0")
    ready = subprocess.run([curl, "-s", f"{url}/ready"], capture_output=True, timeout=60, check=True).stdout
    assert json.loads(ready) == {"name": "mnist-cnn", "ready": True}
