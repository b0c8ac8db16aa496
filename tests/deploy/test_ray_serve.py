"""Two Ray nodes on this machine, each with a replica, beside a single process on the same models."""

import tempfile
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.ray_cluster import Cluster, cluster
from noisevote.model_store.store import ModelStore
from noisevote.service.rest.keys import key_line
from tests.service.rest.v1.test_predict import INPUTS, PATH
from tests.support.process import server, start_line
from tests.support.serving import publish_tiny

pytestmark = [
    pytest.mark.serial,
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed (extra `ray`)"),
]

TIMEOUT_S = 60.0
ADMIN = {"authorization": "Bearer ops"}
BODIES: list[dict[str, Any]] = [
    {"votes": 20, "seed": 7},
    {"votes": 3001, "seed": 2**64 - 1, "noise": "additive"},
    {"votes": 900, "seed": 5, "stop": {"rule": "exact"}},
]
# So many votes that four clients keep parts waiting on each replica. What Ray has only sent there when a node is lost,
# it sends elsewhere by itself; what the replica has taken, the service must ask again.
LOAD: dict[str, Any] = {"inputs": INPUTS.tolist(), "sigma": 0.8, "votes": 10_000, "seed": 3}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder with a short name: Ray's sockets lie below, and their paths have at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="nv", ignore_cleanup_errors=True) as name:
        publish_tiny(ModelStore(Path(name) / "models"))
        yield Path(name)


@pytest.fixture(scope="module")
def one_process(folder: Path) -> Iterator[str]:
    """Address of a single process."""
    with server("--port", "0", "--model-store", str(folder / "models"), "--threads", "1") as process:
        yield start_line(process)[1]


@pytest.fixture(scope="module")
def ray(folder: Path) -> Iterator[Cluster]:
    """Two nodes with a replica each; requests of more than 2,000 votes are split."""
    keys = folder / "keys.jsonl"
    keys.write_text(key_line("ops", ["admin"], "ops") + "\n")
    settings = {
        "NOISEVOTE_MODEL_STORE": str(folder / "models"),
        "NOISEVOTE_INSECURE": "true",
        "NOISEVOTE_KEYS_FILE": str(keys),
    }
    with cluster(folder / "r", nodes=2, environment=settings) as made:
        made.deploy(min_replicas=2, max_replicas=2, part_rows=2000, timeout_s=TIMEOUT_S)
        yield made


def predictions(url: str, body: dict[str, Any]) -> Any:
    """Of a request that must succeed within the service's timeout; a connection of its own, as after a lost one."""
    response = httpx.post(f"{url}{PATH}", json=body, timeout=TIMEOUT_S)
    assert response.status_code == 200, response.text
    return response.json()["predictions"]


def replicas(cluster: Cluster) -> int:
    """Which have counted votes, by their logs."""
    return len({line.split()[4] for line in cluster.log("CALL count OK")})


@pytest.mark.parametrize("body", BODIES, ids=str)
def test_two_nodes_answer_as_one_process(ray: Cluster, one_process: str, body: dict[str, Any]) -> None:
    """Histograms, mean probabilities, decisions: all but times, for whole requests and for those in parts."""
    whole = {"inputs": INPUTS.tolist(), "sigma": 0.8} | body
    assert predictions(ray.url, whole) == predictions(one_process, whole)


def test_what_cannot_be_used_is_refused_as_by_one_process(ray: Cluster, one_process: str) -> None:
    """Status and message, through Ray Serve's own proxy."""
    for path, body in ((PATH, {"inputs": INPUTS.tolist(), "votes": 0}), ("/v1/models/none/predict", LOAD)):
        answers = [httpx.post(f"{url}{path}", json=body, timeout=TIMEOUT_S) for url in (ray.url, one_process)]
        assert answers[0].status_code == answers[1].status_code >= 400
        assert answers[0].json() == answers[1].json()


def test_every_replica_follows_what_is_loaded_and_unloaded(ray: Cluster, one_process: str, folder: Path) -> None:
    """Parts on both nodes are of the version that was loaded, and the one beside it goes on."""
    publish_tiny(ModelStore(folder / "models"), "2")
    admin = httpx.Client(base_url=f"{ray.url}/v1/admin/models/tiny", headers=ADMIN, timeout=TIMEOUT_S)
    loaded = admin.post("/load").json()["models"]
    assert [(each["version"], each["state"]) for each in loaded] == [("1", "ready"), ("2", "ready")]
    expected = predictions(one_process, LOAD)  # the same files
    for version in ("1", "2"):
        answer = httpx.post(f"{ray.url}/v1/models/tiny/versions/{version}/predict", json=LOAD, timeout=TIMEOUT_S)
        assert answer.json()["version"] == version
        assert answer.json()["predictions"] == expected
    assert admin.post("/versions/2/unload").json()["models"][0]["serving"] is False
    admin.close()
    assert httpx.post(f"{ray.url}/v1/models/tiny/versions/2/predict", json=LOAD, timeout=TIMEOUT_S).status_code == 404
    assert predictions(ray.url, LOAD) == expected


def kill_while_it_computes(ray: Cluster, one_process: str) -> None:
    """`kill -9` to a node while four clients ask, frozen just before so that it has parts under way."""
    expected = predictions(one_process, LOAD)
    answers: list[Any] = []
    killed = threading.Event()

    def client() -> None:
        after = 0
        while after < 2:
            began_after = killed.is_set()
            answers.append(predictions(ray.url, LOAD))
            after += began_after

    clients = [threading.Thread(target=client) for _ in range(4)]
    for each in clients:
        each.start()
    while len(answers) < 8 and all(each.is_alive() for each in clients):
        killed.wait(0.05)
    before = replicas(ray)
    ray.nodes[1].freeze()
    killed.wait(1)  # time for more parts to be sent there, and too little for it to be taken for lost
    ray.nodes.pop().kill()
    killed.set()
    for each in clients:
        each.join()
    assert before >= 2
    assert len(answers) >= 8 + 2 * len(clients)
    assert all(answer == expected for answer in answers)


def test_a_node_killed_under_load_costs_no_request_its_answer(ray: Cluster, one_process: str) -> None:
    """All requests are answered, none wrong, and some parts by a second replica.

    Whether a part is under way on the node is for Ray's routing to say, so it may take more than one kill.
    """
    for _ in range(6):
        kill_while_it_computes(ray, one_process)
        if ray.log("asking again for votes of tiny 1"):
            return
        ray.add_node()
        ray.wait_for_replicas(2)
    pytest.fail("no node had a part under way when it was killed")
