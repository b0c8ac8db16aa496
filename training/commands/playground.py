"""`playground`: choose and craft the examples that the playground's page carries."""

import argparse
from pathlib import Path

from noisevote.model_store.store import ModelStore
from noisevote.training.commands.options import STORE, Commands, add_threads
from noisevote.training.data.files import DataSource
from noisevote.training.report import page_examples


def add_playground(commands: Commands) -> None:
    """Add `playground`."""
    parser = commands.add_parser("playground", help="choose and craft the examples of the playground's page")
    parser.set_defaults(command=_playground)
    parser.add_argument("--store", type=Path, default=STORE, help="default: model_store/models")
    parser.add_argument("--file", type=Path, default=page_examples.FILE, help="default: that of the page")
    add_threads(parser)


def _playground(options: argparse.Namespace) -> None:
    page_examples.write(ModelStore(options.store), DataSource.from_environment(), options.file)
    print(options.file)
