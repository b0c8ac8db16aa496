"""`noisevote doctor`: whether a server can run here, and what to do about it."""

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from noisevote.console.asking import print_json
from noisevote.console.flags import command_parser
from noisevote.doctor import installation, machine
from noisevote.doctor.finding import Finding

ABOUT: Final = "look whether a server can run here, and say what to do about it"
EXTRA: Final = None
MARKS: Final = {"ok": "ok  ", "warning": "warn", "failure": "FAIL"}


def parser() -> argparse.ArgumentParser:
    """What the server would be given."""
    flags = command_parser(
        "doctor",
        "Look at the kernel, instruction set, threads, limits, store, ports and clock, and say what to do about each.",
        "Exit status: 0 a server can run, perhaps with warnings; 1 something keeps it from it.",
    )
    flags.add_argument(
        "--model-store",
        type=Path,
        default=os.environ.get("NOISEVOTE_MODEL_STORE") or str(installation.STORE),
        metavar="FOLDER",
        help="folder of published models (variable NOISEVOTE_MODEL_STORE)",
    )
    flags.add_argument(
        "--host", default=os.environ.get("NOISEVOTE_HOST") or "127.0.0.1", help="address (variable NOISEVOTE_HOST)"
    )
    flags.add_argument(
        "--port", type=int, default=os.environ.get("NOISEVOTE_PORT") or "8000", help="port (variable NOISEVOTE_PORT)"
    )
    flags.add_argument("--json", action="store_true", help="for programs")
    return flags


def main(arguments: Sequence[str]) -> int:
    """Look at everything. Returns the exit status."""
    asked = parser().parse_args(arguments)
    findings = list(_looked(asked))
    failed = any(each.health == "failure" for each in findings)
    if asked.json:
        print_json({"healthy": not failed, "findings": [vars(each) for each in findings]})
    else:
        print("\n".join(line for each in findings for line in _described(each)))
    return 1 if failed else 0


def _looked(asked: argparse.Namespace) -> Iterator[Finding]:
    yield from installation.packages()
    yield from installation.kernel()
    yield machine.processors()
    yield machine.memory()
    yield machine.open_files()
    models, newest = installation.store(asked.model_store)
    yield from models
    yield machine.port(asked.host, asked.port)
    yield machine.clock(newest)
    try:
        yield installation.settings()
    except ModuleNotFoundError:  # told already: packages
        return


def _described(finding: Finding) -> Iterator[str]:
    yield f"{MARKS[finding.health]}  {finding.subject}: {finding.found}"
    if finding.advice is not None:
        yield f"      {finding.advice}"
