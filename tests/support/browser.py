"""Chromium, driven by Playwright: pages of the playground, and what went wrong in them."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

BROWSER: Final = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DESKTOP: Final[Any] = {"width": 1280, "height": 900}
PHONE: Final[Any] = {"width": 390, "height": 844}
TIMEOUT_MS: Final = 60_000
# All lanes have their answers, and all of their dots have fallen.
SETTLED: Final = """() => {
  const lanes = [...document.querySelectorAll(".lane")];
  return lanes.length > 0 && !document.body.dataset.state
    && document.querySelector("#stage").getAttribute("aria-busy") === "false"
    && lanes.every(lane => lane.classList.contains("empty") || lane.querySelector(".stopped").textContent);
}"""
# What each lane shows: network, decision, and the histogram in words.
LANES: Final = """() => [...document.querySelectorAll(".lane")].map(lane => ({
  network: lane.querySelector(".variant").textContent,
  label: lane.querySelector(".label").textContent,
  said: lane.querySelector(".dots").getAttribute("aria-label"),
}))"""


def missing() -> str | None:
    """Why no browser can be driven here; None: one can."""
    if BROWSER is None:
        return "chromium is not installed"
    absent = [name for name in ("playwright", "axe_playwright_python") if find_spec(name) is None]
    return f"{absent[0]} is not installed" if absent else None


@contextmanager
def chromium() -> Iterator["Browser"]:
    """A headless browser with a profile of its own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, headless=True, args=list(FLAGS))
        yield browser
        browser.close()


@dataclass
class Watched:
    """A page of the playground, and what must not happen in it.

    Attributes:
        page: it.
        base: the server's address.
        complaints: errors and warnings of the console, and uncaught exceptions.
        asked: method, address and body of each request, in order.
    """

    page: "Page"
    base: str
    complaints: list[str] = field(default_factory=list)
    asked: list[tuple[str, str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(TIMEOUT_MS)
        self.page.on("console", lambda each: self._said(each.type, each.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda each: self.asked.append((each.method, each.url, each.post_data)))

    def _said(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"}:
            self.complaints.append(text)

    def open(self, path: str = "/") -> None:
        """Load the page, and wait for the votes."""
        self.page.goto(f"{self.base}{path}")
        self.settle()

    def settle(self) -> list[dict[str, str]]:
        """Wait for all votes; returns what the lanes show."""
        self.page.wait_for_function(SETTLED)
        return self.lanes()

    def lanes(self) -> list[dict[str, str]]:
        """What the lanes show."""
        shown: list[dict[str, str]] = self.page.evaluate(LANES)
        return shown

    def draw(self, strokes: list[list[tuple[float, float]]]) -> None:
        """Draw with the mouse: strokes in shares of the surface, from its left and top."""
        box = self.page.locator("#surface").bounding_box()
        assert box is not None
        for stroke in strokes:
            places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
            self.page.mouse.move(*places[0])
            self.page.mouse.down()
            for place in places[1:]:
                self.page.mouse.move(*place)
            self.page.mouse.up()

    @property
    def bodies(self) -> list[str]:
        """Bodies of the requests for votes, in order."""
        return [body for _, url, body in self.asked if url.endswith("/predict/stream")]

    @property
    def foreign(self) -> list[str]:
        """Addresses of other servers that it asked."""
        return [url for _, url, _ in self.asked if not url.startswith((f"{self.base}/", "blob:", "data:"))]
