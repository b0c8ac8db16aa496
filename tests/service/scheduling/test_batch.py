import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from noisevote.engine.session_key import SessionKey
from noisevote.service.scheduling.batch import Batch, Share
from noisevote.service.scheduling.request import VoteRequest
from noisevote.voting.stopping import Fixed

KEY = SessionKey("tiny", "1", "mul-0.8")


def request(inputs: int, seed: int = 0, sigma: tuple[float, float] = (0.5, 0.0)) -> VoteRequest:
    """A request whose input i is filled with i."""
    values = np.repeat(np.arange(inputs, dtype=np.float32)[:, np.newaxis], 2, axis=1)
    return VoteRequest(KEY, values, 3, sigma, seed, 4, Fixed())


def share(owner: VoteRequest, inputs: list[int], votes: list[int]) -> Share:
    """Rows of a request."""
    return Share(owner, np.array(inputs), np.array(votes))


def test_an_input_of_several_rows_is_there_once() -> None:
    """The part of the network before the first noise runs once per input: `row` fans it out."""
    feeds = Batch(KEY, (share(request(5), [1, 1, 1, 4], [0, 1, 2, 0]),)).feeds()
    assert feeds.input.tolist() == [[1, 1], [4, 4]]
    assert feeds.row.tolist() == [0, 0, 0, 1]
    assert feeds.vote.tolist() == [0, 1, 2, 0]


def test_every_row_keeps_its_own_request() -> None:
    """Sigma, kind, seed, vote and input of each row are those of its own request."""
    first, second = request(2, seed=7, sigma=(0.5, 0.0)), request(3, seed=100, sigma=(0.0, 0.25))
    batch = Batch(KEY, (share(first, [1], [3]), share(second, [0, 2], [1, 1])))
    feeds = batch.feeds()
    assert len(batch) == 3
    assert feeds.sigma.tolist() == [[0.5, 0.0], [0.0, 0.25], [0.0, 0.25]]
    assert feeds.seed.tolist() == [8, 100, 102]
    assert feeds.input[feeds.row].tolist() == [[1, 1], [0, 0], [2, 2]]
    assert {name: str(array.dtype) for name, array in feeds.as_dict().items()} == {
        "input": "float32",
        "sigma": "float32",
        "seed": "int64",
        "vote": "int64",
        "row": "int64",
    }


@given(
    st.lists(st.tuples(st.integers(1, 3), st.lists(st.integers(0, 2), min_size=1, max_size=5)), min_size=2, max_size=4)
)
def test_requests_are_the_same_alone_and_in_company(asked: list[tuple[int, list[int]]]) -> None:
    """The arrays of a batch are those of each of its requests by itself, one after another."""
    shares = [share(request(3, seed, (seed / 4, 0.0)), inputs, list(range(len(inputs)))) for seed, inputs in asked]
    whole, alone = Batch(KEY, tuple(shares)).feeds(), [Batch(KEY, (each,)).feeds() for each in shares]
    np.testing.assert_array_equal(whole.input[whole.row], np.concatenate([each.input[each.row] for each in alone]))
    assert len(whole.input) == sum(len(each.input) for each in alone)
    for name in ("sigma", "seed", "vote"):
        np.testing.assert_array_equal(getattr(whole, name), np.concatenate([getattr(each, name) for each in alone]))


def test_seeds_count_on_modulo_2_to_the_64() -> None:
    """Input i draws with seed + i, across the sign bit and across the end."""
    for seed in (2**63 - 1, 2**64 - 2):
        feeds = Batch(KEY, (share(request(4, seed=seed), [0, 1, 2, 3], [0, 0, 0, 0]),)).feeds()
        assert [int(key) % 2**64 for key in feeds.seed] == [(seed + i) % 2**64 for i in range(4)]
