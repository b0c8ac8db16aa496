"""From a foreign ONNX file to a published model, an answer and a report: the commands, as they are typed."""

import argparse
import asyncio
import json
from pathlib import Path

import httpx
import numpy as np
import onnx
import onnxruntime
import pytest

from noisevote.evaluation import evaluate, flags, inject, publish, results
from noisevote.evaluation.evaluate import evaluate_model
from noisevote.evaluation.over_http import ServedModel
from noisevote.evaluation.plan import Plan
from noisevote.model_store.store import ModelStore
from tests.support.foreign import CLASSES, SHAPE, network, softmax
from tests.support.serving import serve

pytestmark = pytest.mark.slow

NAMES = tuple(f"class {index}" for index in range(CLASSES))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with a foreign model, its classes, and examples that it tells right."""
    onnx.save(softmax(), tmp_path / "model.onnx")
    (tmp_path / "classes.txt").write_text("\n".join(NAMES) + "\n")
    inputs = np.random.default_rng(0).random((60, *SHAPE)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    labels = session.run(None, {"x": inputs})[0].argmax(axis=1)
    np.savez(tmp_path / "data.npz", inputs=inputs, labels=labels)
    return tmp_path


def injected(files: Path, *flags: str) -> int:
    return inject.main([str(files / "model.onnx"), "-o", str(files / "noisy.onnx"), *flags])


def published(files: Path, *flags: str) -> int:
    names = ["--name", "foreign", "--classes", str(files / "classes.txt"), "--model-store", str(files / "store")]
    return publish.main([str(files / "noisy.onnx"), *names, *flags])


MEASURE = ("--sigma", "0:0.5:0.25", "--votes", "1,3")


async def test_a_foreign_file_is_published_served_and_measured(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two commands; then it answers, `auto` knows its table, and its sites have their layers' names."""
    assert injected(files, "--digital", "first", "--sigma-scale", "head=0.5") == 0
    assert "2 of 3 products have noise" in capsys.readouterr().out
    assert published(files, "--data", str(files / "data.npz"), "--report", str(files / "report"), *MEASURE) == 0
    told = capsys.readouterr().out
    assert "On 32 of your examples" in told
    assert "sigma 0: 100.00% with 3 votes" in told
    store = ModelStore(files / "store")
    (variant,) = store.manifest("foreign").variants
    assert variant.provenance is None
    assert [(site.layer, site.sigma_scale) for site in variant.sites] == [("body", 1.0), ("head", 0.5)]
    assert [(each.layer, each.reason) for each in variant.digital] == [("stem", "asked for by 'first'")]
    assert variant.cut_off == "softmax"
    assert {(point.sigma, point.votes) for point in variant.accuracy} == {
        (sigma, votes) for sigma in (0.0, 0.25, 0.5) for votes in (1, 3)
    }
    async with serve(store) as client:
        inputs = np.load(files / "data.npz")["inputs"][:2].tolist()
        answer = (await client.post("/v1/models/foreign/predict", json={"inputs": inputs, "seed": 1})).json()
    assert [each["index"] for each in answer["predictions"]] == np.load(files / "data.npz")["labels"][:2].tolist()
    assert sorted(each.suffix for each in (files / "report").iterdir()).count(".png") == 4


@pytest.mark.slow
def test_evaluating_goes_on_where_it_ended(files: Path) -> None:
    """Three lines of Python; what is there is not measured again, and the tables may become the next version's."""
    assert injected(files) == 0
    assert published(files) == 0
    store, report = files / "store", files / "report"
    plan = Plan(("multiplicative",), (0.0, 0.4), 4, seed=3, counts=(1, 4), reads=(1, 4))
    first = evaluate_model("foreign", files / "data.npz", report, plan=plan, store=store)["mul-0.0"]
    assert [(cell.sigma, cell.reads, len(cell.measured)) for cell in first.cells] == [
        (0, 1, 1),
        (0.4, 1, 2),
        (0.4, 4, 2),
    ]
    again = evaluate_model("foreign", files / "data.npz", report, plan=plan, store=store)["mul-0.0"]
    assert again == first
    flags = ["--votes", "1,4", "--reads", "1,4", "--sigma", "0,0.4", "--seed", "3", "--publish", "--per-site", "0.4"]
    place = ["--data", str(files / "data.npz"), "-o", str(report), "--model-store", str(store)]
    assert evaluate.main(["foreign", *place, *flags]) == 0
    (variant,) = ModelStore(store).manifest("foreign", "2").variants
    assert {(point.sigma, point.reads) for point in variant.accuracy} == {(0.0, 1), (0.4, 1), (0.4, 4)}
    sites = json.loads((report / "mul-0.0-sites.json").read_bytes())
    assert [each["layer"] for each in sites["sites"]] == ["stem", "body", "head"]
    assert sites["quiet"] == 1.0
    assert all(sites["noisy"] - 0.2 < each["alone"] <= 1 for each in sites["sites"])


