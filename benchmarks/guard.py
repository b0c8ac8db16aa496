"""Compares the ratios of a run with those on record for the same instruction set.

Times differ between machines and days, ratios within one run much less. The record keeps several runs of each
instruction set, whose own range says by how much a ratio moves when nothing has changed.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks.report import machine

RECORD: Final = Path("docs/results/bench-ratios.json")
# Of the middle of the recorded runs: whatever their range, a ratio may move by so much.
LEAST_SPREAD: Final = 0.05

Figures = Mapping[str, Mapping[str, float]]  # part → figure → value
Runs = dict[str, dict[str, list[float]]]  # part → ratio → value in each recorded run


def instruction_set(about: Mapping[str, object] | None = None) -> str:
    """What ratios depend on, in words: what the kernel uses, and whether bytes are multiplied by VNNI."""
    about = machine() if about is None else about
    return f"{about['kernel']} {'with' if about['vnni'] == 'yes' else 'without'} VNNI"


def fallen(figures: Figures, recorded: Runs, aims: Mapping[str, str]) -> list[str]:
    """What to say of each ratio that is worse than on record by more than its spread.

    Args:
        figures: of this run.
        recorded: of earlier runs on this instruction set.
        aims: by beginnings of names, "≥ …" or "≤ …", which tell the better direction; what has none is not compared.
    """
    said = []
    for part, name, value, sign in _ratios(figures, aims):
        runs = sorted(recorded.get(part, {}).get(name, ()))
        if not runs:
            continue
        middle = runs[len(runs) // 2]
        spread = max(runs[-1] - runs[0], LEAST_SPREAD * middle)
        worst, worse = (runs[0] - spread, value < runs[0] - spread) if sign == "≥" else (
            runs[-1] + spread, value > runs[-1] + spread
        )  # fmt: skip
        if worse:
            said.append(f"{part}: {name} is {value:.3g}, on record {middle:.3g}, at worst {worst:.3g}")
    return said


def kept(path: Path) -> Runs:
    """Recorded runs of this instruction set; none is no error."""
    if not path.exists():
        return {}
    runs: Runs = json.loads(path.read_text()).get(instruction_set(), {}).get("ratios", {})
    return runs


def keep(path: Path, figures: Figures, aims: Mapping[str, str]) -> None:
    """Add a run's ratios to those of this instruction set."""
    content: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    mine = content.setdefault(instruction_set(), {"machine": machine(), "ratios": {}})
    for part, name, value, _ in _ratios(figures, aims):
        mine["ratios"].setdefault(part, {}).setdefault(name, []).append(round(value, 4))
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False, sort_keys=True) + "\n")


def _ratios(figures: Figures, aims: Mapping[str, str]) -> Iterator[tuple[str, str, float, str]]:
    """Part, name, value and direction of each ratio that has an aim."""
    for part, measured in figures.items():
        for name, value in measured.items():
            aim = next((aim for beginning, aim in aims.items() if name.startswith(beginning)), None)
            if "÷" in name and aim is not None:
                yield part, name, value, aim[0]
