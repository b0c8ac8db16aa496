"""Train noisy networks, export them, measure them and publish them: `python -m training <command> --help`."""

import argparse
import math
import sys
from pathlib import Path
from typing import TypeAlias

import torch
from pydantic import ValidationError

from noisevote.evaluation.accuracy import EvaluationError, Plan, evaluate
from noisevote.evaluation.examples import DataSet
from noisevote.model_store.store import ModelStore, StoreError
from noisevote.noise_op.contract import NOISE_KINDS
from noisevote.training.data.files import DataSource
from noisevote.training.data.registry import load
from noisevote.training.errors import TrainingError
from noisevote.training.fit.calibration import calibrate, calibrated_folder
from noisevote.training.fit.train import train
from noisevote.training.measure import outputs
from noisevote.training.measure.engines import Engine, OnnxRuntime, TorchTwin
from noisevote.training.networks.registry import named
from noisevote.training.publish.runs import publish
from noisevote.training.report import record
from noisevote.training.runs.recipe import Recipe
from noisevote.training.runs.run_folder import RunFolder

SIGMAS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
RECORDS = Path(__file__).resolve().parent.parent / "docs" / "results" / "runs"
MULTIPLIES_BF16 = ("avx512_bf16", "amx_bf16", "bf16")  # the last one on Arm
DEVICES = ("cpu", "cuda")
STORE = Path(__file__).resolve().parent.parent / "model_store" / "models"


class NoHoldoutError(TrainingError):
    """A run that held no images out is to be measured on them."""

    def __init__(self, folder: RunFolder) -> None:
        super().__init__(f"run folder {folder.path}: holdout is 0, there are no held-out images to measure on")


Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        options.command(options)
    except (TrainingError, StoreError, ValidationError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    commands = parser.add_subparsers(required=True, metavar="command")
    _add_train(commands)
    _add_export(commands)
    _add_calibrate(commands)
    _add_evaluate(commands)
    _add_publish(commands)
    _add_record(commands)
    _add_outputs(commands)
    _add_experiment(commands)
    _add_report(commands)
    return parser


def _add_train(commands: Commands) -> None:
    parser = commands.add_parser("train", help="train one variant, or go on where it stopped")
    parser.set_defaults(command=_train)
    parser.add_argument("--run", type=Path, help="run folder (default: runs/<network>-<variant>)")
    parser.add_argument("--stop-after", type=int, metavar="EPOCHS", help="stop early; the same command goes on later")
    _add_device(parser)
    _add_recipe(parser)


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=int, default=argparse.SUPPRESS, help="CPU threads")
    parser.add_argument("--device", type=_device, default="cpu", help="where torch computes: cpu or cuda")


def _device(name: str) -> torch.device:
    if name not in DEVICES:
        raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(DEVICES)}")
    if name == "cuda" and not torch.cuda.is_available():
        raise argparse.ArgumentTypeError("'cuda': torch finds no CUDA device here")
    return torch.device(name)


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    for name, field in Recipe.model_fields.items():
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, default=argparse.SUPPRESS, help=f"{field.description} (default: {field.default})")


def _train(options: argparse.Namespace) -> None:
    recipe = _recipe(options)
    folder = RunFolder(options.run or _usual_folder(recipe))
    _warn_of_slow_precision(recipe, options.device)
    train(recipe, _data(recipe), folder, stop_after=options.stop_after, device=options.device)


def _warn_of_slow_precision(recipe: Recipe, device: torch.device) -> None:
    if recipe.precision != "bfloat16" or device.type != "cpu":
        return
    able = torch.cpu.get_capabilities()
    if not any(able.get(name) for name in MULTIPLIES_BF16):
        print(
            "precision: this processor does not multiply bfloat16, so that training in it is many times slower "
            "than with --precision float32",
            file=sys.stderr,
        )


def _usual_folder(recipe: Recipe) -> Path:
    return Path("runs") / f"{recipe.network}-{recipe.variant}"


