"""The manifest: everything that a reader must know about one published version of a model.

It is stored as `manifest.json` beside the variants' ONNX files. Manifests are immutable: a change is a
new version.
"""

from collections.abc import Hashable, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, StringConstraints, model_validator

from noisevote.noise_op.contract import NoiseKind

MANIFEST_FILE: Final = "manifest.json"

Padding = Literal["repeat_last"]

# One path component each: a first letter or digit rules out "..", hidden files and temporary folders.
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
Version = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,8}$")]
FileName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]{0,127}\.onnx$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

Sigma = Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, lt=2**63)]


class _Record(BaseModel):
    """Frozen, and closed to unknown keys, so that a manifest never says something that nobody reads."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _rising(bounds: tuple[float, float]) -> tuple[float, float]:
    if not bounds[0] < bounds[1]:
        raise ValueError(f"{list(bounds)}: the first bound must be below the second")
    return bounds


class InputSpec(_Record):
    """What the graph's `input` takes: float32 [N, *shape] with values inside `value_range`.

    Images have shape [channels, height, width]. `preprocessing` says in words what the graph itself does
    to the values, such as normalisation; a client does none of it.

    `padding` is for inputs that are sequences along their first axis: the rule by which the service makes one of
    another length fit. `repeat_last` cuts a longer one, and continues a shorter one with its last element.
    Without a rule every input has exactly `shape`. The graph itself takes `shape` and nothing else.
    """

    shape: Annotated[tuple[Count, ...], Field(min_length=1, max_length=8)]
    dtype: Literal["float32"] = "float32"
    value_range: Annotated[
        tuple[Annotated[float, Field(allow_inf_nan=False)], Annotated[float, Field(allow_inf_nan=False)]],
        AfterValidator(_rising),
    ] = (0.0, 1.0)
    preprocessing: str = ""
    padding: Padding | None = None


class Operator(_Record):
    """Version of the noise operator that the files carry."""

    domain: Name
    version: Count


class AccuracyPoint(_Record):
    """One measured accuracy: the share of `images` test images whose decision was right.

    `votes` runs voted, each with `reads` averaged reads at noise `sigma` of kind `noise`, drawing from
    `seed`. `spread` is the standard deviation of accuracy over repetitions of the whole test, where it
    was repeated.
    """

    noise: NoiseKind
    sigma: Sigma
    votes: Count
    reads: Count = 1
    accuracy: Annotated[float, Field(ge=0, le=1)]
    spread: Annotated[float, Field(ge=0, le=1)] | None = None
    images: Count
    seed: Annotated[int, Field(ge=0, lt=2**64, json_schema_extra={"format": "uint64"})]


class Provenance(_Record):
    """Where a variant comes from: its training data, the code and library versions that made it."""

    data_set: str
    files: Annotated[dict[str, str], Field(description="data file to `<algorithm>:<hash>`")]
    train_images: Count
    commit: str | None = None
    versions: dict[str, str] = Field(default_factory=dict)


class Site(_Record):
    """One noise site of a file: its number and layer, and what is particular about its noise."""

    site: Annotated[int, Field(ge=0, lt=2**32)]
    name: str
    scale: Annotated[float, Field(ge=0, allow_inf_nan=False, description="multiplies a request's sigma")] = 1.0
    noise: Annotated[NoiseKind | None, Field(description="its kind, whatever a request asks for")] = None


class Variant(_Record):
    """One trained network of a version: its file, how it was trained, what a vote costs, what it achieves."""

    name: Name
    file: FileName
    sha256: Digest
    bytes: Count
    noise: Annotated[NoiseKind, Field(description="noise kind while training")]
    sigma_train: Sigma
    network: str
    recipe: dict[str, JsonValue]
    provenance: Provenance
    parameters: Count
    multiply_accumulates: Annotated[Count, Field(description="per vote")]
    samples: Annotated[Count, Field(description="noise samples per vote")]
    layers: Annotated[Count, Field(description="noisy products one after another: L of the analog cost")]
    accuracy: Annotated[tuple[AccuracyPoint, ...], Field(description="the measured table")]
    measured_by: Annotated[
        Literal["onnxruntime", "torch", "mixed"],
        Field(
            description="what cast the votes of the table: ONNX Runtime, the torch twin with the same draws, or "
            "each of them for some of its points"
        ),
    ] = "onnxruntime"
    sites: Annotated[
        tuple[Site, ...], Field(description="the sites by the names of their layers; empty: they were not named")
    ] = ()
    digital: Annotated[tuple[str, ...], Field(description="products without noise, by the names of their layers")] = ()
    certifies: Annotated[
        float | None,
        Field(
            gt=0,
            le=10,
            allow_inf_nan=False,
            description="standard deviation of the additive noise on the input, the file's only noise, under which it "
            "certifies; null: it certifies nothing",
        ),
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _known_by_its_former_name(cls, given: Any) -> Any:
        """Read `measured_by` from manifests that were published when the key was called `engine`."""
        if isinstance(given, dict) and "engine" in given and "measured_by" not in given:
            return {"measured_by" if key == "engine" else key: value for key, value in given.items()}
        return given

    @model_validator(mode="after")
    def _no_point_twice(self) -> Self:
        _refuse_repeats("accuracy", [(p.noise, p.sigma, p.votes, p.reads) for p in self.accuracy])
        return self


class Manifest(_Record):
    """One published version of a model. `format` is the version of this schema."""

    format: Literal[1] = 1
    name: Name
    version: Version
    title: str
    description: str = ""
    published: datetime | None = None
    input: InputSpec
    classes: Annotated[tuple[str, ...], Field(min_length=2)]
    operator: Operator
    variants: Annotated[tuple[Variant, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _no_name_twice(self) -> Self:
        _refuse_repeats("classes", list(self.classes))
        _refuse_repeats("variants.name", [variant.name for variant in self.variants])
        _refuse_repeats("variants.file", [variant.file for variant in self.variants])
        if any(variant.name == "auto" for variant in self.variants):
            raise ValueError("variants.name: 'auto' is reserved for the choice among the variants")
        return self

    def variant(self, name: str) -> Variant | None:
        """The variant of that name, or None."""
        return next((variant for variant in self.variants if variant.name == name), None)


def _refuse_repeats(key: str, values: Sequence[Hashable]) -> None:
    seen: set[Hashable] = set()
    for value in values:
        if value in seen:
            raise ValueError(f"{key}: {value!r} occurs twice")
        seen.add(value)
