"""`certify`: the votes on test images that certificates are made from, cast on ONNX Runtime and kept in a record."""

import argparse
from pathlib import Path

from tqdm import tqdm

from noisevote.evaluation.onnx_runtime import OnnxRuntime
from noisevote.model_store.store import ModelStore
from noisevote.training.attack.certified import ALPHA, N, certify_images, fresh_paths
from noisevote.training.commands.options import RECORDS, STORE, Commands, add_threads, published
from noisevote.training.data.files import DataSource
from noisevote.training.data.registry import load
from noisevote.training.errors import TrainingError
from noisevote.training.networks.registry import named
from noisevote.voting.certification import rule_of


class CertifiesNothingError(TrainingError):
    """A variant has no noise at its input to certify by."""

    def __init__(self, chosen: str) -> None:
        super().__init__(f"{chosen!r}: does not certify; its manifest states no noise at the input")


def add_certify(commands: Commands) -> None:
    """Add `certify`."""
    parser = commands.add_parser("certify", help="cast the votes that certify test images, or go on with it")
    parser.set_defaults(command=_certify)
    parser.add_argument("variant", metavar="MODEL/VERSION/VARIANT", help="the published variant")
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--radii", nargs="+", type=float, metavar="R", help="for the anytime rule, one after the other")
    asked.add_argument("--all-votes", action="store_true", help=f"for the fixed rule: {N:,} votes on each image")
    parser.add_argument("--images", type=int, default=2000, help="at most, every 20th first, then every 5th, then all")
    parser.add_argument("--skip", type=int, default=0, help="so many of those, which another record has")
    parser.add_argument("--records", type=Path, default=RECORDS.parent / "defence" / "certificates")
    parser.add_argument("--store", type=Path, default=STORE, help="default: model_store/models")
    add_threads(parser)


def _certify(options: argparse.Namespace) -> None:
    manifest, variant, file = published(ModelStore(options.store), options.variant)
    if variant.certifies is None or variant.network is None:
        raise CertifiesNothingError(options.variant)
    data = load(named(variant.network).data_set, DataSource.from_environment())
    fresh = fresh_paths(manifest, variant, data.name)
    engine = OnnxRuntime(file, options.threads, rows_per_run=variant.rows_per_run)
    asked = slice(options.skip, options.images)
    path = options.records / f"{manifest.name}-{variant.name}.json"
    for radius in options.radii or [None]:
        rule = rule_of("fixed" if radius is None else "anytime", N, ALPHA, fresh.sigma, radius)
        told = f"{variant.name} {'fixed' if radius is None else f'r {radius:g}'}"
        with tqdm(unit="vote", unit_scale=True, desc=told, disable=None) as bar:
            for cast in certify_images(path, fresh, engine, data.test, rule, asked, len(manifest.classes)):
                bar.update(cast)
        print(f"{path}: {told}", flush=True)
