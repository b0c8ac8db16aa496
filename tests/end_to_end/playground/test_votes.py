"""The playground in a browser: draw, move sigma, watch votes, look at one."""

import json
from itertools import pairwise
from typing import Any

import httpx
import pytest

from tests.end_to_end.playground.conftest import Opener
from tests.support.browser import missing

WHY = missing()
pytestmark = [pytest.mark.prove, pytest.mark.skipif(WHY is not None, reason=str(WHY))]

# In shares of the surface, as a hand draws them.
DIGITS: dict[str, list[list[tuple[float, float]]]] = {
    "1": [[(0.5, 0.15 + 0.7 * i / 20) for i in range(21)]],
    "7": [
        [(0.3 + 0.4 * i / 12, 0.2) for i in range(13)] + [(0.7 - 0.25 * i / 16, 0.2 + 0.6 * i / 16) for i in range(17)]
    ],
    "4": [
        [(0.35, 0.2 + 0.3 * i / 10) for i in range(11)] + [(0.35 + 0.3 * i / 10, 0.5) for i in range(11)],
        [(0.65, 0.15 + 0.7 * i / 16) for i in range(17)],
    ],
}  # fmt: skip


@pytest.mark.parametrize("digit", sorted(DIGITS))
def test_a_drawn_digit_is_read_by_both_networks(opener: Opener, digit: str) -> None:
    """Stroke by stroke: the picture by one, the pen's points by the other."""
    page = opener("/#s=0.3&n=20&e=5")
    page.draw(DIGITS[digit])
    lanes = page.settle()
    assert [lane["network"].split()[0] for lane in lanes] == ["mnist-cnn", "mnist-cnn", "stroke-lstm"]
    assert [lane["label"] for lane in lanes] == [digit] * 3
    picture, _, pen = (json.loads(body)["inputs"][0] for body in page.bodies[-3:])
    assert picture["dtype"] == "uint8"
    assert all(len(point) == 2 for point in pen)


def test_undo_and_clear_take_strokes_away(opener: Opener) -> None:
    """Undo the last stroke, clear all: then there is nothing to vote on, and nothing is asked."""
    page = opener("/#s=0.3&n=5")
    page.draw(DIGITS["4"])
    page.settle()
    page.page.click("#undo")
    page.settle()
    points = json.loads(page.bodies[-1])["inputs"][0]
    moves = [max(abs(x - a), abs(y - b)) for (a, b), (x, y) in pairwise(points)]
    assert max(moves) == 1  # one stroke is left, in which the pen is never lifted
    asked = len(page.bodies)
    page.page.click("#clear")
    page.page.wait_for_function("() => document.querySelector('.lane.empty')")
    assert len(page.bodies) == asked
    assert {lane["said"] for lane in page.lanes()} == {"no votes yet"}


def test_moving_sigma_asks_anew_for_the_same_votes_under_other_noise(opener: Opener) -> None:
    """The request has the slider's sigma, SNR stands beside it, and both networks get the same drawing and seed."""
    page = opener("/#x=mnist-38&s=0.9&e=7")
    before = page.lanes()
    page.page.locator("#sigma").fill("0.2")
    after = page.settle()
    left, right, pen = (json.loads(body) for body in page.bodies[-3:])
    assert {body["sigma"] for body in (left, right, pen)} == {0.2}
    assert (left["inputs"], left["seed"], left["variant"]) == (right["inputs"], right["seed"], "mul-0.0")
    assert page.page.inner_text("#snr") == "14.0 dB"
    assert before[0]["said"] != after[0]["said"]
    assert after[0]["label"] == "2"


def test_noise_breaks_first_what_was_trained_without(opener: Opener) -> None:
    """At sigma 1 the left network's votes on this digit are split and abstain; the right one's are not."""
    page = opener("/#x=mnist-38&s=1&e=7")
    left, right, _ = page.lanes()
    assert "abstains" in left["said"]
    assert right["label"] == "2"
    assert "abstains" not in right["said"]


def test_an_older_stream_is_cancelled(opener: Opener) -> None:
    """A long one is given up by the page once something changes, and what it had still to cast is dropped."""
    page = opener("/#x=mnist-38&n=1")
    cancelled: list[str] = []
    page.page.on("requestfailed", lambda request: cancelled.append(request.post_data or ""))
    page.page.evaluate("location.hash = '#x=mnist-38&n=1000&s=0.5'")
    page.page.wait_for_function(
        "() => [...document.querySelectorAll('.lane')].some(each => each.querySelector('.said').textContent)"
    )
    page.page.locator("#sigma").fill("0.1")
    lanes = page.settle()
    given_up = [json.loads(body)["sigma"] for body in cancelled if body]
    assert set(given_up) <= {0.5}
    assert all(json.loads(body)["sigma"] == 0.1 for body in page.bodies[-3:])
    assert all("1000" in lane["said"] or lane["said"] for lane in lanes)


def test_votes_fall_one_after_another(opener: Opener) -> None:
    """With motion, the number of votes that have fallen grows from frame to frame, up to all of them."""
    page = opener("/#x=mnist-38&n=50&s=0.5", wait=False, reduced_motion="no-preference")
    page.page.wait_for_selector(".lane .said:not(:empty)")
    counted = page.page.evaluate(
        """async () => {
          const seen = new Set(), said = document.querySelector(".lane .said");
          for (let i = 0; i < 600; i += 1) {
            seen.add(Number(/of (\\d+)/.exec(said.textContent)?.[1] ?? 0));
            if (seen.has(50)) break;
            await new Promise(requestAnimationFrame);
          }
          return [...seen];
        }"""
    )
    assert counted == sorted(counted)
    assert counted[-1] == 50
    assert len(counted) > 10


