"""Flags that several commands of the room have."""

import argparse
import os
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Final

from noisevote.evaluation.plan import Plan
from noisevote.noise_op.contract import NOISE_KINDS

STORE: Final = Path(
    os.environ.get("NOISEVOTE_MODEL_STORE") or Path(__file__).resolve().parent.parent / "model_store" / "models"
)
MOST: Final = 1000  # sigmas, far more than anybody looks at


def sigmas(text: str) -> tuple[float, ...]:
    """Sigmas: `0:1:0.1` (first, last, step; both ends count) or `0,0.3,0.5`."""
    try:
        parts = [
            Decimal(part) for part in text.replace(",", ":" if ":" in text else ",").split(":" if ":" in text else ",")
        ]
    except InvalidOperation:
        parts = []
    if ":" in text and len(parts) == 3 and parts[2] > 0 and 0 <= (parts[1] - parts[0]) / parts[2] <= MOST:
        first, last, step = parts
        found = [float(first + number * step) for number in range(int((last - first) / step) + 1)]
    else:
        found = [] if ":" in text else [float(part) for part in parts]
    if not found or not all(0 <= each <= 10 for each in found):
        raise argparse.ArgumentTypeError(f"{text!r} is not like 0:1:0.1 or 0,0.3,0.5, each 0 … 10")
    return tuple(sorted(set(found)))


def counts(text: str) -> tuple[int, ...]:
    """Whole numbers from 1, with commas between them."""
    try:
        found = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        found = ()
    if not found or found[0] < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not like 1,5,20")
    return found


def numbers(text: str) -> tuple[float, ...]:
    """Numbers with commas between them."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not like 0.485,0.456,0.406") from None


def kinds(text: str) -> tuple[str, ...]:
    """Noise kinds with commas between them."""
    found = tuple(text.split(","))
    if not set(found) <= set(NOISE_KINDS):
        raise argparse.ArgumentTypeError(f"{text!r}: kinds are {', '.join(NOISE_KINDS)}")
    return found


def add_measuring(
    parser: argparse.ArgumentParser, sigma: tuple[float, ...], votes: tuple[int, ...], reads: tuple[int, ...]
) -> None:
    """What to measure."""
    group = parser.add_argument_group("what to measure")
    group.add_argument("--sigma", type=sigmas, default=sigma, help="first:last:step, or a list; default: "
                       f"{','.join(f'{each:g}' for each in sigma)}")  # fmt: skip
    group.add_argument("--votes", type=counts, default=votes, help=f"default: {','.join(map(str, votes))}")
    group.add_argument("--reads", type=counts, default=reads, help=f"default: {','.join(map(str, reads))}")
    group.add_argument("--noise", type=kinds, default=("multiplicative",), help="kinds; default: multiplicative")
    group.add_argument("--examples", type=int, help="so many, drawn by the seed; default: all")
    group.add_argument("--seed", type=int, default=0, help="of examples and noise; default: 0")


def plan_of(asked: argparse.Namespace) -> Plan:
    """The plan that the flags describe."""
    return Plan(asked.noise, asked.sigma, max(asked.votes), asked.seed, asked.votes, asked.reads)
