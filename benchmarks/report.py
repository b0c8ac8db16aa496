"""Writes figures as JSON and as the table that documents show, with the model and the machine they were measured on."""

import json
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("numpy", "onnxruntime", "torch")


def machine() -> dict[str, object]:
    """What the figures depend on: processor, its cores that this process may use, library versions."""
    return {
        "processor": _processor_name(),
        "processors": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }


def write(out: Path, figures: object, table: Sequence[str], title: str, model: str | None = None) -> None:
    """OUT.json with the figures, OUT.md with the table; `model` is name and version of what was served, if any."""
    about = machine()
    out.parent.mkdir(parents=True, exist_ok=True)
    record = {"model": model, "machine": about, "figures": figures}
    out.with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n")
    on = ", ".join(f"{name} {value}" for name, value in about.items())
    measured = f"{f'Model: {model}. ' if model else ''}Measured on: {on}."
    out.with_suffix(".md").write_text("\n".join([f"# {title}", "", *table, "", measured, ""]))


def _processor_name() -> str:
    info = Path("/proc/cpuinfo")
    names = (
        [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.exists()
        else []
    )
    return names[0] if names else platform.machine()
