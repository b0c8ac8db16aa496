"""`top_k`: the leading classes alone, where there are too many to name them all."""

from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisevote.model_store.store import ModelStore
from noisevote.service.prediction.top_classes import top_classes
from noisevote.voting.decision import leaders
from noisevote.voting.tally import Tally
from tests.support.graphs import SHAPE
from tests.support.serving import publish_tiny, serve

PATH = "/v1/models/tiny/predict"
ASKED = {"inputs": np.random.default_rng(0).random((2, *SHAPE)).tolist(), "sigma": 2.0, "votes": 40, "seed": 3}
HIDDEN = {"histogram", "mean_probabilities"}


@given(st.lists(st.lists(st.integers(0, 2), min_size=6, max_size=6), min_size=1, max_size=4), st.integers(1, 8))
def test_the_order_is_that_of_the_decision(rows: list[list[int]], count: int) -> None:
    """Votes, then mean probability, then index, as Python's sort has it; the first is what is decided."""
    histogram = np.array(rows, np.int64)
    tally = Tally(histogram, histogram[:, ::-1].copy() % 2)
    found = top_classes(tally, count)
    for row, (votes, sums) in enumerate(zip(histogram.tolist(), tally.probabilities.tolist(), strict=True)):
        ordered = sorted(range(6), key=lambda index: (-votes[index], -sums[index], index))
        assert found[row].tolist() == ordered[:count]
    assert found[:, 0].tolist() == leaders(tally).tolist()


@pytest.fixture
async def client(tmp_path: Any) -> Any:
    store = ModelStore(tmp_path)
    publish_tiny(store)
    async with serve(store) as found:
        yield found


async def test_leading_classes_stand_for_all(client: httpx.AsyncClient) -> None:
    """Votes and mean probabilities of the leaders are those of the full answer; the rest of it is the same."""
    whole = (await client.post(PATH, json=ASKED)).json()["predictions"]
    short = (await client.post(PATH, json=ASKED | {"top_k": 3})).json()["predictions"]
    for full, top in zip(whole, short, strict=True):
        assert {key: top[key] for key in top if key != "top"} == {key: full[key] for key in full if key not in HIDDEN}
        assert [each["votes"] for each in top["top"]] == sorted(full["histogram"], reverse=True)[:3]
        for each in top["top"]:
            assert each["votes"] == full["histogram"][each["index"]]
            assert each["mean_probability"] == full["mean_probabilities"][each["index"]]
            assert each["label"] == f"class {each['index']}"
    many = (await client.post(PATH, json=ASKED | {"top_k": 99, "return": "histogram"})).json()["predictions"]
    assert [len(each["top"]) for each in many] == [10, 10]
    assert "mean_probability" not in many[0]["top"][0]


async def test_streams_show_them_too(client: httpx.AsyncClient) -> None:
    """In every event."""
    answer = await client.post(f"{PATH}/stream", json=ASKED | {"top_k": 2})
    assert answer.text.count('"top":[') >= 2
    assert "histogram" not in answer.text


@pytest.mark.parametrize("change", [{"top_k": 0}, {"top_k": 2, "return": "label"},
                                    {"top_k": 2, "return": "votes"}, {"preprocess": True}])  # fmt: skip
async def test_what_makes_no_sense_is_refused(client: httpx.AsyncClient, change: dict[str, Any]) -> None:
    """Naming the key."""
    answer = await client.post(PATH, json=ASKED | change)
    assert answer.status_code == 422
    assert next(iter(change)) in answer.json()["error"]["message"]
