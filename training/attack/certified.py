"""A published file's votes for certificates of test images, cast on ONNX Runtime as `…/certify` casts them.

The record keeps, for each image, how many votes failed up to each look. What any radius certifies, and after how many
votes, follows from it; a larger radius, or the fixed rule, only adds votes to the same paths.
"""

import itertools
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from noisevote.engine.certificate_seed import NONCE_BYTES, certificate_seed
from noisevote.evaluation.engine import Engine
from noisevote.evaluation.examples import Examples
from noisevote.evaluation.provenance import git_commit, versions
from noisevote.evaluation.vote_paths import VotePath, Walk, Walks
from noisevote.model_store.manifest import Manifest, Variant
from noisevote.noise_op.library import load_kernel
from noisevote.training.attack.records import AttackRecord, in_order, started
from noisevote.voting.certificates import failure_at
from noisevote.voting.certification import CertificateRule, look_times, looks_of

N0: Final = 100
N: Final = 100_000
ALPHA: Final = 0.001
# Images that are walked at once. Their rows share runs, so that early looks of few votes fill them.
BLOCK: Final = 64
WRITE_EVERY_S: Final = 60.0
# Every 20th test image comes first, as public code measures; then every 5th; then all.
STRIDES: Final = (20, 5, 1)
TOLD: Final = ("model", "version", "variant", "sha256", "data_set", "sigma", "n0", "n", "alpha")


class CertifiedPaths(AttackRecord):
    """Votes for certificates under one nonce. `paths`: number of a test image to its path, see `written`."""

    model: str
    version: str
    variant: str
    sha256: str
    data_set: str
    sigma: float
    n0: int
    n: int
    alpha: float
    nonce: str
    commit: str | None
    versions: dict[str, str]
    isa: str | None
    paths: dict[int, str] = Field(default_factory=dict)

    def path(self, image: int) -> tuple[int, VotePath] | None:
        """An image's label and path, if any votes were cast."""
        return read(self.paths[image], self.n) if image in self.paths else None


def written(label: int, path: VotePath) -> str:
    """A label and a path in one line: label, selected class, looks that were reached, and look:failures where any."""
    failed = [f"{place}:{new}" for place, new in enumerate(path.failures) if new]
    return " ".join([str(label), str(path.index), str(len(path.failures)), *failed])


def read(line: str, n: int) -> tuple[int, VotePath]:
    """What `written` wrote, of a record of at most n votes."""
    label, index, reached, *failed = line.split()
    failures = [0] * int(reached)
    for one in failed:
        place, new = one.split(":")
        failures[int(place)] = int(new)
    assert len(failures) <= len(look_times(n))
    return int(label), VotePath(int(index), failures)


@dataclass(frozen=True)
class Outcomes:
    """What the anytime rule made of some images at one radius; arrays [images], in the order of `in_order`.

    `right`: certified, and as its label; `certified`; `votes`: selecting and estimating ones.
    """

    radius: float
    right: NDArray[np.bool_]
    certified: NDArray[np.bool_]
    votes: NDArray[np.int64]


def outcomes(record: CertifiedPaths, radii: Sequence[float], test_images: int) -> list[Outcomes]:
    """The outcomes at each radius of the first images that the rule has done with, up to one that takes further votes.

    Where a whole stride of `STRIDES` is done, only what belongs to whole strides counts: else the images of a data
    set's beginning would weigh more.
    """
    known = itertools.takewhile(record.paths.__contains__, in_order(test_images, STRIDES))
    labels, paths = zip(*(read(record.paths[image], record.n) for image in known), strict=True)
    failures = np.zeros((len(paths), len(look_times(record.n))), np.int64)
    for row, path in zip(failures, paths, strict=True):
        row[: len(path.failures)] = path.failures
    failures = failures.cumsum(axis=1)
    reached = np.array([len(path.failures) for path in paths], np.int64)
    own = np.array([label == path.index for label, path in zip(labels, paths, strict=True)], bool)
    whole = [len(range(0, test_images, stride)) for stride in STRIDES]
    found = []
    for radius in radii:
        looks = looks_of(record.n, record.alpha, failure_at(record.sigma, radius))
        places = looks.first_ends(failures, reached)
        done = int(np.argmin(np.append(places, -1)))
        done = max((count for count in whole if count <= done), default=done)
        at = places[:done]
        certified = failures[np.arange(done), at] <= looks.most_failures[at]
        found.append(Outcomes(radius, certified & own[:done], certified, record.n0 + looks.looks[at]))
    return found


def fresh_paths(manifest: Manifest, variant: Variant, data_set: str) -> CertifiedPaths:
    """A record without votes, of a variant that certifies; its nonce is drawn here, after all inputs are fixed."""
    assert variant.certifies is not None
    kernel = load_kernel()
    return CertifiedPaths(
        model=manifest.name, version=manifest.version, variant=variant.name, sha256=variant.sha256, data_set=data_set,
        sigma=float(np.float32(variant.certifies)), n0=N0, n=N, alpha=ALPHA, nonce=secrets.token_hex(NONCE_BYTES),
        commit=git_commit(), versions=versions(), isa=kernel.isa if kernel else None,
    )  # fmt: skip


def certify_images(
    path: Path,
    fresh: CertifiedPaths,
    engine: Engine,
    test: Examples,
    rule: CertificateRule,
    images: slice,
    classes: int,
) -> Iterator[int]:
    """Cast what is missing until the rule stops on each of `images`, places of `in_order`; yields votes cast.

    Blocks follow each other; the record is written every minute and at the end.
    """
    record, last = started(fresh, path, TOLD), time.monotonic()
    paths = dict(record.paths)
    walks = Walks(engine, record.sigma, record.n0, classes)
    numbers = in_order(len(test), STRIDES)[images]
    for first in range(0, len(numbers), BLOCK):
        block = numbers[first : first + BLOCK]
        walked = [_walk(record, test, image) for image in block]
        for cast in walks.lengthen(walked, rule):
            if time.monotonic() - last > WRITE_EVERY_S:
                _note(paths, block, walked, test)
                record.model_copy(update={"paths": paths}).write(path)
                last = time.monotonic()
            yield cast
        _note(paths, block, walked, test)
    record.model_copy(update={"paths": paths}).write(path)


def _walk(record: CertifiedPaths, test: Examples, image: int) -> Walk:
    example = test.values(slice(image, image + 1))[0]
    found = record.path(image)
    return Walk(example, certificate_seed(record.sha256, example, record.nonce), found[1] if found else None)


def _note(paths: dict[int, str], block: Sequence[int], walked: Sequence[Walk], test: Examples) -> None:
    for image, walk in zip(block, walked, strict=True):
        if walk.path is not None:
            paths[image] = written(int(test.labels[image]), walk.path)
