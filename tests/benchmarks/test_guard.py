"""`make bench` names what has become slower."""

import json
from pathlib import Path

import pytest

from benchmarks import __main__ as bench
from benchmarks.guard import fallen, instruction_set, keep, kept

AIMS = {"torch ÷ ours": "≥ 3", "ours ÷ silence": "≤ 1.3"}


def measured(gain: float, cost: float) -> dict[str, dict[str, float]]:
    """A run's figures, with some that are not compared."""
    return {"graph": {"torch ÷ ours": gain, "ours ÷ silence": cost, "torch ÷ silence": gain * cost, "ours (ms)": 7.0}}


def recorded(path: Path) -> Path:
    """Three runs."""
    for gain, cost in ((4.0, 1.20), (4.4, 1.25), (4.2, 1.22)):
        keep(path, measured(gain, cost), AIMS)
    return path


@pytest.mark.parametrize(
    ("gain", "cost", "named"),
    [
        (4.2, 1.22, []),
        (9.0, 1.00, []),  # better is never worse
        (3.61, 1.31, []),  # 4.0 less the range of 0.4; 1.25 and a twentieth of 1.22 more
        (3.59, 1.22, ["torch ÷ ours"]),
        (4.2, 1.32, ["ours ÷ silence"]),
        (3.0, 1.50, ["torch ÷ ours", "ours ÷ silence"]),
    ],
)
def test_what_is_worse_by_more_than_runs_differ_is_named(
    gain: float, cost: float, named: list[str], tmp_path: Path
) -> None:
    """Each ratio has its own direction and its own spread, at least a twentieth."""
    said = fallen(measured(gain, cost), kept(recorded(tmp_path / "ratios.json")), AIMS)
    assert len(said) == len(named)
    assert all(f"graph: {name} is " in line for name, line in zip(named, said, strict=True))


def test_runs_are_kept_by_instruction_set(tmp_path: Path) -> None:
    """Those of another one are not compared with."""
    path = recorded(tmp_path / "ratios.json")
    assert kept(path) == {"graph": {"torch ÷ ours": [4.0, 4.4, 4.2], "ours ÷ silence": [1.2, 1.25, 1.22]}}
    content = json.loads(path.read_text())
    assert list(content) == [instruction_set()]
    path.write_text(json.dumps({"sve with VNNI": content[instruction_set()]}))
    assert kept(path) == {}
    assert kept(tmp_path / "none.json") == {}
    assert fallen(measured(0.1, 9.0), {}, AIMS) == []


def test_the_names_tell_kernel_and_vnni() -> None:
    """Int8 on AVX-512 is another matter with VNNI than without."""
    assert instruction_set({"kernel": "avx512", "vnni": "yes"}) == "avx512 with VNNI"
    assert instruction_set({"kernel": "avx2", "vnni": "no"}) == "avx2 without VNNI"


def test_the_command_fails_where_a_ratio_fell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit status is what a script sees; a run that is recorded is not compared."""
    path = tmp_path / "ratios.json"
    name = "RandomNormalLike ÷ our noise, kernel"
    ratio = 4.0
    monkeypatch.setattr(bench, "_measure", lambda *_: {name: ratio})

    def run(*flags: str) -> None:
        monkeypatch.setattr("sys.argv", ["bench", "graph", "--ratios", str(path), *flags])
        bench.main()

    run()
    assert "no ratios are on record" in capsys.readouterr().err
    run("--record")
    run()
    ratio = 2.0
    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == 1
    assert f"worse than on record: graph: {name} is 2, on record 4, at worst 3.8" in capsys.readouterr().err
