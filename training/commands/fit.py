"""`train` and `calibrate`."""

import argparse
import sys
from pathlib import Path
from typing import Final

import torch

from noisevote.training.commands.options import (
    Commands,
    add_device,
    add_recipe,
    add_threads,
    data_of,
    recipe_of,
    usual_folder,
)
from noisevote.training.commands.run_names import add_named_runs, named_runs
from noisevote.training.fit.calibration import calibrate, calibrated_folder
from noisevote.training.fit.train import train
from noisevote.training.runs.recipe import Recipe
from noisevote.training.runs.run_folder import RunFolder

MULTIPLIES_BF16: Final = ("avx512_bf16", "amx_bf16", "bf16")  # the last one on Arm


def add_train(commands: Commands) -> None:
    """Add `train`."""
    parser = commands.add_parser("train", help="train one variant, or go on where it stopped")
    parser.set_defaults(command=_train)
    parser.add_argument("--run", type=Path, help="run folder (default: runs/<network>-<variant>)")
    parser.add_argument("--stop-after", type=int, metavar="EPOCHS", help="stop early; the same command goes on later")
    add_threads(parser)
    add_device(parser)
    add_recipe(parser)


def _train(options: argparse.Namespace) -> None:
    recipe = recipe_of(options)
    folder = RunFolder(options.run) if options.run else usual_folder(recipe)
    warn_of_slow_precision(recipe, options.device)
    train(recipe, data_of(recipe), folder, stop_after=options.stop_after, device=options.device)


def warn_of_slow_precision(recipe: Recipe, device: torch.device) -> None:
    """Tell on stderr that the recipe's precision is slow on this processor, where it is."""
    if recipe.precision != "bfloat16" or device.type != "cpu":
        return
    able = torch.cpu.get_capabilities()
    if not any(able.get(name) for name in MULTIPLIES_BF16):
        print(
            "precision: this processor does not multiply bfloat16, so that training in it is many times slower "
            "than with --precision float32",
            file=sys.stderr,
        )


def add_calibrate(commands: Commands) -> None:
    """Add `calibrate`."""
    parser = commands.add_parser(
        "calibrate", help="estimate the batch norms of finished runs under other sigmas, <run>-at-<sigma>"
    )
    parser.set_defaults(command=_calibrate)
    add_named_runs(parser)
    parser.add_argument("--sigmas", nargs="+", type=float, required=True, help="one result each")
    parser.add_argument("--norm-batches", type=int, help="batches to estimate from (default: as the run's recipe says)")
    add_device(parser)


def _calibrate(options: argparse.Namespace) -> None:
    for folder in named_runs(options):
        for sigma in options.sigmas:
            out = calibrated_folder(folder, sigma)
            calibrate(folder, sigma, data_of(folder.read_recipe()), out, options.device, options.norm_batches)
            print(out.path)
