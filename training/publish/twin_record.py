"""Records of how accurate published twins are beside their float32 variants."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from noisevote.model_store.files import replace_file
from noisevote.model_store.manifest import AccuracyPoint, Variant
from noisevote.model_store.store import digest
from noisevote.noise_op.contract import NoiseKind
from noisevote.training.errors import TrainingError
from noisevote.training.publish.differences import Difference
from noisevote.training.publish.twins import Twin


class TwinRecordError(TrainingError):
    """A file is no record of a twin."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"twin record {path}: {why}")


class Place(BaseModel):
    """Accuracies of both at one noise and number of votes, and the standard error over images of int8 - float32."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    noise: NoiseKind
    sigma: float
    votes: int
    float32: float
    int8: float
    error: float | None


class TwinRecord(BaseModel):
    """What a twin was compared with, and how it did; `sha256` is that of its file, `redrawn` of the other one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    version: str
    variant: str
    twin: str
    operator: int
    sha256: str
    bytes: int
    redrawn: str | None
    images: int
    seed: int
    versions: dict[str, str]
    places: tuple[Place, ...]

    def point(self, place: Place) -> AccuracyPoint:
        """The float32 variant's accuracy at a place, as a table has it."""
        return AccuracyPoint(
            noise=place.noise,
            sigma=place.sigma,
            votes=place.votes,
            accuracy=place.float32,
            images=self.images,
            seed=self.seed,
        )


def record(twin: Twin, measured: Variant, compared: Sequence[Difference]) -> TwinRecord:
    """The record of a measured twin."""
    return TwinRecord(
        model=twin.manifest.name,
        version=twin.manifest.version,
        variant=twin.variant.name,
        twin=twin.name,
        operator=twin.operator,
        sha256=measured.sha256,
        bytes=measured.bytes,
        redrawn=None if twin.redrawn is None else digest(twin.redrawn.read_bytes()),
        images=compared[0].twin.images,
        seed=compared[0].twin.seed,
        versions={} if measured.provenance is None else measured.provenance.versions,
        places=tuple(
            Place(
                noise=each.twin.noise,
                sigma=each.twin.sigma,
                votes=each.twin.votes,
                float32=each.point.accuracy,
                int8=each.twin.accuracy,
                error=each.error,
            )
            for each in compared
        ),
    )


def write(made: TwinRecord, folder: Path) -> Path:
    """Put it where the report finds it: FOLDER/<model>-<version>-<twin>.json."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{made.model}-{made.version}-{made.twin}.json"
    replace_file(path, f"{made.model_dump_json(indent=1)}\n".encode())
    return path


def read_all(folder: Path) -> list[TwinRecord]:
    """All records of a folder, by the names of their files.

    Raises:
        TwinRecordError: a file is none.
    """
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            found.append(TwinRecord.model_validate_json(path.read_bytes()))
        except ValidationError as error:
            raise TwinRecordError(path, str(error)) from error
    return found
