"""The film at the top of the README: a digit is drawn on the playground, and sigma dragged up while networks vote.

`python -m benchmarks.playground_film docs/pictures/playground.webp` starts a server of the published models, drives
its page in Chromium with a test digit's own pen strokes, and writes what it shows as an animated WebP.
"""

import argparse
import io
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from benchmarks.server_process import serving
from tests.support.browser import SETTLED, Watched, chromium, missing
from tests.support.digits import stored_strokes

DIGIT: Final = 38  # of MNIST's test set, a two
SIZE: Final[Any] = {"width": 1240, "height": 700}
SCREEN: Final[Any] = {"width": 1240, "height": 800}
WIDTH: Final = 960  # of the film
SMOOTHED: Final = 2  # points to each side, so that whole pixels become the line of a pen


class Film:
    """Frames of a page, each with the milliseconds that it is shown."""

    def __init__(self, page: Any) -> None:
        self._page = page
        self._frames: list[Image.Image] = []
        self._milliseconds: list[int] = []

    def take(self, milliseconds: int) -> None:
        """Take a frame."""
        shown = Image.open(io.BytesIO(self._page.screenshot(clip={"x": 0, "y": 0, **SIZE}))).convert("RGB")
        self._frames.append(shown.resize((WIDTH, WIDTH * SIZE["height"] // SIZE["width"]), Image.Resampling.LANCZOS))
        self._milliseconds.append(milliseconds)

    def write(self, file: Path) -> None:
        """Write all frames as an animation without end."""
        first, *others = self._frames
        first.save(file, save_all=True, append_images=others, duration=self._milliseconds, loop=0, quality=62, method=4)


def main() -> None:
    """Film the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.playground_film", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--model-store", type=Path, default=Path("model_store/models"))
    options = parser.parse_args()
    why = missing()
    if why is not None:
        raise SystemExit(f"benchmarks: {why}")
    with serving(2, options.model_store) as (base, _), chromium() as browser:
        watched = Watched(browser.new_context(viewport=SCREEN).new_page(), base)
        watched.open("/?embed=1#s=0.3&n=20&e=7")
        film = Film(watched.page)
        _draw(watched.page, film)
        _raise_sigma(watched.page, film)
        film.write(options.file)
    print(options.file, options.file.stat().st_size, "bytes")


def _draw(page: Any, film: Film) -> None:
    film.take(500)
    box = page.locator("#surface").bounding_box()
    for stroke in _strokes():
        for number, (x, y) in enumerate(stroke):
            page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
            if number == 0:
                page.mouse.down()
            if number % 4 == 3:
                film.take(70)
        page.mouse.up()
    _falling(page, film, 6)
    film.take(900)


def _raise_sigma(page: Any, film: Film) -> None:
    box = page.locator("#sigma").bounding_box()
    half = 13  # of the slider's thumb, which stays inside of it

    def move(sigma: float) -> None:
        page.mouse.move(box["x"] + half + sigma * (box["width"] - 2 * half), box["y"] + box["height"] / 2)

    move(0.3)
    page.mouse.down()
    for sigma in np.linspace(0.3, 1, 18).tolist():
        move(sigma)
        page.wait_for_timeout(130)
        film.take(110)
    page.mouse.up()
    _falling(page, film, 8)
    film.take(2600)


def _falling(page: Any, film: Film, frames: int) -> None:
    for _ in range(frames):
        film.take(110)
        page.wait_for_timeout(50)
    page.wait_for_function(SETTLED)


def _strokes() -> list[list[tuple[float, float]]]:
    """The digit's strokes in shares of the surface, smoothed."""
    points = stored_strokes().inputs[DIGIT].astype(np.float64)
    cuts = np.flatnonzero(np.abs(np.diff(points, axis=0)).max(axis=1) > 1) + 1
    return [
        [
            (float(x), float(y))
            for x, y in (
                (part[max(0, i - SMOOTHED) : i + SMOOTHED + 1].mean(axis=0) + 0.5) / 28 for i in range(len(part))
            )
        ]
        for part in np.split(points, cuts)
    ]


if __name__ == "__main__":
    main()
