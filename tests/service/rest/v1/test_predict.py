import base64
import re
from typing import Any

import httpx
import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from scipy import special

from noisevote.model_store.store import ModelStore
from noisevote.noise_op.library import Kernel, load_kernel
from noisevote.service.rest.v1.answer_schemas import PredictResponse
from noisevote.service.rest.v1.schemas import DIGIT_7
from tests.support.engines import FakeEngine
from tests.support.graphs import CLASSES, SHAPE, tiny_network
from tests.support.serving import publish_tiny, serve

PATH = "/v1/models/tiny/predict"
RNG = np.random.default_rng(1)
INPUTS = (RNG.integers(0, 256, (3, *SHAPE)) / 255).astype(np.float32)


async def predict(client: httpx.AsyncClient, path: str = PATH, **body: Any) -> dict[str, Any]:
    """The answer to a request that must succeed; by default three inputs."""
    response = await client.post(path, json={"inputs": INPUTS.tolist()} | body)
    assert response.status_code == 200, response.text
    PredictResponse.model_validate_json(response.content)
    return dict(response.json())


def histograms(answer: dict[str, Any]) -> list[list[int]]:
    """Histogram of each input."""
    return [prediction["histogram"] for prediction in answer["predictions"]]


def single_votes(network: int, image: NDArray[np.float32], sigma: float, seed: int, votes: int) -> NDArray[np.float32]:
    """Logits of one input's votes, each by a run of its own in a plain ONNX Runtime session."""
    options = onnxruntime.SessionOptions()
    kernel = load_kernel()
    assert isinstance(kernel, Kernel)
    kernel.register(options)
    session = onnxruntime.InferenceSession(tiny_network(network), options, providers=["CPUExecutionProvider"])
    rows = []
    for vote in range(votes):
        feeds = {
            "input": image[np.newaxis],
            "sigma": np.array([[sigma, 0]], np.float32),
            "seed": np.array([seed]),
            "vote": np.array([vote]),
            "row": np.array([0]),
        }
        rows.append(session.run(["logits"], feeds)[0][0])
    return np.array(rows)


async def test_an_answer_is_the_vote_of_independent_runs(client: httpx.AsyncClient) -> None:
    """Input i's histogram and mean probabilities are those of votes 0 … 19 run one by one with seed + i."""
    answer = await predict(client, sigma=0.5, seed=7, variant="mul-0.8", votes=20)
    for i, prediction in enumerate(answer["predictions"]):
        logits = single_votes(1, INPUTS[i], 0.5, 7 + i, 20)
        assert prediction["histogram"] == np.bincount(logits.argmax(axis=1), minlength=CLASSES).tolist()
        means = special.softmax(logits.astype(np.float64), axis=1).mean(axis=0)
        np.testing.assert_allclose(prediction["mean_probabilities"], means, rtol=1e-6)
        assert prediction["index"] == int(np.argmax(prediction["histogram"]))
        assert prediction["label"] == f"class {prediction['index']}"
        assert prediction["votes_used"] == 20


async def test_everything_but_the_inputs_has_a_default(client: httpx.AsyncClient) -> None:
    """No noise, 20 votes, one read, a drawn seed, the variant that is best without noise."""
    answer = await predict(client)
    assert (answer["sigma"], answer["noise"], answer["votes"], answer["reads"]) == (0.0, "multiplicative", 20, 1)
    assert (answer["model"], answer["version"], answer["variant"]) == ("tiny", "1", "mul-0.0")
    for prediction in answer["predictions"]:
        assert prediction["vote_share"] == 1.0
        assert prediction["lower_bound"] == pytest.approx(0.05**0.05)
        assert not prediction["abstain"]
        assert prediction["complete"]
    assert set(answer["timing_ms"]) == {"queue", "compute", "total"}


async def test_a_drawn_seed_is_returned_and_repeats_the_answer(client: httpx.AsyncClient) -> None:
    """Two requests without a seed differ; each can be repeated with the seed that it was given."""
    first, second = [await predict(client, sigma=0.8, votes=50) for _ in range(2)]
    assert first["seed"] != second["seed"]
    for answer in (first, second):
        again = await predict(client, sigma=0.8, votes=50, seed=answer["seed"])
        assert again["predictions"] == answer["predictions"]


@pytest.mark.parametrize("seed", [0, 2**63 - 1, 2**64 - 2])
async def test_a_request_can_be_split_by_input(client: httpx.AsyncClient, seed: int) -> None:
    """Input i draws with seed + i modulo 2⁶⁴, so three requests of one input give what one of three gives."""
    together = await predict(client, sigma=0.8, seed=seed)
    for i in range(3):
        alone = await predict(client, inputs=INPUTS[i : i + 1].tolist(), sigma=0.8, seed=(seed + i) % 2**64)
        assert alone["predictions"][0] == together["predictions"][i]
    assert together["seed"] == seed


