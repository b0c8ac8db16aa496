"""`record` and `report`."""

import argparse
from pathlib import Path

from noisevote.training.commands.options import RECORDS, TWINS, Commands, add_records, add_runs
from noisevote.training.report import record


def add_record(commands: Commands) -> None:
    """Add `record`."""
    parser = commands.add_parser("record", help="note finished and measured runs for the report")
    parser.set_defaults(command=_record)
    add_runs(parser)
    add_records(parser)


def _record(options: argparse.Namespace) -> None:
    for folder in options.runs:
        print(record.write(record.record(folder, options.records), options.records))


def add_report(commands: Commands) -> None:
    """Add `report`."""
    parser = commands.add_parser("report", help="make the tables and figures from the records again")
    parser.set_defaults(command=_report)
    add_records(parser)
    parser.add_argument("--out", type=Path, default=RECORDS.parent, help="default: docs/results")


def _report(options: argparse.Namespace) -> None:
    # matplotlib takes long; the others do without
    from noisevote.training.report import defence, twin_page  # noqa: PLC0415
    from noisevote.training.report.report import report  # noqa: PLC0415

    made = report(options.records, options.out)
    attacked = options.records.parent / "defence"
    if attacked.exists():
        made += defence.report(attacked, options.out)
    made += twin_page.report(options.records.parent / TWINS.name, options.out)
    for path in made:
        print(path)
