"""Flags that several commands share, and what is made of them."""

import argparse
from pathlib import Path
from typing import Final, TypeAlias

import torch

from noisevote.model_store.manifest import Manifest, Variant
from noisevote.model_store.store import ModelStore
from noisevote.noise_op.contract import OP_VERSION, OP_VERSIONS
from noisevote.training.data.data_set import DataSet
from noisevote.training.data.files import DataSource
from noisevote.training.data.registry import load
from noisevote.training.errors import TrainingError
from noisevote.training.networks.registry import named
from noisevote.training.runs.recipe import Recipe
from noisevote.training.runs.run_folder import RunFolder

SIGMAS: Final = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
RECORDS: Final = Path(__file__).resolve().parents[2] / "docs" / "results" / "runs"
TWINS: Final = RECORDS.parent / "twins"
STORE: Final = Path(__file__).resolve().parents[2] / "model_store" / "models"
DEVICES: Final = ("cpu", "cuda")

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


class NotPublishedError(TrainingError):
    """There is no such variant to ask."""

    def __init__(self, chosen: str) -> None:
        super().__init__(f"{chosen!r}: no published MODEL/VERSION/VARIANT")


def add_runs(parser: argparse.ArgumentParser) -> None:
    """`RUN …`: run folders; and `--threads`."""
    parser.add_argument("runs", type=_run_folder, nargs="+", metavar="RUN", help="run folders")
    add_threads(parser)


def add_threads(parser: argparse.ArgumentParser) -> None:
    """`--threads` after a command's name, as well as before it."""
    parser.add_argument("--threads", type=int, default=argparse.SUPPRESS, help="CPU threads")


def add_operator(parser: argparse.ArgumentParser) -> None:
    """`--operator`."""
    parser.add_argument(
        "--operator",
        type=int,
        choices=OP_VERSIONS,
        default=OP_VERSION,
        help="version of the noise operator: how noise is drawn; 2 is faster, and certifies nothing (default: 1)",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """`--device`."""
    parser.add_argument("--device", type=_device, default="cpu", help="where torch computes: cpu or cuda")


def add_records(parser: argparse.ArgumentParser) -> None:
    """`--records`."""
    parser.add_argument("--records", type=Path, default=RECORDS, help="default: docs/results/runs")


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """A flag for every field of the recipe."""
    for name, field in Recipe.model_fields.items():
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, default=argparse.SUPPRESS, help=f"{field.description} (default: {field.default})")


def recipe_of(options: argparse.Namespace) -> Recipe:
    """The recipe: what was given, else what the network needs, else the general defaults."""
    given = {name: value for name, value in vars(options).items() if name in Recipe.model_fields}
    network = named(given.get("network", Recipe.model_fields["network"].default))
    return Recipe.model_validate({**network.recipe_defaults, **given})


def data_of(recipe: Recipe) -> DataSet:
    """The data set of the recipe's network."""
    return load(named(recipe.network).data_set, DataSource.from_environment())


def usual_folder(recipe: Recipe) -> RunFolder:
    """The run folder where none is named."""
    return RunFolder(Path("runs") / f"{recipe.network}-{recipe.variant}")


def published(store: ModelStore, chosen: str) -> tuple[Manifest, Variant, Path]:
    """A published variant, `model/version/variant`: its manifest, itself, and its file.

    Raises:
        NotPublishedError: there is none.
    """
    model, version, name = chosen.split("/") if chosen.count("/") == 2 else ("", "", "")
    manifest = store.manifest(model, version) if name else None
    variant = manifest.variant(name) if manifest else None
    if manifest is None or variant is None:
        raise NotPublishedError(chosen)
    return manifest, variant, store.root / model / version / variant.file


def _device(name: str) -> torch.device:
    if name not in DEVICES:
        raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(DEVICES)}")
    if name == "cuda" and not torch.cuda.is_available():
        raise argparse.ArgumentTypeError("'cuda': torch finds no CUDA device here")
    return torch.device(name)


def _run_folder(path: str) -> RunFolder:
    return RunFolder(Path(path))
