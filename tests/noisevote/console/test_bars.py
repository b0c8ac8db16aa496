import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisevote.client import Prediction
from noisevote.console.bars import MOST_CLASSES, bar, bars, verdict
from noisevote.console.screen import Screen


def voted(histogram: list[int]) -> Prediction:
    """Votes, as an answer has them."""
    index = histogram.index(max(histogram))
    return Prediction(f"class {index}", index, tuple(histogram), sum(histogram))


@given(st.floats(0, 1), st.integers(1, 80), st.booleans())
def test_a_bar_is_as_long_as_its_share(share: float, width: int, fine: bool) -> None:
    """To an eighth of a cell, or to a cell in ASCII; it takes the same room whatever it shows."""
    drawn = bar(share, width, fine=fine)
    assert len(drawn) == width
    assert fine or drawn.isascii()
    length = sum({"#": 8, " ": 0, "█": 8}.get(cell, " ▏▎▍▌▋▊▉".find(cell)) for cell in drawn)
    assert abs(length - 8 * share * width) <= (0.5 if fine else 4)


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=40).filter(any), st.integers(20, 200))
def test_bars_name_classes_and_votes(histogram: list[int], columns: int) -> None:
    """All of few classes in their order; of many those with most votes, none without; lines fit into the columns."""
    lines = bars(voted(histogram), [f"c{index}" for index in range(len(histogram))], columns)
    shown = [(int(line.split()[0][1:]), int(line.split()[-1])) for line in lines]
    assert all(histogram[index] == votes for index, votes in shown)
    if len(histogram) <= MOST_CLASSES:
        assert [index for index, _ in shown] == list(range(len(histogram)))
    else:
        assert max(histogram) == shown[0][1]
        assert len(shown) == min(MOST_CLASSES, sum(map(bool, histogram)))
    assert len({len(line) for line in lines}) == 1


def test_a_verdict_says_what_carries_it() -> None:
    """Votes, bound, abstention and deadline; of a label alone nothing more."""
    full = Prediction("7", 7, (1, 4), 5, 0.8, 0.34, abstain=True, complete=False, stopped_by="deadline")
    told = (
        "7: 4 of 5 votes (80.0%), at least 34.0% at confidence 0.95, too close to call (abstain), cut by the deadline"
    )
    assert verdict(full, 0.05) == told
    assert verdict(Prediction("7", 7), 0.05) == "7"


class Terminal(io.StringIO):
    """A terminal that remembers what was written."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        """It is one."""
        return True


def test_a_terminal_is_drawn_over_and_a_file_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal each drawing takes the place of the one before; in a file there is the last alone."""
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setenv("LINES", "4")
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        screen = Screen(stream)
        screen.draw(["a", "b" * 99, "c", "d", "e"])
        screen.draw(["f"])
        screen.end(["g"])
    assert file.getvalue() == "g\n"
    assert terminal.getvalue() == f"\x1b[Ja\n{'b' * 29}\nc\n\x1b[3F\x1b[Jf\n\x1b[1F\x1b[Jg\n"


def test_what_a_stream_cannot_show_is_replaced() -> None:
    """An ASCII terminal gets no traceback."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    screen = Screen(stream)
    assert not screen.fine
    screen.end(["Größe"])
    stream.seek(0)
    assert stream.read() == "Gr??e\n"