@pytest.mark.parametrize("cut", [1, 13, 19])
async def test_a_request_can_be_split_by_votes(client: httpx.AsyncClient, cut: int) -> None:
    """Two requests, the second from vote `cut` on, have histograms that add up to the whole one's."""
    whole = await predict(client, sigma=0.8, seed=5, votes=20, variant="mul-0.8")
    parts = [
        await predict(client, sigma=0.8, seed=5, votes=votes, first_vote=first, variant="mul-0.8")
        for first, votes in ((0, cut), (cut, 20 - cut))
    ]
    added = np.array(histograms(parts[0])) + np.array(histograms(parts[1]))
    assert added.tolist() == histograms(whole)
    assert histograms(parts[1]) != histograms(await predict(client, sigma=0.8, seed=5, votes=20 - cut))
    for i, prediction in enumerate(whole["predictions"]):
        shares = [np.array(part["predictions"][i]["mean_probabilities"]) * part["votes"] / 20 for part in parts]
        np.testing.assert_allclose(sum(shares), prediction["mean_probabilities"], rtol=0, atol=1e-12)


async def test_all_forms_of_an_input_are_the_same_input(client: httpx.AsyncClient) -> None:
    """Nested numbers, bytes of either type: one histogram."""
    raw = np.rint(INPUTS * 255).astype(np.uint8)
    forms = [
        INPUTS.tolist(),
        [{"b64": base64.b64encode(image.tobytes()).decode(), "dtype": "float32"} for image in INPUTS],
        [{"b64": base64.b64encode(image.tobytes()).decode(), "dtype": "uint8"} for image in raw],
    ]
    answers = [await predict(client, inputs=form, sigma=0.5, seed=3) for form in forms]
    assert answers[0]["predictions"] == answers[1]["predictions"] == answers[2]["predictions"]


async def test_sigma_may_be_given_as_snr_db(client: httpx.AsyncClient) -> None:
    """−20·log10(0.1) = 20 dB."""
    by_ratio = await predict(client, snr_db=20.0, seed=1)
    by_sigma = await predict(client, sigma=0.1, seed=1)
    assert by_ratio["sigma"] == pytest.approx(0.1)
    assert by_ratio["predictions"] == by_sigma["predictions"]


async def test_reads_are_exactly_less_noise(client: httpx.AsyncClient) -> None:
    """4 reads at sigma 1 are one read at sigma 0.5, vote for vote."""
    averaged = await predict(client, sigma=1.0, reads=4, seed=5)
    assert averaged["predictions"] == (await predict(client, sigma=0.5, seed=5))["predictions"]
    assert (averaged["sigma"], averaged["reads"]) == (1.0, 4)


async def test_the_two_noise_kinds_differ(client: httpx.AsyncClient) -> None:
    """The noise kind reaches the operator."""
    kinds = [
        await predict(client, sigma=1.0, seed=5, variant="mul-0.8", noise=k) for k in ("additive", "multiplicative")
    ]
    assert histograms(kinds[0]) != histograms(kinds[1])


async def test_auto_takes_the_variant_that_is_best_for_the_noise(client: httpx.AsyncClient) -> None:
    """By the manifest's table; a name takes that variant whatever the table says."""
    assert (await predict(client, sigma=0.0))["variant"] == "mul-0.0"
    assert (await predict(client, sigma=0.9))["variant"] == "mul-0.8"
    assert (await predict(client, sigma=0.9, noise="additive"))["variant"] == "mul-0.8"
    assert (await predict(client, sigma=0.9, variant="mul-0.0"))["variant"] == "mul-0.0"


async def test_analog_cost_counts_layer_times(client: httpx.AsyncClient) -> None:
    """V = 20 votes, R = 3 reads, L = 2 layers: V·R·L, V·R·L, V·R + L − 1 and L."""
    answer = await predict(client, votes=20, reads=3)
    assert answer["analog_cost"] == {
        "products": 120,
        "latency_sequential": 120,
        "latency_pipelined": 61,
        "latency_parallel": 2,
    }


async def test_alpha_moves_bound_and_abstention(client: httpx.AsyncClient) -> None:
    """More permitted error, a higher bound and less abstaining; the votes stay."""
    answers = [await predict(client, sigma=0.8, seed=11, alpha=alpha) for alpha in (0.001, 0.5)]
    assert histograms(answers[0]) == histograms(answers[1])
    for careful, bold in zip(answers[0]["predictions"], answers[1]["predictions"], strict=True):
        assert careful["lower_bound"] < bold["lower_bound"]
        assert careful["abstain"] >= bold["abstain"]