def _recipe(options: argparse.Namespace) -> Recipe:
    given = {name: value for name, value in vars(options).items() if name in Recipe.model_fields}
    network = named(given.get("network", Recipe.model_fields["network"].default))
    return Recipe.model_validate({**network.recipe_defaults, **given})


def _add_export(commands: Commands) -> None:
    parser = commands.add_parser("export", help="write finished runs as ONNX files, <run>/<variant>.onnx")
    parser.set_defaults(command=_export)
    _add_runs(parser)


def _export(options: argparse.Namespace) -> None:
    from noisevote.training.publish import export  # noqa: PLC0415  # onnxscript takes seconds to import; the others do without

    for folder in options.runs:
        export.write(export.export(folder.read_network(), folder.read_recipe()), folder.exported)
        print(f"{folder.exported}: {folder.exported.stat().st_size} bytes")


def _add_calibrate(commands: Commands) -> None:
    parser = commands.add_parser(
        "calibrate", help="estimate the batch norms of finished runs under other sigmas, <run>-at-<sigma>"
    )
    parser.set_defaults(command=_calibrate)
    _add_runs(parser)
    parser.add_argument("--sigmas", nargs="+", type=float, required=True, help="one result each")


def _calibrate(options: argparse.Namespace) -> None:
    for folder in options.runs:
        for sigma in options.sigmas:
            out = calibrated_folder(folder, sigma)
            calibrate(folder, sigma, _data(folder.read_recipe()), out)
            print(out.path)


def _add_evaluate(commands: Commands) -> None:
    parser = commands.add_parser("evaluate", help="measure runs on the test images, <run>/evaluation.json")
    parser.set_defaults(command=_evaluate)
    _add_runs(parser)
    parser.add_argument("--kinds", nargs="+", choices=NOISE_KINDS, default=NOISE_KINDS, help="noise kinds")
    parser.add_argument("--sigmas", nargs="+", type=float, default=SIGMAS, help="sigmas of each kind")
    parser.add_argument("--reads", nargs="+", type=int, default=[1], help="averaged reads: noise of sigma/√reads each")
    parser.add_argument("--votes", type=int, default=20, help="votes an image")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first image")
    parser.add_argument("--images", type=int, help="only the first so many images")
    parser.add_argument(
        "--engine", choices=[OnnxRuntime.name, TorchTwin.name], help="what computes (default: torch on cuda only)"
    )
    parser.add_argument("--device", type=_device, default="cpu", help="where torch computes: cpu or cuda")
    parser.add_argument("--holdout", action="store_true", help="on the held-out training images, <run>/holdout.json")


def _evaluate(options: argparse.Namespace) -> None:
    sigmas = tuple(sigma / math.sqrt(reads) for reads in options.reads for sigma in options.sigmas)
    plan = Plan(tuple(options.kinds), sigmas, options.votes, options.seed)
    for folder in options.runs:
        recipe = folder.read_recipe()
        if options.holdout and recipe.holdout == 0:
            raise NoHoldoutError(folder)
        examples = _data(recipe).to_judge(recipe.holdout if options.holdout else 0)
        engine = _engine(folder, options)
        results = folder.holdout_evaluation if options.holdout else folder.evaluation_by(engine.name)
        evaluate(engine, results, examples.first(options.images or len(examples)), plan)


def _engine(folder: RunFolder, options: argparse.Namespace) -> Engine:
    """The engine asked for; by default the twin on a graphics card, where it is much faster, else ONNX Runtime."""
    usual = OnnxRuntime.name if options.device.type == "cpu" else TorchTwin.name
    exported = (options.engine or usual) == OnnxRuntime.name
    file = folder.exported if exported else folder.weights
    if not file.exists():
        raise EvaluationError(file, "there is no such file; train and export the run first")
    return OnnxRuntime(file, options.threads) if exported else TorchTwin(folder, options.device)


