"""What the page computes itself, held against Python: how a drawing is prepared, kept in an address, and counted."""

import string
from typing import Any

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

from noisevote.service.prediction.policy import Policy
from noisevote.service.rest.v1.parse import parse
from noisevote.service.settings import Settings
from noisevote.voting.bounds import binomial_p, clopper_pearson
from tests.support.digits import stored_digits, stored_strokes
from tests.support.node import call, missing

WHY = missing()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(WHY is not None, reason=str(WHY))]

Strokes = list[list[list[float]]]
LETTERS = string.ascii_letters + string.digits + "-_"
SURFACE, SIDE, SPAN, CENTRE, PEN, EDGE = 256, 28, 17, 14, 2.3, 1.3
CHANCE = np.random.default_rng(20)


def drawing() -> Strokes:
    """One to five strokes of one to thirty points, over all of the surface or a small part of it."""
    side = CHANCE.integers(1, SURFACE + 1)
    corner = CHANCE.integers(0, SURFACE - side + 1, size=2)
    sizes = CHANCE.integers(1, 31, size=CHANCE.integers(1, 6))
    return [(corner + CHANCE.integers(0, side, size=(size, 2))).tolist() for size in sizes]


DRAWINGS: list[Strokes] = [
    [[[0, 0]]],
    [[[255, 255], [255, 255]]],
    [[[3, 7]], [[250, 9]]],
    *(drawing() for _ in range(60)),
]


def drawn(points: NDArray[np.float32]) -> Strokes:
    """A stored digit as it is drawn on the surface, the pen lifted where it jumps."""
    cuts = np.flatnonzero(np.abs(np.diff(points, axis=0)).max(axis=1) > 1) + 1
    return [np.rint((part + 0.5) * SURFACE / SIDE).astype(int).tolist() for part in np.split(points, cuts)]


