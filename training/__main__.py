"""Train noisy networks, export them, measure them and publish them: `python -m training <command> --help`."""

import argparse
import sys

import torch
from pydantic import ValidationError

from noisevote.evaluation.results import EvaluationError
from noisevote.model_store.store import StoreError
from noisevote.training.commands.attack import add_attack
from noisevote.training.commands.certify import add_certify
from noisevote.training.commands.experiment import add_experiment
from noisevote.training.commands.fit import add_calibrate, add_train
from noisevote.training.commands.measure import add_evaluate, add_outputs
from noisevote.training.commands.playground import add_playground
from noisevote.training.commands.publish import add_export, add_publish
from noisevote.training.commands.quantize import add_quantize
from noisevote.training.commands.report import add_record, add_report
from noisevote.training.errors import TrainingError

# In the order that they are used in, which is the order of the help.
COMMANDS = (
    add_train,
    add_export,
    add_calibrate,
    add_evaluate,
    add_publish,
    add_quantize,
    add_attack,
    add_certify,
    add_record,
    add_outputs,
    add_experiment,
    add_report,
    add_playground,
)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        options.command(options)
    except (TrainingError, EvaluationError, StoreError, ValidationError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    """All commands, with their flags."""
    whole = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    whole.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    commands = whole.add_subparsers(required=True, metavar="command")
    for add in COMMANDS:
        add(commands)
    return whole


if __name__ == "__main__":
    sys.exit(main())
