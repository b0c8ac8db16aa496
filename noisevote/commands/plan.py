"""`noisevote plan`: how to run a model on noisy hardware."""

import argparse
from collections.abc import Iterator, Sequence
from typing import Any, Final

from noisevote.client import Plan, Planning
from noisevote.client.options import PlanOptions
from noisevote.console.asking import client_of, given, model_of, print_json, told
from noisevote.console.flags import add_model, add_noise, add_server, command_parser
from noisevote.console.table import table

ABOUT: Final = "find the cheapest variant, votes and reads that reach an accuracy"
EXTRA: Final = None
HEADER: Final = (
    "", "variant", "votes", "reads", "accuracy %", "at least %", "products", "times in turn", "pipelined", "",
)  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """The noise, one goal, and what a plan may use."""
    flags = command_parser(
        "plan",
        "Find the cheapest variant, votes and reads that reach an accuracy, or the most accurate ones within a budget.",
        "Exit status: 0 a plan meets the goal, 1 none does or it failed, 2 it cannot be asked so.",
    )
    add_model(flags)
    add_noise(flags)
    goal = flags.add_mutually_exclusive_group(required=True)
    goal.add_argument("--accuracy", type=float, help="goal: at least so accurate, with fewest products")
    goal.add_argument("--products", type=int, help="goal: most accurate with so many matrix-vector products at most")
    goal.add_argument("--layer-times", type=int, metavar="N", help="goal: most accurate within so many layer times")
    flags.add_argument(
        "--execution", choices=["sequential", "pipelined", "parallel"], help="how --layer-times are counted"
    )
    flags.add_argument("--max-votes", type=int, metavar="N", help="most votes of a plan (the most measured)")
    flags.add_argument("--max-reads", type=int, metavar="N", help="most reads of a plan (100)")
    flags.add_argument("--variants", type=lambda text: text.split(","), metavar="A,B", help="variants to choose from")
    flags.add_argument("--by", choices=["estimate", "lower_bound"], help="figure that plans are judged by (estimate)")
    flags.add_argument("--alpha", type=float, help="error probability of lower bounds (0.05)")
    add_server(flags)
    return flags


def main(arguments: Sequence[str]) -> int:
    """Plan. Returns the exit status."""
    flags = parser()
    asked = flags.parse_args(arguments)
    if asked.sigma is None and asked.snr_db is None:
        flags.error("--sigma or --snr-db is needed")
    return told("plan", lambda: _plan(asked))


def _plan(asked: argparse.Namespace) -> int:
    goals = ("accuracy", "products", "layer_times", "execution")
    names = ("sigma", "snr_db", "noise", *goals, "max_votes", "max_reads", "variants", "by", "alpha")
    options: Any = {"version": asked.model_version, **given(asked, *names)}
    wanted: PlanOptions = options
    with client_of(asked) as client:
        found = client.plan(model_of(client, asked).name, **wanted)
    if asked.json:
        print_json(found.raw)
    else:
        print("\n".join(_described(found)))
    return 0 if found.feasible else 1


def _described(found: Planning) -> Iterator[str]:
    if found.reason is not None:
        yield found.reason
    named = [("plan", found.plan), ("nearest", found.nearest), ("cheaper", found.cheaper)]
    rows = [_row(name, plan) for name, plan in named if plan is not None]
    rows += [_row("", plan) for plan in found.runner_ups]
    if rows:
        yield from table([HEADER, *rows])
    least = found.least_votes_to_decide
    if found.plan is not None and found.plan.votes < least:
        yield f"with fewer than {least} votes predict abstains on every input, however right its labels are"


def _row(name: str, plan: Plan) -> tuple[str, ...]:
    cost = plan.analog_cost
    accuracy = f"{100 * plan.accuracy:.2f}", f"{100 * plan.lower_bound:.2f}"
    times = str(cost.products), str(cost.latency_sequential), str(cost.latency_pipelined)
    return (name, plan.variant, str(plan.votes), str(plan.reads), *accuracy, *times, plan.known)