@pytest.mark.slow
async def test_a_server_gives_the_accuracies_of_its_file(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Same seed, same votes: what a client measures over HTTP is what as many votes in process give."""
    assert injected(files) == 0
    assert published(files) == 0
    store, data = ModelStore(files / "store"), files / "data.npz"
    asked = ["foreign", "--sigma", "0,0.5", "--votes", "1,3", "--data", str(data), "-o", str(files / "served")]
    async with serve(store) as client:
        bridge = Bridge(client, asyncio.get_running_loop())
        monkeypatch.setattr(ServedModel, "_client", lambda _: httpx.Client(base_url="http://tiny", transport=bridge))
        assert await asyncio.to_thread(evaluate.main, [*asked, "--server", "http://tiny"]) == 0
    served = results.read(files / "served" / "auto-served.json")
    plan = Plan(("multiplicative",), (0.0, 0.5), 3, seed=0, counts=(3,))
    own = evaluate_model("foreign", data, files / "own", plan=plan, store=store.root)["mul-0.0"]
    assert served.cells[1].measured[-1].accuracy == own.cells[1].measured[-1].accuracy
    assert served.cells[0].measured[0].accuracy == 1.0
    assert (files / "served" / "auto-served-multiplicative-confusion.png").exists()


class Bridge(httpx.BaseTransport):
    """Requests of another thread, asked by a client on the loop."""

    def __init__(self, client: httpx.AsyncClient, loop: asyncio.AbstractEventLoop) -> None:
        self._client = client
        self._loop = loop

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        asked = self._client.request(request.method, request.url.path, content=request.read(), headers=request.headers)
        found = asyncio.run_coroutine_threadsafe(asked, self._loop).result(30)
        return httpx.Response(found.status_code, content=found.content, headers={"content-type": "application/json"})


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["--classes", "few.txt"], "data.npz: label 4 of 2 classes"),
        (["--value-range", "0", "255"], "refused: value range: the examples span 0.99"),
        (["--mean", "0.5"], "numbers in mean, 0 in std"),
        (["--source", "other.onnx"], "other.onnx: is not the file that noise was put into"),
        (["--classes", "gap.txt"], "line 2 of"),
        (["--name", "No Name"], "name: String should match"),
    ],
)
def test_what_cannot_be_published_is_refused(
    files: Path, command: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the number and the place, and nothing is written."""
    (files / "few.txt").write_text("a\nb\n")
    (files / "gap.txt").write_text("a\n\nb\n")
    onnx.save(network(), files / "other.onnx")
    assert injected(files) == 0
    given = [str(files / each) if each.endswith((".txt", ".onnx")) else each for each in command]
    assert published(files, *given, "--data", str(files / "data.npz"), *MEASURE) > 0
    assert message in capsys.readouterr().err
    assert not list(files.glob("store/*"))


def test_what_cannot_be_injected_is_one_line(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 1, the node and the reason; flags that are none: status 2."""
    assert injected(files, "--digital", "nothing") == 1
    assert "'nothing' matches no layer" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        injected(files, "--sigma-scale", "head=0")
    assert ended.value.code == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0:1:0.25", (0, 0.25, 0.5, 0.75, 1)), ("0.3,0", (0, 0.3)), ("0:1:0.3", (0, 0.3, 0.6, 0.9)), ("2:2:1", (2,))],
)
def test_sigmas_are_read(text: str, expected: tuple[float, ...]) -> None:
    """Both ends count, decimals are exact."""
    assert flags.sigmas(text) == expected


@pytest.mark.parametrize("text", ["", "1:0:0.1", "0:1:0", "0:1", "a", "-1", "11", "nan", "0:1:1e-9"])
def test_sigmas_that_are_none_are_refused(text: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(argparse.ArgumentTypeError, match="is not like"):
        flags.sigmas(text)