def _add_publish(commands: Commands) -> None:
    parser = commands.add_parser("publish", help="write exported and measured runs as one model version")
    parser.set_defaults(command=_publish)
    _add_runs(parser)
    parser.add_argument("--version", required=True, help="version of the model, a number")
    parser.add_argument("--store", type=Path, default=STORE, help="model store (default: model_store/models)")
    parser.add_argument("--replace", action="store_true", help="take the place of a version that exists")


def _publish(options: argparse.Namespace) -> None:
    store = ModelStore(options.store)
    first = options.runs[0].read_recipe()
    print(publish(options.runs, _data(first), store, options.version, replace=options.replace))


def _add_record(commands: Commands) -> None:
    parser = commands.add_parser("record", help="note finished and measured runs for the report")
    parser.set_defaults(command=_record)
    _add_runs(parser)
    parser.add_argument("--records", type=Path, default=RECORDS, help="default: docs/results/runs")


def _record(options: argparse.Namespace) -> None:
    for folder in options.runs:
        print(record.write(record.record(folder), options.records))


def _add_experiment(commands: Commands) -> None:
    parser = commands.add_parser(
        "experiment", help="for each σ_train: train, export, evaluate and record; goes on where it stopped"
    )
    parser.set_defaults(command=_experiment, engine=None)
    parser.add_argument("--sigmas-train", nargs="+", type=float, default=SIGMAS, help="one run each")
    parser.add_argument("--votes", type=int, default=20, help="votes an input of the evaluation")
    parser.add_argument("--records", type=Path, default=RECORDS, help="default: docs/results/runs")
    _add_device(parser)
    _add_recipe(parser)


def _experiment(options: argparse.Namespace) -> None:
    from noisevote.training.publish import export  # noqa: PLC0415  # as above

    for sigma in options.sigmas_train:
        recipe = _recipe(options).model_copy(update={"sigma_train": sigma})
        data, folder = _data(recipe), RunFolder(_usual_folder(recipe))
        _warn_of_slow_precision(recipe, options.device)
        train(recipe, data, folder, device=options.device)
        export.write(export.export(folder.read_network(), recipe), folder.exported)
        plan = Plan((recipe.noise,), SIGMAS, options.votes, seed=0)
        engine = _engine(folder, options)
        evaluate(engine, folder.evaluation_by(engine.name), data.test, plan)
        print(record.write(record.record(folder), options.records))


def _add_outputs(commands: Commands) -> None:
    parser = commands.add_parser("outputs", help="measure how the outputs of one test input scatter, for the report")
    parser.set_defaults(command=_outputs)
    _add_runs(parser)
    parser.add_argument("--index", type=int, default=0, help="which test input")
    parser.add_argument("--votes", type=int, default=1000, help="runs of it")
    parser.add_argument("--records", type=Path, default=RECORDS, help="default: docs/results/runs")


def _outputs(options: argparse.Namespace) -> None:
    test = _data(options.runs[0].read_recipe()).test
    found = outputs.outputs(options.runs, test, options.index, options.votes)
    print(outputs.write(found, options.records.parent / "outputs"))


def _add_report(commands: Commands) -> None:
    parser = commands.add_parser("report", help="make the tables and figures from the records again")
    parser.set_defaults(command=_report)
    parser.add_argument("--records", type=Path, default=RECORDS, help="default: docs/results/runs")
    parser.add_argument("--out", type=Path, default=RECORDS.parent, help="default: docs/results")


def _report(options: argparse.Namespace) -> None:
    from noisevote.training.report.report import report  # noqa: PLC0415  # matplotlib takes long to import; the others do without

    for path in report(options.records, options.out):
        print(path)


def _add_runs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", type=_run_folder, nargs="+", metavar="RUN", help="run folders")
    parser.add_argument("--threads", type=int, default=argparse.SUPPRESS, help="CPU threads")


def _run_folder(path: str) -> RunFolder:
    return RunFolder(Path(path))


def _data(recipe: Recipe) -> DataSet:
    return load(named(recipe.network).data_set, DataSource.from_environment())


if __name__ == "__main__":
    sys.exit(main())
