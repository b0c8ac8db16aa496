"""`evaluate` and `outputs`."""

import argparse
import math

import torch

from noisevote.evaluation.accuracy import evaluate
from noisevote.evaluation.engine import Engine
from noisevote.evaluation.onnx_runtime import OnnxRuntime
from noisevote.evaluation.plan import Plan
from noisevote.evaluation.results import EvaluationError
from noisevote.noise_op.contract import NOISE_KINDS
from noisevote.training.commands.options import SIGMAS, Commands, add_device, data_of
from noisevote.training.commands.run_names import add_named_runs, named_runs
from noisevote.training.errors import TrainingError
from noisevote.training.measure import outputs
from noisevote.training.measure.torch_twin import TorchTwin
from noisevote.training.runs.run_folder import RunFolder


class NoHoldoutError(TrainingError):
    """A run that held no images out is to be measured on them."""

    def __init__(self, folder: RunFolder) -> None:
        super().__init__(f"run folder {folder.path}: holdout is 0, there are no held-out images to measure on")


def add_evaluate(commands: Commands) -> None:
    """Add `evaluate`."""
    parser = commands.add_parser("evaluate", help="measure runs on the test images, <run>/evaluation.json")
    parser.set_defaults(command=_evaluate)
    add_named_runs(parser)
    parser.add_argument("--kinds", nargs="+", choices=NOISE_KINDS, default=NOISE_KINDS, help="noise kinds")
    parser.add_argument("--sigmas", nargs="+", type=float, default=SIGMAS, help="sigmas of each kind")
    parser.add_argument("--reads", nargs="+", type=int, default=[1], help="averaged reads: noise of sigma/√reads each")
    parser.add_argument("--votes", type=int, default=20, help="votes an image")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first image")
    parser.add_argument("--images", type=int, help="only the first so many images")
    parser.add_argument(
        "--engine", choices=[OnnxRuntime.name, TorchTwin.name], help="what computes (default: torch on cuda only)"
    )
    add_device(parser)
    parser.add_argument("--holdout", action="store_true", help="on the held-out training images, <run>/holdout.json")


def _evaluate(options: argparse.Namespace) -> None:
    sigmas = tuple(sigma / math.sqrt(reads) for reads in options.reads for sigma in options.sigmas)
    plan = Plan(tuple(options.kinds), sigmas, options.votes, options.seed)
    for folder in named_runs(options):
        recipe = folder.read_recipe()
        if options.holdout and recipe.holdout == 0:
            raise NoHoldoutError(folder)
        examples = data_of(recipe).to_judge(recipe.holdout if options.holdout else 0)
        engine = engine_for(folder, options.engine, options.device, options.threads)
        results = folder.holdout_evaluation if options.holdout else folder.evaluation_by(engine.name)
        evaluate(engine, results, examples.first(options.images or len(examples)), plan)


def engine_for(folder: RunFolder, name: str | None, device: torch.device, threads: int) -> Engine:
    """The engine of that name; by default the twin on a graphics card, where it is much faster, else ONNX Runtime.

    Raises:
        EvaluationError: the run has not the file that the engine measures.
    """
    usual = OnnxRuntime.name if device.type == "cpu" else TorchTwin.name
    exported = (name or usual) == OnnxRuntime.name
    file = folder.exported if exported else folder.weights
    if not file.exists():
        raise EvaluationError(file, "there is no such file; train and export the run first")
    return OnnxRuntime(file, threads) if exported else TorchTwin(folder, device)


def add_outputs(commands: Commands) -> None:
    """Add `outputs`."""
    parser = commands.add_parser("outputs", help="measure how the outputs of one test input scatter, for the report")
    parser.set_defaults(command=_outputs)
    add_named_runs(parser)
    parser.add_argument("--index", type=int, default=0, help="which test input")
    parser.add_argument("--votes", type=int, default=1000, help="runs of it")


def _outputs(options: argparse.Namespace) -> None:
    runs = named_runs(options)
    test = data_of(runs[0].read_recipe()).test
    found = outputs.outputs(runs, test, options.index, options.votes)
    print(outputs.write(found, options.records.parent / "outputs"))
