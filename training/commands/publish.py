"""`export` and `publish`."""

import argparse
from pathlib import Path

from noisevote.model_store.store import ModelStore
from noisevote.noise_op.contract import OP_VERSION, OperatorVersion
from noisevote.training.commands.options import STORE, Commands, add_operator, add_runs, data_of
from noisevote.training.publish.runs import publish
from noisevote.training.runs.run_folder import RunFolder


def add_export(commands: Commands) -> None:
    """Add `export`."""
    parser = commands.add_parser("export", help="write finished runs as ONNX files, <run>/<variant>.onnx")
    parser.set_defaults(command=_export)
    add_runs(parser)
    add_operator(parser)


def _export(options: argparse.Namespace) -> None:
    for folder in options.runs:
        export_run(folder, options.operator)
        print(f"{folder.exported}: {folder.exported.stat().st_size} bytes")


def export_run(folder: RunFolder, operator: OperatorVersion = OP_VERSION) -> None:
    """Write the ONNX file of a finished run."""
    from noisevote.training.publish import export  # noqa: PLC0415  # onnxscript takes seconds; the others do without

    model = export.export(folder.read_network(), folder.read_recipe(), operator)
    export.write(model, folder.exported)


def add_publish(commands: Commands) -> None:
    """Add `publish`."""
    parser = commands.add_parser("publish", help="write exported and measured runs as one model version")
    parser.set_defaults(command=_publish)
    add_runs(parser)
    parser.add_argument("--version", required=True, help="version of the model, a number")
    parser.add_argument("--store", type=Path, default=STORE, help="model store (default: model_store/models)")
    parser.add_argument("--replace", action="store_true", help="take the place of a version that exists")
    parser.add_argument(
        "--keep",
        metavar="VERSION",
        help="with the variants of this published version, but for those of the runs' names",
    )


def _publish(options: argparse.Namespace) -> None:
    store = ModelStore(options.store)
    first = options.runs[0].read_recipe()
    data = data_of(first)
    print(publish(options.runs, data, store, options.version, replace=options.replace, kept_version=options.keep))