def inked(strokes: Strokes) -> NDArray[np.float64]:
    """Ink of each pixel by its distance from the pen's path, plainly."""
    y, x = np.mgrid[:SIDE, :SIDE]
    distance = np.full((SIDE, SIDE), np.inf)
    for stroke in strokes:
        path = np.array(stroke)
        for (ax, ay), (bx, by) in zip(path[: max(1, len(path) - 1)], path[min(1, len(path) - 1) :], strict=True):
            length = (bx - ax) ** 2 + (by - ay) ** 2
            along = np.clip(((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / length, 0, 1) if length else 0 * x
            distance = np.minimum(distance, np.hypot(x - ax - along * (bx - ax), y - ay - along * (by - ay)))
    return np.clip(((PEN + EDGE) / 2 - distance) / EDGE, 0, 1)


def placed(strokes: Strokes) -> Strokes:
    """Scaled by its longer side, then moved so that the ink's centre of mass is MNIST's."""
    low, high = (
        getattr(np, edge)(np.concatenate([np.array(each) for each in strokes]), axis=0) for edge in ("min", "max")
    )
    scale = SPAN / max(*(high - low), SURFACE / 8)
    centred = [(np.array(each) - (low + high) / 2) * scale + CENTRE for each in strokes]
    ink = inked([each.tolist() for each in centred])
    y, x = np.mgrid[:SIDE, :SIDE]
    mass = np.array([(ink * x).sum(), (ink * y).sum()]) / ink.sum() if ink.sum() > 0 else np.full(2, CENTRE)
    return [(each - mass + CENTRE).tolist() for each in centred]


def test_drawings_are_placed_and_inked_as_defined() -> None:
    """Against the slow and plain definition, any strokes: points to a millionth of a pixel, gray to one level."""
    found = call(*(("mnist.js", "placed", each, SURFACE) for each in DRAWINGS))
    expected = [placed(each) for each in DRAWINGS]
    images = call(*(("mnist.js", "image", each) for each in expected))
    for drawing, other, pixels in zip(found, expected, images, strict=True):
        for one, another in zip(drawing, other, strict=True):
            np.testing.assert_allclose(one, another, atol=1e-6)
        assert np.abs(np.array(pixels) - np.rint(255 * inked(other)).ravel()).max() <= 1


def test_redrawn_digits_are_the_stored_ones() -> None:
    """The pen strokes of MNIST digits, drawn: points near the stored ones, and ink on the image's."""
    strokes = [drawn(points) for points in stored_strokes().inputs]
    placements = call(*(("mnist.js", "placed", each, SURFACE) for each in strokes))
    points = call(*(("mnist.js", "penPoints", each) for each in placements))
    images = call(*(("mnist.js", "image", each) for each in placements))
    stored = [np.array(each) for each in stored_strokes().inputs]
    apart = [nearest(np.array(each), other) for each, other in zip(points, stored, strict=True)]
    assert np.mean(apart) < 1
    assert np.max(apart) < 2.5
    for each, other in zip(points, stored, strict=True):
        assert np.abs(np.array(each[0]) - other[0]).max() <= 2
    overlap = [
        np.corrcoef(np.array(image), digit.ravel())[0, 1]
        for image, digit in zip(images, stored_digits().inputs, strict=True)
    ]
    assert np.mean(overlap) > 0.8


def nearest(points: NDArray[np.int64], others: NDArray[np.float32]) -> float:
    """Mean distance from points to the nearest of others, in pixels."""
    distances = np.hypot(*(points[:, None, :] - others[None, :, :]).transpose(2, 0, 1))
    return float(distances.min(axis=1).mean())


def test_pen_points_are_neighbours_within_a_stroke() -> None:
    """None is twice in a row, and there are at most as many jumps as lifts of the pen."""
    found = call(*(("mnist.js", "penPoints", placed(each)) for each in DRAWINGS))
    for points, drawing in zip(found, DRAWINGS, strict=True):
        moves = np.abs(np.diff(np.array(points), axis=0)).max(axis=1) if len(points) > 1 else np.array([1])
        assert moves.min() >= 1
        assert (moves > 1).sum() < max(1, len(drawing))
        assert 0 <= np.min(points) <= np.max(points) < SIDE


def test_a_drawing_survives_the_address() -> None:
    """Point for point, in letters that an address keeps as they are."""
    texts = call(*(("codec.js", "encodeStrokes", each) for each in DRAWINGS))
    assert set("".join(texts)) <= set(LETTERS)
    assert call(*(("codec.js", "decodeStrokes", text) for text in texts)) == DRAWINGS


def test_other_texts_are_no_drawing_or_a_bounded_one() -> None:
    """Whatever an address says: null, or points of the surface."""
    texts = [
        text[:place] + str(CHANCE.choice(list(LETTERS + "!"))) + text[place + 1 :]
        for text in call(*(("codec.js", "encodeStrokes", each) for each in DRAWINGS))
        for place in CHANCE.integers(0, len(text), size=8).tolist()
    ]
    found = call(*(("codec.js", "decodeStrokes", text) for text in texts))
    assert 0 < sum(each is None for each in found) < len(found)
    values = [value for strokes in found for stroke in strokes or [] for point in stroke for value in point]
    assert 0 <= min(values) <= max(values) < SURFACE


def test_a_longer_drawing_than_can_be_drawn_is_refused() -> None:
    """By its points and by its strokes."""
    points = [[[1, 1]] * 1501]
    strokes = [[[1, 1]]] * 65
    texts = call(("codec.js", "encodeStrokes", points), ("codec.js", "encodeStrokes", strokes))
    assert call(*(("codec.js", "decodeStrokes", text) for text in texts)) == [None, None]


def test_settings_survive_the_address() -> None:
    """Each of them, whatever the input is; what an address does not say is the default."""
    settings = {
        "model": "mnist-cnn", "variant": "mul-0.8", "resolved": ["3:mul-0.0", "3:mul-0.8", "1:mul-0.6"], "sigma": 0.37,
        "noise": "additive", "votes": 150, "reads": 4, "seed": 2**53 - 1, "stop": "exact",
    }  # fmt: skip
    inputs = [
        {"kind": "none"},
        {"kind": "example", "id": "mnist-38"},
        {"kind": "strokes", "strokes": [[[1, 2], [200, 255]], [[0, 0]]]},
    ]
    fragments = call(*(("state.js", "toFragment", {**settings, "input": each}) for each in inputs))
    found = call(*(("state.js", "fromFragment", f"#{text}") for text in fragments))
    assert found == [{**settings, "input": each} for each in inputs]
    (usual,) = call(("state.js", "fromFragment", ""))
    assert (usual["sigma"], usual["votes"], usual["variant"], usual["input"]["kind"]) == (0.9, 20, "auto", "example")


def test_events_are_the_same_however_they_are_cut() -> None:
    """Between any two letters, with comments between them and lines that end as they like."""
    text = 'event: votes\r\ndata: {"a": 1}\r\n\r\n: quiet\n\nevent: answer\ndata: {"b":\ndata:  "ü"}\n\n'
    expected = [{"event": "votes", "data": {"a": 1}}, {"event": "answer", "data": {"b": "ü"}}]
    cuts = [(text[:place], text[place:]) for place in range(len(text) + 1)] + [tuple(text)]
    for pieces in call(*(("stream.js", "EventParser.read", *each) for each in cuts)):
        assert [event for piece in pieces for event in piece] == expected


SETTINGS = {"sigma": 0.5, "noise": "additive", "votes": 9, "reads": 1, "seed": 7, "stop": "fixed", "variant": "auto"}
ASKED = {**SETTINGS, "inputs": [1], "stop": {"rule": "fixed"}}
HARDENED = {"sigma": {"fixed": 0.4}, "noise": {"fixed": "multiplicative"}, "votes": {"fixed": 5}}
LOOSE = {
    "sigma": {"least": 0.3, "most": 0.6, "default": 0.5}, "noise": {"one_of": ["multiplicative"]}, "seed": "free",
    "votes": {"most": 20}, "reads": "free", "return": {"one_of": ["histogram"], "default": "histogram"}, "stop": "free",
}  # fmt: skip


def lane(predict: dict[str, Any] | None) -> dict[str, Any]:
    """A lane whose model has these rules; None: no policy."""
    return {"model": "m", "version": "3", "variant": "auto", "policy": policy(predict)}


def policy(predict: dict[str, Any] | None) -> dict[str, Any]:
    """These rules of requests; None: no policy."""
    return {"$policy": None if predict is None else {"predict": predict}}


def test_under_a_policy_only_what_it_leaves_to_requests_is_asked() -> None:
    """Without one each vote is asked for too; what a policy fixes or does not list is left out, bounds are kept."""
    free, hardened, loose, averaged = call(
        ("votes.js", "bodyOf", lane(None), 1, SETTINGS),
        ("votes.js", "bodyOf", lane(HARDENED), 1, SETTINGS),
        ("votes.js", "bodyOf", lane(LOOSE), 1, {**SETTINGS, "sigma": 0.9, "votes": 300}),
        ("votes.js", "bodyOf", lane(LOOSE), 1, {**SETTINGS, "reads": 4}),
    )
    assert free == {**ASKED, "return": "votes"}
    assert hardened == {"inputs": [1]}
    kept = {key: ASKED[key] for key in ("inputs", "reads", "seed", "stop")}
    assert loose == {**kept, "sigma": 0.6, "noise": "multiplicative", "votes": 20, "return": "histogram"}
    assert averaged == {**kept, "sigma": 0.6, "noise": "multiplicative", "votes": 9, "reads": 4, "return": "histogram"}
    paths = call(*(("votes.js", "askedAt", lane(each), "predict") for each in (None, HARDENED, {"version": "free"})))
    assert paths == ["v1/models/m/versions/3/predict", "v1/models/m/predict", "v1/models/m/versions/3/predict"]


@pytest.mark.parametrize("predict", [HARDENED, LOOSE, LOOSE | {"reads": {"fixed": 4}}])
def test_what_is_asked_under_a_policy_the_server_allows(predict: dict[str, Any]) -> None:
    """Whatever was set before, the server takes the request, and computes what the page says that it does."""
    rules = Policy.model_validate({"predict": predict})
    chosen = [
        {**SETTINGS, "sigma": sigma, "votes": votes, "reads": reads, "stop": stop}
        for sigma in (0, 0.45, 3) for votes in (1, 9, 700) for reads in (1, 3) for stop in ("fixed", "exact")
    ]  # fmt: skip
    bodies = call(*(("votes.js", "bodyOf", lane(predict), [[0.5]], each) for each in chosen))
    settled = call(*(("policy.js", ".settled", policy(predict), each) for each in chosen))
    for body, setting in zip(bodies, settled, strict=True):
        options = rules.prediction(parse(orjson.dumps(body), Settings())).options
        assert (options.votes, options.reads, options.noise) == (setting["votes"], setting["reads"], setting["noise"])
        assert options.sigma == pytest.approx(setting["sigma"])


@pytest.mark.parametrize("votes", [1, 3, 20, 100, 1000])
def test_dots_fill_their_column_from_its_middle(votes: int) -> None:
    """All votes of one class fit; a lone dot stands above its label, and later ones beside it, left and right alike."""
    width, height = 60, 178
    (packed,) = call(("dots.js", "packing", votes, width, height))
    size, side = packed["size"], packed["side"]
    places = call(*(("dots.js", "aside", rank, side) for rank in range(side + 1)))
    assert sorted(places[:side]) == list(range(-(side // 2), side // 2 + 1))
    assert places[0] == places[side] == 0
    assert side * size <= width
    assert -(-votes // side) * size <= height or size == 1


def test_votes_are_decided_as_the_server_decides_them() -> None:
    """Lower bound and abstention of the votes so far, against voting/bounds.py: to ten digits, also of many votes."""
    counts = [
        (first, second) for first in (1, 2, 5, 6, 19, 20, 400, 999) for second in (0, 1, 5, 300) if second <= first
    ]
    first, second = np.array(counts).T
    found = call(*(("statistics.js", "decide", [int(one), int(two), 0], 0.05) for one, two in counts))
    bounds = clopper_pearson(first, first + second, 0.05)
    np.testing.assert_allclose([each["lowerBound"] for each in found], bounds, rtol=1e-10)
    assert [each["abstain"] for each in found] == (binomial_p(first, second) > 0.05).tolist()
    tied = call(("statistics.js", "decide", [3, 3], 0.05, 1), ("statistics.js", "decide", [0, 0], 0.05))
    assert (tied[0]["index"], tied[1]) == (1, None)