def test_what_is_shown_is_what_the_server_says(opener: Opener, published: str) -> None:
    """Decision, votes and lower bound of the page, counted from the single votes, against the answer itself."""
    page = opener("/#x=mnist-321&s=0.7&n=30&e=11")
    body: dict[str, Any] = json.loads(page.bodies[1])
    answer = httpx.post(f"{published}/v1/models/mnist-cnn/predict", json=body, timeout=60).json()
    (prediction,) = answer["predictions"]
    shown = page.page.locator(".lane").nth(1)
    assert shown.locator(".label").inner_text() == prediction["label"]
    assert shown.locator(".said").inner_text().startswith(f"{max(prediction['histogram'])} of 30 votes")
    assert f"at least {100 * prediction['lower_bound']:.1f} %" in shown.locator(".bound").inner_text()


def test_a_vote_is_recomputed_alone(opener: Opener) -> None:
    """By its number, in a request for one vote: the very logits that were counted; a picked dot is that vote too."""
    page = opener("/#x=mnist-38&s=0.9&n=20&e=7")
    page.page.keyboard.press("v")
    inspector = page.page.locator("#inspector")
    inspector.get_by_text("to the bit").wait_for()
    alone = next(json.loads(body) for _, _, body in page.asked if body and "first_vote" in body)
    assert (alone["votes"], alone["first_vote"], alone["seed"]) == (1, 0, 7)
    inspector.get_by_label("Next vote").click()
    page.page.wait_for_function("() => document.querySelector('#inspector input').value === '1'")
    box = page.page.locator(".lane .dots").nth(1).bounding_box()
    assert box is not None
    page.page.mouse.click(box["x"] + 2.5 * box["width"] / 10, box["y"] + box["height"] - 6)
    page.page.wait_for_function("() => document.querySelector('#inspector .says').textContent === '2'")
    assert "to the bit" in inspector.inner_text()


def test_the_stopping_rule_is_asked_for_and_told(opener: Opener) -> None:
    """Under `exact` fewer votes fall, and the page says why."""
    page = opener("/#x=mnist-38&s=0.3&n=50&q=exact")
    assert json.loads(page.bodies[1])["stop"] == {"rule": "exact"}
    stopped = page.page.locator(".lane .stopped").nth(1).inner_text()
    assert stopped.startswith("stopped after 2")
    assert "rule holds" in stopped


def test_the_planner_is_asked_and_its_plan_is_used(opener: Opener) -> None:
    """A click sets variant, votes and reads as the server's answer has them."""
    page = opener("/#x=mnist-38&s=0.8")
    page.page.get_by_role("button", name="Use it").wait_for()
    asked = next(json.loads(body) for _, url, body in page.asked if url.endswith("/plan"))
    plan = httpx.post(f"{page.base}/v1/models/mnist-cnn/plan", json=asked, timeout=60).json()["plan"]
    page.page.get_by_role("button", name="Use it").click()
    page.settle()
    body = json.loads(page.bodies[1 - 3])
    assert {key: body[key] for key in ("variant", "votes", "reads")} == {
        key: plan[key] for key in ("variant", "votes", "reads")
    }


def test_pictures_are_cropped_scaled_and_shown_as_sent(opener: Opener, tmp_path: Any) -> None:
    """A dropped file of any size becomes 32×32 in three planes; the pixels are its own middle."""
    import base64

    import numpy as np
    from PIL import Image

    picture = np.zeros((64, 128, 3), np.uint8)
    picture[:, 32:96] = (200, 100, 50)
    Image.fromarray(picture).save(tmp_path / "wide.png")
    page = opener("/#m=cifar10-cnn&s=0.2&n=5")
    page.page.set_input_files("#picture", tmp_path / "wide.png")
    page.page.wait_for_function("() => document.body.dataset.input === 'picture'")
    page.settle()
    sent = base64.b64decode(json.loads(page.bodies[-1])["inputs"][0]["b64"])
    planes = np.frombuffer(sent, np.uint8).reshape(3, 32 * 32)
    assert [set(plane.tolist()) for plane in planes] == [{200}, {100}, {50}]
    assert page.page.evaluate("() => document.querySelector('#seen-image').width") == 32
    (tmp_path / "broken.png").write_bytes(b"no picture")
    page.page.set_input_files("#picture", tmp_path / "broken.png")
    page.page.get_by_text("no picture that the browser can read").wait_for()


def test_attacked_images_beside_their_originals(opener: Opener) -> None:
    """The undefended network falls for them, the robust one does not; at strength 0 none does. A radius is told."""
    page = opener()
    page.page.locator("#attack").scroll_into_view_if_needed()
    rows = page.page.locator("#attack tbody tr")
    rows.first.wait_for()
    assert "✗" in rows.nth(0).locator("td").nth(1).inner_text()
    assert "✓" in rows.nth(2).locator("td").nth(1).inner_text()
    assert all("✓" in rows.nth(i).locator("td").nth(0).inner_text() for i in range(3))
    page.page.get_by_label("Strength of the attack").fill("0")
    page.page.wait_for_function("() => !document.querySelector('#attack td.wrong')")
    page.page.get_by_role("button", name="Certify a radius").click()
    page.page.get_by_text("within an L2 distance").wait_for()
