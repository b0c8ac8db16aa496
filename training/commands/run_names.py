"""Runs, by what a command calls them: a run folder, or a published variant whose run folder is made again."""

import argparse
from pathlib import Path

from noisevote.evaluation import results
from noisevote.evaluation.onnx_runtime import OnnxRuntime
from noisevote.model_store.store import ModelStore
from noisevote.training.commands.options import STORE, add_records, add_threads, data_of, published
from noisevote.training.fit.restored import published_recipe, restore
from noisevote.training.report.record import recorded
from noisevote.training.runs.run_folder import RunFolder


def add_named_runs(parser: argparse.ArgumentParser) -> None:
    """`RUN …`, in either form, `--store` and `--records`, where they are looked up, and `--threads`."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders, or published MODEL/VERSION/VARIANT")
    parser.add_argument("--store", type=Path, default=STORE, help="model store (default: model_store/models)")
    add_records(parser)
    add_threads(parser)


def named_runs(options: argparse.Namespace) -> list[RunFolder]:
    """What `add_named_runs` was given; see `run_of`."""
    return [run_of(run, options.store, options.records) for run in options.runs]


def run_of(chosen: str, store: Path, records: Path) -> RunFolder:
    """A run folder, or else that of a published MODEL/VERSION/VARIANT, runs/<model>-<version>-<variant>.

    What is on record as measured of the published file is put into its folder, so that measuring goes on from there.

    Raises:
        TrainingError: it is neither.
    """
    folder = RunFolder(Path(chosen))
    if folder.path.exists():
        return folder
    manifest, variant, file = published(ModelStore(store), chosen)
    folder = RunFolder(Path("runs") / chosen.replace("/", "-"))
    recipe = published_recipe(manifest, variant)
    restore(manifest, variant, file, data_of(recipe), folder)
    kept, before = folder.evaluation_by(OnnxRuntime.name), recorded(records, variant.network, variant.name)
    if not kept.exists() and before is not None and before.evaluation.sha256 == variant.sha256:
        results.write(kept, before.evaluation)
    return folder
