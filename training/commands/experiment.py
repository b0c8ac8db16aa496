"""`experiment`: the other commands one after another."""

import argparse

from noisevote.evaluation.accuracy import evaluate
from noisevote.evaluation.plan import Plan
from noisevote.training.commands.fit import warn_of_slow_precision
from noisevote.training.commands.measure import engine_for
from noisevote.training.commands.options import (
    SIGMAS,
    Commands,
    add_device,
    add_recipe,
    add_records,
    add_threads,
    data_of,
    recipe_of,
    usual_folder,
)
from noisevote.training.commands.publish import export_run
from noisevote.training.fit.train import train
from noisevote.training.report import record


def add_experiment(commands: Commands) -> None:
    """Add `experiment`."""
    parser = commands.add_parser(
        "experiment", help="for each σ_train: train, export, evaluate and record; goes on where it stopped"
    )
    parser.set_defaults(command=_experiment)
    parser.add_argument("--sigmas-train", nargs="+", type=float, default=SIGMAS, help="one run each")
    parser.add_argument("--votes", type=int, default=20, help="votes an input of the evaluation")
    add_records(parser)
    add_threads(parser)
    add_device(parser)
    add_recipe(parser)


def _experiment(options: argparse.Namespace) -> None:
    for sigma in options.sigmas_train:
        recipe = recipe_of(options).model_copy(update={"sigma_train": sigma})
        data, folder = data_of(recipe), usual_folder(recipe)
        warn_of_slow_precision(recipe, options.device)
        train(recipe, data, folder, device=options.device)
        export_run(folder)
        engine = engine_for(folder, None, options.device, options.threads)
        evaluate(engine, folder.evaluation_by(engine.name), data.test, Plan((recipe.noise,), SIGMAS, options.votes, 0))
        print(record.write(record.record(folder, options.records), options.records))
