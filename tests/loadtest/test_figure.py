from pathlib import Path

import pytest
from PIL import Image

from noisevote.loadtest import figure
from tests.support.load_samples import OVERHEAD, load_test

pytestmark = pytest.mark.slow

RECORDS = {"alone": load_test(None), "with the overhead": load_test(OVERHEAD)}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The figure of each record."""
    folder = tmp_path_factory.mktemp("figures")
    files = {name: folder / f"{name}.png" for name in RECORDS}
    for name, record in RECORDS.items():
        figure.draw(record, files[name])
    return files


@pytest.mark.parametrize("name", RECORDS)
def test_a_figure_is_drawn_of_what_there_is(pictures: dict[str, Path], name: str, tmp_path: Path) -> None:
    """Also of phases without an answer, and the same bytes of the same record."""
    figure.draw(RECORDS[name], tmp_path / "again.png")
    assert pictures[name].read_bytes() == (tmp_path / "again.png").read_bytes()
    with Image.open(pictures[name]) as image:
        assert image.format == "PNG"
        assert image.width > image.height > 500


def test_the_figure_without_http_is_in_the_picture(pictures: dict[str, Path]) -> None:
    """A record with it looks different."""
    assert pictures["alone"].read_bytes() != pictures["with the overhead"].read_bytes()
