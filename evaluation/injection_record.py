"""What is kept beside an injected file: which file it was made of, and how the two belong together."""

from dataclasses import asdict
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from noisevote.evaluation.source import OnnxSource
from noisevote.model_store.files import replace_file
from noisevote.model_store.store import digest
from noisevote.noise_op.contract import NoiseKind
from noisevote.noise_op.onnx_injection import Injected, SourceEnds

SUFFIX = ".injection.json"


class RecordError(Exception):
    """There is no record of an injected file, or its source is not what it was; the message says what to give."""


class ProductRecord(BaseModel):
    """A product: see `noise_op.onnx_injection.Product`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layer: str
    operator: str
    site: int | None
    sigma_scale: float
    reason: str


class InjectionRecord(BaseModel):
    """Where a noisy file comes from: `source` as a path, its hash and its ends; `products` as the table shows them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Path
    source_sha256: str
    noise: NoiseKind
    shape: tuple[int, ...]
    input: str
    dtype: str
    channels_last: bool
    logits: str
    head: Literal["none", "softmax", "log_softmax", "sigmoid"]
    products: tuple[ProductRecord, ...]

    @classmethod
    def of(cls, injected: Injected, source: Path, noise: NoiseKind) -> "InjectionRecord":
        """The record of what was injected just now."""
        return cls(
            source=source.resolve(),
            source_sha256=digest(source.read_bytes()),
            noise=noise,
            shape=injected.shape,
            **asdict(injected.ends),
            products=tuple(ProductRecord(**asdict(each)) for each in injected.products),
        )

    @property
    def integers(self) -> bool:
        """The network takes whole numbers."""
        return self.dtype != "float32"

    def open_source(self, given: Path | None) -> OnnxSource:
        """The source, to compare with.

        Raises:
            RecordError: it is not there, or is another file.
        """
        place = given or self.source
        try:
            content = place.read_bytes()
        except OSError as error:
            raise RecordError(f"{place}: the file that noise was put into cannot be read ({error.strerror}); --source "
                              "says where it is") from error  # fmt: skip
        if digest(content) != self.source_sha256:
            raise RecordError(f"{place}: is not the file that noise was put into; its sha256 is another")
        ends = SourceEnds(self.input, self.dtype, self.channels_last, self.logits, self.head)
        return OnnxSource(content, ends)


def record_file(noisy: Path) -> Path:
    """Where the record of a noisy file lies."""
    return noisy.with_suffix(SUFFIX)


def write(record: InjectionRecord, noisy: Path) -> None:
    """Replace the record beside a noisy file."""
    replace_file(record_file(noisy), f"{record.model_dump_json(indent=1)}\n".encode())


def read(noisy: Path) -> InjectionRecord:
    """The record beside a noisy file.

    Raises:
        RecordError: there is none that can be used.
    """
    place = record_file(noisy)
    try:
        return InjectionRecord.model_validate_json(place.read_bytes())
    except OSError as error:
        raise RecordError(f"{place}: cannot be read ({error.strerror}); `noisevote inject` writes it") from error
    except ValidationError as error:
        raise RecordError(f"{place}: {error}") from error
