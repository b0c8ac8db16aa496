"""The playground in a browser: shared addresses, what goes wrong, keys, keyboard, phone, and who cannot see dots."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from noisevote.model_store.store import ModelStore
from noisevote.service.rest.keys import key_line
from tests.end_to_end.playground.conftest import Opener
from tests.support.browser import PHONE, missing
from tests.support.process import free_port, server, start_line
from tests.support.serving import publish_tiny

WHY = missing()
pytestmark = [pytest.mark.prove, pytest.mark.skipif(WHY is not None, reason=str(WHY))]
DIGITS = (1, 28, 28)


def test_a_shared_address_shows_the_same_votes(opener: Opener) -> None:
    """A drawing, its setting and the variants that answered are in the address: each vote is seen again."""
    page = opener("/#s=0.8&n=40&e=123")
    page.draw([[(0.3 + 0.01 * i, 0.2 + 0.015 * i) for i in range(40)], [(0.6, 0.3), (0.3, 0.7)]])
    shown = page.settle()
    page.page.wait_for_function("() => location.hash.includes('d=') && location.hash.includes('w=')")
    address = page.page.evaluate("location.hash")
    assert len(address) < 2000
    other = opener(f"/{address}")
    assert other.lanes() == shown
    sent = [json.loads(body) for body in other.bodies]
    assert [body["variant"] for body in sent] == [lane["network"].rpartition(" ")[2] for lane in shown]
    assert [body["inputs"] for body in sent] == [json.loads(body)["inputs"] for body in page.bodies[-3:]]


@pytest.mark.parametrize(
    "address", ["#d=!!!&s=x&n=1e9&m=<b>", "#d=" + "A" * 40_000, "#p=AAAA&w=~~~~&e=-1&k=q&q=q&r=1.5"]
)
def test_an_address_that_cannot_be_meant_does_no_harm(opener: Opener, address: str) -> None:
    """What cannot be used is left out, and the page works."""
    page = opener(f"/{address}")
    page.page.keyboard.press("n")
    assert all(lane["said"] for lane in page.settle())


def test_a_refusal_is_told_in_the_servers_words(opener: Opener) -> None:
    """A version that is not served: the lane and the banner say so; another setting puts it right."""
    page = opener("/#x=mnist-38&m=mnist-cnn&w=99:mul-0.0~99:mul-0.9~1:mul-0.8", wait=False, complains=True)
    page.page.get_by_text("99").first.wait_for()
    assert "Refused" in page.page.inner_text("#banner")
    page.page.keyboard.press(",")
    page.settle()
    assert page.page.is_hidden("#banner")


def test_overload_is_told_and_tried_again(opener: Opener) -> None:
    """429 with Retry-After: the page counts down and asks again, once."""
    page = opener("/#x=mnist-38", complains=True)
    busy = {"error": {"code": "queue_full", "message": "1000000 votes wait"}}
    refused: list[str] = []

    def refuse_once(route: Any) -> None:
        if len(refused) < 3:
            refused.append(route.request.url)
            route.fulfill(status=429, headers={"retry-after": "1"}, json=busy)
        else:
            route.continue_()

    page.page.route("**/predict/stream", refuse_once)
    page.page.keyboard.press("r")
    page.page.get_by_text("The server is busy: 1000000 votes wait").first.wait_for()
    page.settle()
    assert len(refused) == 3
    assert page.page.is_hidden("#banner")


def test_a_key_is_asked_for_and_kept_in_memory_alone(opener: Opener, tmp_path: Path) -> None:
    """401 opens the field; a wrong key is told; a right one votes, and is in no storage, address or snippet."""
    publish_tiny(ModelStore(tmp_path / "models"), shape=DIGITS, name="digits")
    keys = tmp_path / "keys.jsonl"
    keys.write_text(key_line("alice", ["predict"], "secret-of-alice"))
    flags = ("--port", "0", "--model-store", str(tmp_path / "models"), "--keys-file", str(keys))
    with server(*flags) as process:
        page = opener("/#x=mnist-38", base=start_line(process)[1], wait=False, complains=True)
        for key in ("wrong", "secret-of-alice"):
            page.page.locator("#key").fill(key)
            page.page.keyboard.press("Enter")
            if key == "wrong":
                page.page.get_by_text("this key is not known").wait_for()
        page.settle()
        everything = page.page.evaluate(
            """() => JSON.stringify([localStorage, sessionStorage, document.cookie, location.href])
              + document.body.innerText"""
        )
        assert "NOISEVOTE_KEY" in everything
        assert "secret-of-alice" not in everything
        assert page.foreign == []


POLICY = """[digits.predict]
sigma = { fixed = 0.5 }
noise = { fixed = "multiplicative" }
votes = { fixed = 9 }
"""
HISTOGRAMS = """return = { fixed = "histogram" }
stream = "free"
seed = "free"
"""


@pytest.mark.parametrize(("more", "told"), [("", "the label alone"), (HISTOGRAMS, "of 9 votes")])
def test_a_hardened_model_is_asked_as_its_policy_allows(opener: Opener, tmp_path: Path, more: str, told: str) -> None:
    """What it fixes cannot be moved and is not sent; what it shows is seen, with or without a stream."""
    publish_tiny(ModelStore(tmp_path / "models"), shape=DIGITS, name="digits")
    policies = tmp_path / "policies.toml"
    policies.write_text(POLICY + more)
    flags = ("--port", "0", "--model-store", str(tmp_path / "models"), "--policies", str(policies))
    with server(*flags) as process:
        page = opener("/#x=mnist-38&s=0.9&n=500&r=4", base=start_line(process)[1])
        (lane,) = page.settle()
        assert lane["label"].startswith("class ")
        assert page.page.get_by_text(told).count() == 1
        movable = [name for name in ("sigma", "votes", "reads", "seed", "variant") if page.page.is_enabled(f"#{name}")]
        assert movable == (["seed"] if more else [])
        assert (page.page.input_value("#sigma"), page.page.inner_text("#votes-value")) == ("0.5", "9")
        (asked,) = [json.loads(body) for method, _, body in page.asked if method == "POST"]
        assert sorted(asked) == (["inputs", "seed"] if more else ["inputs"])


def test_a_server_without_digits_and_pictures_says_so(opener: Opener, tmp_path: Path) -> None:
    """By the names of what it serves instead."""
    publish_tiny(ModelStore(tmp_path / "models"))
    with server("--port", "0", "--model-store", str(tmp_path / "models")) as process:
        page = opener("/", base=start_line(process)[1], wait=False)
        page.page.get_by_text("It serves tiny").wait_for()
        assert page.foreign == []


def test_a_server_that_goes_and_comes_back(opener: Opener, tmp_path: Path) -> None:
    """The page says that it is gone, and goes on by itself when it is back."""
    publish_tiny(ModelStore(tmp_path / "models"), shape=DIGITS, name="digits")
    flags = ("--port", str(free_port()), "--model-store", str(tmp_path / "models"))
    with server(*flags) as process:
        page = opener("/#x=mnist-38&s=0.5", base=start_line(process)[1], complains=True)
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    page.page.keyboard.press("r")
    page.page.get_by_text("cannot be reached").first.wait_for()
    with server(*flags) as process:
        start_line(process)
        page.settle()
        assert page.page.is_hidden("#banner")


def test_everything_works_by_keyboard_alone(opener: Opener) -> None:
    """Tab reaches each control, which shows it; sliders, examples and the list of keys need no mouse."""
    page = opener("/#x=mnist-38&s=0.5")
    reached: list[str] = []
    for _ in range(60):
        page.page.keyboard.press("Tab")
        reached.append(
            page.page.evaluate(
                """() => { const at = document.activeElement, style = getComputedStyle(at);
                const unseen = at.matches(":focus-visible") && style.outlineStyle === "none" && !at.closest(".button");
                return (at.id || at.dataset.id || at.tagName) + (unseen ? " unseen" : ""); }"""
            )
        )
    assert {
        "model",
        "share",
        "sigma",
        "votes",
        "reads",
        "seed",
        "roll",
        "noise",
        "variant",
        "stop",
        "replay",
        "speed",
    } <= set(reached)
    assert "mnist-38" in reached
    assert not [name for name in reached if name.endswith("unseen")]
    page.page.locator("#sigma").focus()
    page.page.keyboard.press("ArrowRight")
    page.settle()
    assert json.loads(page.bodies[-1])["sigma"] == 0.51
    page.page.keyboard.press("?")
    assert page.page.is_visible("#help-dialog")
    page.page.get_by_label("single-key shortcuts are on").uncheck()
    page.page.keyboard.press("Escape")
    asked = len(page.bodies)
    page.page.keyboard.press("r")
    page.page.locator("#seed").focus()
    page.page.keyboard.press("Home")
    assert len(page.bodies) == asked


@pytest.mark.parametrize(
    "how", [{}, {"color_scheme": "dark"}, {"viewport": PHONE, "has_touch": True, "is_mobile": True}]
)
def test_no_serious_finding_of_axe(opener: Opener, how: dict[str, Any]) -> None:
    """Light, dark and on a phone, with every section filled; on the phone nothing is wider than the screen."""
    from axe_playwright_python.sync_playwright import Axe

    page = opener("/#x=mnist-938&s=0.9", **how)
    for section, filled in (("#inspector", ".probabilities"), ("#attack", "tbody tr")):
        page.page.locator(section).scroll_into_view_if_needed()
        page.page.locator(f"{section} {filled}").first.wait_for()
    found = Axe().run(page.page).response["violations"]
    serious = [each for each in found if each["impact"] in {"serious", "critical"}]
    assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in serious] == []
    assert page.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_finger_draws_on_a_phone(opener: Opener) -> None:
    """Touch draws and does not scroll; both networks answer."""
    page = opener("/#s=0.3", viewport=PHONE, has_touch=True, is_mobile=True)
    box = page.page.locator("#surface").bounding_box()
    assert box is not None
    session = page.page.context.new_cdp_session(page.page)
    places = [(box["x"] + box["width"] / 2, box["y"] + box["height"] * (0.15 + 0.035 * i)) for i in range(20)]
    for i, (x, y) in enumerate(places):
        kind = "touchStart" if i == 0 else "touchMove"
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    page.page.wait_for_function("() => document.body.dataset.input === 'strokes'")
    assert [lane["label"] for lane in page.settle()] == ["1", "1", "1"]
    assert page.page.evaluate("scrollY") == 0


def test_embedded_it_is_the_stage_alone(opener: Opener) -> None:
    """Without header, text and panels."""
    page = opener("/?embed=1#x=mnist-38")
    assert page.page.is_visible("#stage")
    for hidden in (".top", ".intro", ".cards", ".foot"):
        assert page.page.is_hidden(hidden)
