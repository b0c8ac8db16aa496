"""Records of attacks: what became of each test image, so that every figure and interval can be made again from them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from noisevote.model_store.files import replace_file
from noisevote.noise_op.contract import NoiseKind
from noisevote.training.errors import TrainingError

Some = TypeVar("Some", bound="AttackRecord")


class AttackRecordError(TrainingError):
    """A file is no record of an attack, or is of another one."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"attack record {path}: {why}")


def in_order(images: int, strides: Sequence[int]) -> list[int]:
    """Numbers of test images, those of the first stride first, so that a part of a measurement is spread over all."""
    return list(dict.fromkeys(image for stride in strides for image in range(0, images, stride)))


class AttackRecord(BaseModel):
    """What all records have: how they are read and written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a record.

        Raises:
            AttackRecordError: the file is none.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise AttackRecordError(path, str(error)) from error

    def write(self, path: Path) -> None:
        """Replace the file by this record."""
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, f"{self.model_dump_json(indent=1)}\n".encode())


class Outcome(BaseModel):
    """What the votes of some images were.

    `right` counts each image's right votes, of at most 255, as two hexadecimal digits an image; `decided` tells by
    1 or 0 for each image whether the decision of all its votes is right.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    right: str = ""
    decided: str = ""

    def __len__(self) -> int:
        return len(self.decided)

    def with_more(self, right: Sequence[int], decided: Sequence[bool]) -> "Outcome":
        """The outcome with further images after these."""
        counts, bits = "".join(f"{count:02x}" for count in right), "".join("01"[bool(one)] for one in decided)
        return Outcome(right=self.right + counts, decided=self.decided + bits)

    @property
    def counts(self) -> NDArray[np.int64]:
        """Right votes of each image, int64 [images]."""
        return np.frombuffer(bytes.fromhex(self.right), np.uint8).astype(np.int64)

    @property
    def decisions(self) -> NDArray[np.bool_]:
        """Whether each image is decided rightly, bool [images]."""
        return np.asarray(np.frombuffer(self.decided.encode(), np.uint8) == ord("1"))


class Votes(BaseModel):
    """Votes of the first images under one noise. `runs`: right ones of each vote number, over all these images."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    inputs: str
    sigma: float
    votes: int
    runs: tuple[int, ...]
    outcome: Outcome


class TransferVotes(AttackRecord):
    """A published file asked about a transfer set, and about the images that the set starts from.

    `set` is the set's recipe, with its number of images and the SHA-256 of what was added to them. Image i draws with
    seed + i and votes 0, 1, …, as in a request to the service.
    """

    set: dict[str, Any]
    model: str
    variant: str
    sha256: str
    noise: NoiseKind
    seed: int
    commit: str | None
    versions: dict[str, str]
    isa: str | None
    cells: tuple[Votes, ...] = ()

    def cell(self, inputs: str, sigma: float) -> Votes | None:
        """The votes about `inputs` (`natural` or `adversarial`) at one sigma, if cast."""
        return next((cell for cell in self.cells if (cell.inputs, cell.sigma) == (inputs, sigma)), None)

    def with_cell(self, cell: Votes) -> "TransferVotes":
        """The record with a cell added, in the place of the one of the same inputs and sigma."""
        placed = {(old.inputs, old.sigma): old for old in (*self.cells, cell)}
        return self.model_copy(update={"cells": tuple(placed[key] for key in sorted(placed))})


class FullAccess(AttackRecord):
    """A network attacked by someone who has its weights, on every `every`-th test image, `images` of them planned.

    Of these, every `before[0]`-th test image comes first, then every `before[1]`-th, …; `among` is how many there are.
    `steps`, `restarts`, `draws` (votes a gradient), `known` (the noise's seed) say how. The worst of the restarts is
    chosen by other votes than those of the outcomes: `judged` has the right ones of `draws` of them, in
    hexadecimal; of a transfer, those of the attacked network where it is `examined`, else of the one whose gradients
    were used.
    `natural` and `attacked` are outcomes of `votes` fresh votes without and after the attack; `by_votes` has
    the decisions of the first of them, by their number.
    """

    model: str
    variant: str
    sha256: str
    data_set: str
    steps: dict[str, Any]
    restarts: int
    noise: NoiseKind
    sigma: float
    seed: int
    draws: int
    known: bool
    source: str = ""
    examined: bool = False
    every: int
    before: tuple[int, ...] = ()
    among: int = 10_000
    images: int
    votes: int
    commit: str | None
    versions: dict[str, str]
    judged: str = ""
    natural: Outcome = Outcome()
    attacked: Outcome = Outcome()
    by_votes: dict[int, str] = {}

    @property
    def complete(self) -> bool:
        """Whether all planned images were attacked."""
        return len(self.attacked) == self.images

    @property
    def planned(self) -> list[int]:
        """Numbers of the test images to be attacked, in their order."""
        return in_order(self.among, (*self.before, self.every))[: self.images]

    @property
    def places(self) -> dict[int, int]:
        """Number of each test image that was attacked to its place in the outcomes."""
        return {image: place for place, image in enumerate(self.planned[: len(self.attacked)])}


def started(fresh: Some, path: Path, told: Sequence[str]) -> Some:
    """The record of a file that was begun, if it is of the same measurement, or else `fresh`.

    Raises:
        AttackRecordError: the file is of another measurement: one of the fields `told` differs.
    """
    if not path.exists():
        return fresh
    before = type(fresh).read(path)
    if changed := [name for name in told if getattr(before, name) != getattr(fresh, name)]:
        raise AttackRecordError(path, f"was started with other values of {', '.join(changed)}")
    return before
