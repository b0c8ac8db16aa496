from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.browser import DESKTOP, Watched, chromium

Opener = Callable[..., Watched]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One browser for a file; not longer, since its driver's event loop would be in the way of other tests'."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def opener(browser: Any, published: str) -> Iterator[Opener]:
    """Opens pages in profiles of their own, by default with reduced motion, so that votes are there at once.

    At the end of the test, no page may have asked another server, or complained, unless it says so by `complains`.
    """
    opened: list[tuple[Watched, Any, bool]] = []

    def open_page(
        path: str = "/", *, base: str = published, complains: bool = False, wait: bool = True, **how: Any
    ) -> Watched:
        context = browser.new_context(**{"viewport": DESKTOP, "reduced_motion": "reduce"} | how)
        watched = Watched(context.new_page(), base)
        opened.append((watched, context, complains))
        if wait:
            watched.open(path)
        else:
            watched.page.goto(f"{base}{path}")
        return watched

    yield open_page
    for watched, context, complains in opened:
        context.close()
        assert watched.foreign == []
        assert complains or watched.complaints == []