async def test_versions_are_served_side_by_side(store: ModelStore) -> None:
    """The newest by default, any by its number."""
    publish_tiny(store, "10")
    publish_tiny(store, "9")
    async with serve(store) as client:
        assert (await predict(client))["version"] == "10"
        for version in ("1", "9", "10"):
            answer = await predict(client, f"/v1/models/tiny/versions/{version}/predict", sigma=0.5, seed=1)
            assert answer["version"] == version


async def test_a_long_body_is_answered_like_a_short_one(client: httpx.AsyncClient) -> None:
    """Decoding on another thread changes nothing."""
    many = np.tile(INPUTS, (60, 1, 1, 1))
    answer = await predict(client, inputs=many.tolist(), sigma=0.5, seed=2, votes=2)
    short = await predict(client, sigma=0.5, seed=2, votes=2)
    assert answer["predictions"][:3] == short["predictions"]
    assert len(answer["predictions"]) == 180


async def test_the_documented_example_works(store: ModelStore) -> None:
    """What /docs shows as a request is answered, by a model of the digits' shape."""
    publish_tiny(store, shape=(1, 28, 28), name="digits")
    async with serve(store) as client:
        schema = (await client.get("/openapi.json")).json()["components"]["schemas"]["PredictRequest"]
        (example,) = schema["examples"]
        assert example["inputs"] == [{"image": DIGIT_7}]
        answer = await predict(client, "/v1/models/digits/predict", **example)
    assert answer["seed"] == example["seed"]


async def test_the_documentation_resolves(client: httpx.AsyncClient) -> None:
    """Every reference of /openapi.json leads somewhere, and /docs loads nothing from other hosts."""
    document = await client.get("/openapi.json")
    schemas = document.json()["components"]["schemas"]
    for part in document.text.split('"$ref":"')[1:]:
        reference = part.partition('"')[0]
        assert reference.removeprefix("#/components/schemas/") in schemas
    page = (await client.get("/docs")).text
    assert "//" not in page.replace("</script>", "").replace("<!-- ", "")
    for address in re.findall(r'(?:src|href)="([^"]+)"', page):
        assert (await client.get(address)).status_code == 200


async def test_exact_gives_the_decisions_of_the_whole_budget_with_fewer_votes(client: httpx.AsyncClient) -> None:
    """Its votes are the first ones of the whole budget's, and the analog cost is that of the votes used."""
    body: dict[str, Any] = {"sigma": 0.8, "votes": 41, "seed": 3, "variant": "mul-0.8"}
    whole = await predict(client, **body)
    stopped = await predict(client, **body, stop={"rule": "exact"})
    used = [prediction["votes_used"] for prediction in stopped["predictions"]]
    assert min(used) < 41
    assert max(used) <= 41
    for early, late in zip(stopped["predictions"], whole["predictions"], strict=True):
        assert early["index"] == late["index"]
        assert sum(early["histogram"]) == early["votes_used"]
        assert all(np.array(early["histogram"]) <= late["histogram"])
        assert early["complete"]
    assert stopped["analog_cost"]["products"] == max(used) * whole["analog_cost"]["products"] // 41
    assert stopped["votes"] == 41


async def test_confidence_stops_by_its_delta(client: httpx.AsyncClient) -> None:
    """Without noise all votes agree: with ten classes and n votes to none, 2^n/(n + 1) ≥ 9/delta needs 12 and 18."""
    loose = await predict(client, votes=50, stop={"rule": "confidence"})
    strict = await predict(client, votes=50, stop={"rule": "confidence", "delta": 0.0007})
    assert {prediction["votes_used"] for prediction in loose["predictions"]} == {12}
    assert {prediction["votes_used"] for prediction in strict["predictions"]} == {18}
    short = await predict(client, votes=5, stop={"rule": "confidence"})
    assert {prediction["votes_used"] for prediction in short["predictions"]} == {5}


async def test_a_deadline_without_a_vote_is_answered_504(store: ModelStore) -> None:
    """The engine does not get to it in time; the error says so, and the deadline does not hold up the server."""
    engine = FakeEngine(CLASSES)
    async with serve(store, engine) as client:
        engine.may_run.clear()
        response = await client.post(PATH, json={"inputs": INPUTS.tolist(), "deadline_ms": 20})
        engine.may_run.set()
        assert response.status_code == 504
        assert response.json()["error"]["code"] == "deadline_exceeded"
        await predict(client, deadline_ms=60_000)
