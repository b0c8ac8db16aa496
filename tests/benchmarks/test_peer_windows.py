"""Windows of measuring, and what the report makes of them."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.peers.asking import Answer, Group
from benchmarks.peers.comparisons import BYTES, EARLY, FLOATS, Found, lines_of
from benchmarks.peers.contenders import FLOAT_PEERS, PEERS
from benchmarks.peers.record import OtherMachineError, Record, Window
from benchmarks.peers.report import KEPT, report
from benchmarks.peers.windows import BESIDE_100, HUNDRED, ONE, TWENTY, Way, measured
from noisevote.model_store.store import ModelStore
from tests.support.contenders import Idle, contender

LOOP, TILED = FLOAT_PEERS[1].name, FLOAT_PEERS[0].name


def test_requests_under_way_at_an_end_of_the_window_count_by_their_share_of_time() -> None:
    """Requests a second do not depend on whether a long one ends just before or just after the window does."""
    said = json.dumps([2] + [0] * 6 + [18, 0, 0]).encode()

    def answered(_: str, __: str, groups: list[Group], seconds: float) -> list[Answer]:
        assert (len(groups), seconds) == (2, 10.5)
        began = time.perf_counter() + 0.5
        one = json.dumps([0] * 7 + [1, 0, 0]).encode()
        small = [Answer(0, b"", began + at, began + at + 0.004, 200, one) for at in (-0.4, 1, 2)]
        return [
            *small,
            Answer(1, b"", began - 5, began + 5, 200, said),
            Answer(1, b"", began + 5, began + 25, 200, said),
        ]

    figures = measured(contender(), Way(((1, 1), (1, 20)), 10), "", Idle(), answered)
    assert figures["large_per_second"] == pytest.approx((0.5 + 0.25) / 10, abs=1e-3)
    assert figures["small_ms"] == pytest.approx([4, 4], abs=0.01)  # not what was asked before the window
    assert figures["answers"] == 5


def window(round_: int, contender: str, way: str, rate: float, **more: Any) -> Window:
    """What is kept of one."""
    figures = dict.fromkeys(KEPT, 0.5) | {"requests_per_second": rate} | more
    return {"round": round_, "run": 1, "contender": contender, "way": way, **figures}


WINDOWS = [
    *(window(0, name, TWENTY, rate) for name, rate in ((FLOATS, 300), (BYTES, 600), (TILED, 100), (LOOP, 80))),
    *(window(1, name, TWENTY, rate) for name, rate in ((FLOATS, 150), (BYTES, 300), (TILED, 40), (LOOP, 50))),
    window(2, FLOATS, TWENTY, 9999),
    window(0, EARLY, TWENTY, 500, answers=100, votes=1200),
    *(window(0, name, ONE, rate) for name, rate in ((FLOATS, 1500), (TILED, 1000), (LOOP, 900))),
    window(0, FLOATS, HUNDRED, 40),
    window(0, FLOATS, BESIDE_100, 100, large_per_second=38, small_ms=[5.0] * 100),
    window(0, LOOP, BESIDE_100, 50, large_per_second=10, small_ms=[10.0] * 100),
    window(0, TILED, BESIDE_100, 5, large_per_second=12, small_ms=[200.0] * 10),
]


def test_ratios_are_taken_within_a_round_against_its_best_peer() -> None:
    """A machine that is half as fast for a round changes none of them; rounds without a peer say nothing."""
    lines = {(each["asked"], each["line"]): each for each in lines_of(Found(WINDOWS))}
    twenty = lines["20 votes, 8 clients", "float32 ÷ best float32 peer"]
    assert (twenty["median"], twenty["wanted"]) == (3.0, 2.7)
    assert lines["20 votes, 8 clients", "int8 ÷ best float32 peer"]["median"] == 6.0
    assert lines["one vote, 8 clients", "float32 ÷ best float32 peer"]["median"] == 1.5
    assert lines["one vote beside 4 × 100", "99th percentile, least of all peers ÷ float32"]["median"] == 2.0
    large = lines["one vote beside 4 × 100", "large requests a second, float32 ÷ best peer of any kind"]
    assert large["median"] == pytest.approx(38 / 12)
    assert lines["one vote beside 4 × 100", "votes a second, float32 ÷ those of 4 × 100 alone"]["median"] == 0.975
    assert not any("int8 peer" in line for _, line in lines)


def test_the_report_has_everybody_in_table_record_and_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each contender has its row; what is left out is named with its reason; the picture is there."""
    store = Path("model_store/models")
    model = f"mnist-cnn {ModelStore(store).manifest('mnist-cnn').version}"
    record = Record(tmp_path / "measured.json", model)
    for each in WINDOWS:
        figures = {name: value for name, value in each.items() if name not in ("round", "run", "contender", "way")}
        record.add(each["round"], each["contender"], each["way"], figures)
    record.miss(PEERS[3].name, "it is not there")
    out = tmp_path / "out" / "peers"
    report(argparse_like(folder=tmp_path, model_store=store, lanes=2, out=out))
    page = out.with_suffix(".md").read_text()
    assert "| 20 votes, 8 clients | float32 ÷ best float32 peer | 3.00 (3.00 to 3.00) | ≥ 2.7 | yes |" in page
    assert f"Left out: {PEERS[3].name}: it is not there." in page
    for name in (FLOATS, BYTES, TILED, LOOP):
        assert f"| {name} |" in page
    assert "100 answers of 20 votes at most took 12.0 votes on average" in page
    assert "Proposal: where no policy hides the votes" in page
    assert "| noisevote, float32 | 4 × 100 | 5.0 ms | 5.0 ms | 100 | 38.0 (38.0 to 38.0) |" in page
    figures = json.loads(out.with_suffix(".json").read_text())["figures"]
    assert figures["servers"][LOOP]["one vote beside 4 × 100"]["p99_ms"] == 10.0
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def argparse_like(**options: Any) -> Any:
    """Options of the command."""
    return type("Options", (), options)


def test_windows_are_kept_at_once_and_known_again(tmp_path: Path) -> None:
    """An interrupted run finds what it has measured, and only that."""
    path = tmp_path / "measured.json"
    Record(path, "mnist-cnn 3", now=lambda: 7.0).add(0, "A", ONE, {"requests_per_second": 1.0})
    again = Record(path, "mnist-cnn 3")
    assert again.has(0, "A", ONE)
    assert not again.has(1, "A", ONE)
    assert not again.has(0, "A", TWENTY)
    assert again.windows == [{"round": 0, "run": 7, "contender": "A", "way": ONE, "requests_per_second": 1.0}]
    again.drop(["A"])
    assert Record(path, "mnist-cnn 3").windows == []


def test_what_another_model_measured_is_not_added_to(tmp_path: Path) -> None:
    """Windows of other versions or machines cannot be compared."""
    path = tmp_path / "measured.json"
    Record(path, "mnist-cnn 3").miss("A", "gone")
    assert Record(path, "mnist-cnn 3").missing == {"A": "gone"}
    with pytest.raises(OtherMachineError, match="--fresh"):
        Record(path, "mnist-cnn 4")
