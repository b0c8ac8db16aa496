"""Writes figures as JSON and as the table that documents show, with the model and the machine they were measured on."""

import json
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from noisevote.noise_op.library import load_kernel

PACKAGES = ("numpy", "onnxruntime", "torch")


def machine() -> dict[str, object]:
    """What the figures depend on: processor and what it can do, cores that this process may use, library versions."""
    kernel = load_kernel()
    return {
        "processor": _processor_name(),
        "processors": len(os.sched_getaffinity(0)),
        "kernel": "none" if kernel is None else kernel.isa,
        "vnni": "yes" if _has_vnni() else "no",
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


def _has_vnni() -> bool:
    """Whether the processor multiplies bytes in one instruction (AVX-512 VNNI or AVX VNNI)."""
    info = Path("/proc/cpuinfo")
    return info.exists() and "vnni" in info.read_text()


def _processor_name() -> str:
    info = Path("/proc/cpuinfo")
    names = (
        [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.exists()
        else []
    )
    return names[0] if names else platform.machine()
