"""`quantize`."""

import argparse
from pathlib import Path
from typing import Final

from noisevote.model_store.manifest import Manifest, Provenance, Variant
from noisevote.model_store.store import ModelStore
from noisevote.training.commands.options import STORE, TWINS, Commands, add_operator, add_threads
from noisevote.training.data.files import DataSource
from noisevote.training.data.registry import load
from noisevote.training.errors import TrainingError

FOLDER: Final = Path("runs/int8")


class UnknownVariantError(TrainingError):
    """The version has no such float32 variant."""

    def __init__(self, manifest: Manifest, name: str) -> None:
        known = ", ".join(variant.name for variant in manifest.variants if variant.precision == "float32")
        super().__init__(f"{manifest.name} {manifest.version}: {name!r} is not one of its float32 variants, {known}")


class TrainedElsewhereError(TrainingError):
    """The variant was trained elsewhere, so there are no training data to calibrate a twin on."""

    def __init__(self, manifest: Manifest, name: str) -> None:
        super().__init__(
            f"{manifest.name} {manifest.version}: {name!r} was trained elsewhere; nothing calibrates a twin"
        )


def add_quantize(commands: Commands) -> None:
    """Add `quantize`."""
    parser = commands.add_parser("quantize", help="make, measure and publish int8 twins of published variants")
    parser.set_defaults(command=_quantize)
    parser.add_argument("model", help="a published model")
    parser.add_argument("variants", nargs="+", metavar="VARIANT", help="its float32 variants")
    parser.add_argument("--version", help="version of the model (default: the newest)")
    parser.add_argument("--store", type=Path, default=STORE, help="model store (default: model_store/models)")
    parser.add_argument("--folder", type=Path, default=FOLDER, help=f"where twins are made (default: {FOLDER})")
    parser.add_argument("--sigmas", nargs="+", type=float, help="to calibrate and measure at (default: as measured)")
    parser.add_argument(
        "--votes", type=int, default=20, help="votes an image to measure with at most (as its table has)"
    )
    add_operator(parser)
    parser.add_argument("--publish", action="store_true", help="add the twins to the version, if they are as accurate")
    parser.add_argument("--records", type=Path, default=TWINS, help="where what is added is noted for the report")
    add_threads(parser)


def _quantize(options: argparse.Namespace) -> None:
    from noisevote.training.publish import twin_record, twins  # noqa: PLC0415  # export takes seconds to load

    store = ModelStore(options.store)
    manifest = store.manifest(options.model, options.version)
    for name in options.variants:
        variant, provenance = _float32(manifest, name)
        folder = options.folder / f"{manifest.name}-{manifest.version}"
        twin = twins.Twin(manifest, variant, provenance, folder, options.operator)
        data = load(provenance.data_set, DataSource.from_environment())
        plans = twin.plans(options.votes, options.sigmas)
        twin.make(store, data, sorted(sigma for plan in plans for sigma in plan.sigmas))
        measured = twin.measured(data, plans, options.threads)
        print(f"{twin.file}: {measured.bytes} bytes, for {variant.bytes}")
        compared = twin.compared(measured, data, plans, options.threads)
        print(*compared, sep="\n")
        if options.publish:
            print(twins.add(store, twin, measured, compared))
            print(twin_record.write(twin_record.record(twin, measured, compared), options.records))


def _float32(manifest: Manifest, name: str) -> tuple[Variant, Provenance]:
    """A variant, and what trained it: the training data calibrate its twin."""
    variant = manifest.variant(name)
    if variant is None or variant.precision != "float32":
        raise UnknownVariantError(manifest, name)
    if variant.provenance is None:
        raise TrainedElsewhereError(manifest, name)
    return variant, variant.provenance
