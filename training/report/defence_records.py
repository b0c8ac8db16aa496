"""All records of the defence, read at once."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisevote.training.attack.certified import CertifiedPaths
from noisevote.training.attack.records import FullAccess, TransferVotes
from noisevote.training.report.defence_runs import DefenceRun


@dataclass(frozen=True)
class Defence:
    """What was trained, crafted and measured.

    Attributes:
        runs: training records, by the name of the run.
        transfer: votes about transfer sets, by data set.
        attacks: attacks with full access, by the name of their file.
        sources: data set to what its transfer set did to the network that it was crafted on.
        certified: votes for certificates, by the name of their file.
        library: rows of the comparison with a library.
        square: curves of the Square attack over HTTP.
    """

    runs: dict[str, DefenceRun]
    transfer: dict[str, list[TransferVotes]]
    attacks: dict[str, FullAccess]
    sources: dict[str, dict[str, Any]]
    certified: dict[str, CertifiedPaths]
    library: list[dict[str, Any]]
    square: list[dict[str, Any]]


def read(folder: Path) -> Defence:
    """Read docs/results/defence.

    Raises:
        AttackRecordError: a file is no record.
    """
    transfer: dict[str, list[TransferVotes]] = {}
    for path in sorted((folder / "transfer").glob("*.json")):
        record = TransferVotes.read(path)
        transfer.setdefault(record.set["data_set"], []).append(record)
    return Defence(
        runs={path.stem: DefenceRun.read(path) for path in sorted((folder / "training").glob("*.json"))},
        transfer=transfer,
        attacks={path.stem: FullAccess.read(path) for path in sorted((folder / "attacks").glob("*.json"))},
        sources={p.parent.name: json.loads(p.read_text()) for p in sorted((folder / "sets").glob("*/source.json"))},
        certified={p.stem: CertifiedPaths.read(p) for p in sorted((folder / "certificates").glob("*.json"))},
        library=_rows(folder / "library.json"),
        square=_rows(folder / "square.json"),
    )


def _rows(file: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(file.read_text()) if file.exists() else []
    return rows
