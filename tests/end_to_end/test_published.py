"""The models that the repository publishes, served as `make serve` serves them."""

import base64
import io
import json
import shutil
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from noisevote.engine.onnx_engine import OnnxEngine
from noisevote.evaluation.verify import main as verify
from noisevote.model_store.store import ModelStore
from noisevote.noise_op.library import load_kernel
from noisevote.service.settings import Settings
from tests.support.serving import serve

STORE = ModelStore(Settings.model_fields["model_store"].default)
DIGITS = np.load(Path(__file__).parents[1] / "data" / "mnist_digits.npz")
EXAMPLES = Path(__file__).parents[2] / "examples"
PATH = "/v1/models/mnist-cnn/predict"
INPUTS = [(image[np.newaxis] / 255).tolist() for image in DIGITS["images"]]


def test_every_published_file_is_the_one_that_its_manifest_describes() -> None:
    """And is small enough to live in a repository."""
    assert {"mnist-cnn", "stroke-lstm", "cifar10-cnn", "cifar10-densenet40"} <= set(STORE.names())
    for name in STORE.names():
        for version in STORE.versions(name):
            publication = STORE.publication(name, version)
            assert not publication.refusals
            assert all(variant.bytes < 7 * 10**6 for variant in publication.manifest.variants)


async def test_nothing_of_the_store_is_refused(client: httpx.AsyncClient) -> None:
    """Every published variant loads and serves."""
    for model in (await client.get("/v1/models")).json()["models"]:
        assert model["refused"] == {}
        assert model["versions"] == STORE.versions(model["name"])


@pytest.mark.parametrize(("noise", "sigma"), [("multiplicative", 0.0), ("multiplicative", 1.0), ("additive", 0.5)])
async def test_digits_are_recognised_under_noise(client: httpx.AsyncClient, noise: str, sigma: float) -> None:
    """At most one of 64 test digits is missed by 20 votes of the variant that the server chooses."""
    body = {"inputs": INPUTS, "noise": noise, "sigma": sigma, "votes": 20, "seed": 1}
    answer = (await client.post(PATH, json=body)).json()
    decided = np.array([prediction["index"] for prediction in answer["predictions"]])
    assert (decided == DIGITS["labels"]).sum() >= 63


async def test_every_variant_takes_part_in_the_votes(client: httpx.AsyncClient) -> None:
    """By name, each with its own histogram."""
    variants = (await client.get("/v1/models/mnist-cnn")).json()["variants"]
    body = {"inputs": INPUTS[:8], "sigma": 1.0, "votes": 100, "seed": 1}
    histograms = set()
    for variant in variants:
        answer = (await client.post(PATH, json=body | {"variant": variant})).json()
        assert answer["variant"] == variant
        histograms.add(str([prediction["histogram"] for prediction in answer["predictions"]]))
    assert len(histograms) == len(variants)


async def test_the_kernel_and_the_function_body_decide_alike(client: httpx.AsyncClient, tmp_path: Path) -> None:
    """The published file gives the same histograms with the native kernel and in stock ONNX Runtime."""
    assert load_kernel() is not None
    body = {"inputs": INPUTS[:4], "sigma": 0.8, "votes": 10, "seed": 1}
    on_kernel = (await client.post(PATH, json=body)).json()["predictions"]
    newest = f"mnist-cnn/{STORE.versions('mnist-cnn')[-1]}"  # alone, and of it what is asked: the body is slow
    shutil.copytree(STORE.root / newest, tmp_path / newest)
    async with serve(ModelStore(tmp_path), OnnxEngine(None), lazy=True) as stock:
        on_body = (await stock.post(PATH, json=body)).json()["predictions"]
    for one, other in zip(on_kernel, on_body, strict=True):
        assert one["histogram"] == other["histogram"]
        np.testing.assert_allclose(one["mean_probabilities"], other["mean_probabilities"], atol=1e-4)


@pytest.mark.parametrize("sigma", [0.2, 0.6])
async def test_exact_decides_on_digits_as_all_votes_do_with_at_most_60_percent_of_them(
    client: httpx.AsyncClient, sigma: float
) -> None:
    """On each of 64 test digits, 20 votes allowed."""
    body = {"inputs": INPUTS, "sigma": sigma, "votes": 20, "seed": 1}
    whole = (await client.post(PATH, json=body)).json()["predictions"]
    stopped = (await client.post(PATH, json=body | {"stop": {"rule": "exact"}})).json()["predictions"]
    assert [prediction["index"] for prediction in stopped] == [prediction["index"] for prediction in whole]
    assert sum(prediction["votes_used"] for prediction in stopped) <= 0.6 * 20 * len(INPUTS)


@pytest.mark.parametrize(("model", "sigma"), [("cifar10-cnn", 0.2), ("cifar10-cnn", 1.0), ("cifar10-densenet40", 0.2)])
async def test_a_photograph_is_asked_as_png_and_as_numbers(client: httpx.AsyncClient, model: str, sigma: float) -> None:
    """The cat of the examples is a cat, and its pixels as nested numbers get exactly the votes that the PNG gets."""
    png = (EXAMPLES / "cat.png").read_bytes()
    planes = np.asarray(Image.open(io.BytesIO(png))).transpose(2, 0, 1)  # [3, 32, 32] bytes
    inputs = ({"image": base64.b64encode(png).decode()}, (planes / np.float32(255)).tolist())
    body = {"sigma": sigma, "votes": 20, "seed": 1}
    asked = [await client.post(f"/v1/models/{model}/predict", json=body | {"inputs": [each]}) for each in inputs]
    (picture,), (numbers,) = (answer.json()["predictions"] for answer in asked)
    assert picture == numbers
    assert picture["label"] == "cat"


async def test_pen_strokes_are_asked_as_points(client: httpx.AsyncClient) -> None:
    """A seven as the pixels that the pen passed, 30 of them, under full noise."""
    points = json.loads((EXAMPLES / "pen-7.json").read_text())
    body = {"inputs": [points], "sigma": 1.0, "votes": 40, "seed": 1}
    answer = (await client.post("/v1/models/stroke-lstm/predict", json=body)).json()
    assert len(points) == 30
    assert answer["predictions"][0]["label"] == "7"
    assert answer["analog_cost"]["latency_parallel"] == 57


async def test_digits_are_certified_and_the_answer_can_be_verified(
    client: httpx.AsyncClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A radius of 0.5 at sigma 0.5 for nine of ten digits or more, by few of the votes; the published file agrees."""
    body = {"inputs": INPUTS[:10], "variant": "add-0.5", "radius": 0.5, "n": 20_000, "rule": "anytime"}
    response = await client.post("/v1/models/mnist-smoothed/certify", json=body)
    certificates = response.json()["certificates"]
    labelled = zip(certificates, DIGITS["labels"][:10].tolist(), strict=True)
    certified = [(each["index"], label, each["stopped_by"]) for each, label in labelled if each["radius"] >= 0.5]
    assert len(certified) >= 9
    assert all(index == label and end == "radius" for index, label, end in certified)
    (tmp_path / "answer.json").write_text(response.text)
    (tmp_path / "input.json").write_text(json.dumps(body))
    arguments = [str(tmp_path / "answer.json"), "--input", str(tmp_path / "input.json")]
    assert verify([*arguments, "--model-store", str(STORE.root)]) == 0
    assert capsys.readouterr().out.count("as answered") == 10
