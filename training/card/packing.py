"""Run folders put together in a few archives that are each small enough to be carried away."""

import json
import os
import zipfile
from pathlib import Path
from typing import Final

import torch

from noisevote.training.fit.paced import latest
from noisevote.training.runs import checkpoint
from noisevote.training.runs.checkpoint import Checkpoint
from noisevote.training.runs.run_folder import RunFolder

LARGEST: Final = 16_400_000  # bytes of an archive
ARCHIVES: Final = 4
NOTES: Final = "notes.zip"  # an archive of its own for what is small: recipes, logs, measurements


def pack(runs: list[tuple[Path, bool]], out: Path, others: list[Path]) -> list[str]:
    """Write `part-1.zip` … and `notes.zip`, and say what did not fit.

    Args:
        runs: folders in order of value, and whether their weights are to be halved to 16 bits.
        out: where the archives go; each is replaced whole.
        others: further files for the notes.
    """
    notes = [file for folder, _ in runs for pattern in ("*.json", "*.jsonl", "*.txt") for file in folder.glob(pattern)]
    _write(out / NOTES, [*notes, *others])
    wanted = [file for folder, half in runs for file in (*_weights(folder, half), *sorted(folder.glob("from-*.npz")))]
    room, parts = [LARGEST] * ARCHIVES, [list[Path]() for _ in range(ARCHIVES)]
    left_out = []
    for file in wanted:
        size = file.stat().st_size
        place = next((number for number, free in enumerate(room) if size <= free), None)
        if place is None:
            left_out.append(f"{file.parent.name}/{file.name}")
            continue
        room[place] -= size + 500  # names and headers
        parts[place].append(file)
    for number, files in enumerate(parts):
        if files:
            _write(out / f"part-{number + 1}.zip", files)
    return left_out


def _weights(folder: Path, half: bool) -> list[Path]:
    """The finished network, or else what there is of it so far."""
    run = RunFolder(folder)
    file = next((f for f in (run.weights, folder / "best.safetensors", latest(run)) if f.exists()), None)
    if file is None:
        return []
    return [_halved(file)] if half else [file]


def _halved(file: Path) -> Path:
    out = file.with_name(f"half-{file.name}")
    if not out.exists() or out.stat().st_mtime < file.stat().st_mtime:
        read = checkpoint.read(file)
        short = {n: t.to(torch.float16) if t.is_floating_point() else t for n, t in read.tensors.items()}
        checkpoint.write(out, Checkpoint(short, read.state | {"stored": "float16"}))
    return out


def _write(archive: Path, files: list[Path]) -> None:
    """The files as <run>/<name>, stored as they are: weights hardly shrink."""
    part = archive.with_name(f".{archive.name}")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED if archive.name == NOTES else zipfile.ZIP_STORED) as packed:
        for file in files:
            packed.write(file, f"{file.parent.name}/{file.name}")
    os.replace(part, archive)


def summary(runs: list[Path]) -> str:
    """A line a run: epochs, best accuracy under attack, last loss, what was measured."""
    lines = []
    for folder in runs:
        log, measured = RunFolder(folder).log, folder / "measured.json"
        epochs = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        epochs = [line for line in epochs if line["event"] == "epoch"]
        last = {k: round(v, 4) for k, v in epochs[-1].items() if isinstance(v, float)} if epochs else {}
        last.pop("time", None)
        found = json.loads(measured.read_text()) if measured.exists() else {}
        told = {name: value for name, value in found.items() if isinstance(value, float)}
        if "certificates" in found:
            told["certified images"] = len(found["certificates"]["counts"])
        sets = len(list(folder.glob("from-*.npz")))
        lines.append(f"{folder.name}: epochs {len(epochs)} {last} {told}{f' parts {sets}' if sets else ''}")
    return "\n".join(lines)
