"""`python -m training train|export|evaluate|publish`."""

import argparse
import sys
from pathlib import Path

import torch
from pydantic import ValidationError

from training import data, networks
from training.checkpoint import CheckpointError
from training.recipe import Recipe
from training.train import RecipeChangedError, RunFolder, train


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        options.command(options)
    except (
        data.DataError,
        CheckpointError,
        RecipeChangedError,
        networks.UnknownNetworkError,
        ValidationError,
    ) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    _add_train(commands)
    return parser


def _add_train(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("train", help="train one variant, or go on where it stopped")
    parser.set_defaults(command=_train)
    parser.add_argument("--run", type=Path, help="run folder (default: runs/<network>-<variant>)")
    parser.add_argument("--stop-after", type=int, metavar="EPOCHS", help="stop early; the same command goes on later")
    _add_threads(parser)
    for name, field in Recipe.model_fields.items():
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, default=argparse.SUPPRESS, help=f"{field.description} (default: {field.default})")


def _add_threads(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")


def _train(options: argparse.Namespace) -> None:
    given = {name: value for name, value in vars(options).items() if name in Recipe.model_fields}
    recipe = Recipe.model_validate(given)
    folder = RunFolder(options.run or Path("runs") / f"{recipe.network}-{recipe.variant}")
    examples = data.load(networks.NETWORKS[recipe.network].data_set, data.DataSource.from_environment())
    train(recipe, examples, folder, stop_after=options.stop_after)


if __name__ == "__main__":
    sys.exit(main())
