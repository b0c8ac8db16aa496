from pathlib import Path

import pytest
from PIL import Image

from noisevote.loadtest import figure
from tests.support.load_samples import OVERHEAD, load_test

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("overhead", [None, OVERHEAD], ids=["alone", "with the overhead"])
def test_a_figure_is_drawn_of_what_there_is(tmp_path: Path, overhead: object) -> None:
    """Also of phases without an answer, and the same bytes of the same record."""
    done = load_test(OVERHEAD if overhead else None)
    for name in ("one.png", "two.png"):
        figure.draw(done, tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    with Image.open(tmp_path / "one.png") as image:
        assert image.format == "PNG"
        assert image.width > image.height > 500


def test_the_figure_without_http_is_in_the_picture(tmp_path: Path) -> None:
    """A record with it looks different."""
    figure.draw(load_test(), tmp_path / "with.png")
    figure.draw(load_test(None), tmp_path / "without.png")
    assert (tmp_path / "with.png").read_bytes() != (tmp_path / "without.png").read_bytes()
