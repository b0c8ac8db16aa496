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

IMAGE_AXES: Final = 3  # channels, height, width
IMAGE_CHANNELS: Final = (1, 3)
MOST_EXACT: Final = 2**24  # whole numbers up to here are exact in float32

Padding = Literal["repeat_last"]
Precision = Literal["float32", "int8"]
# What may be asked for; `any`: int8 where that is measured to be faster.
PrecisionChoice = Literal[Precision, "any"]

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


class Preprocess(_Record):
    """What is done to an image of any size before it is an input, for whoever asks for it.

    `resize` is "stretch", to the input's height and width whatever the proportions, or the length of the shorter side,
    of which the middle is then cut out. Brightnesses become 0 … 1 in the order of `channels`; then `mean` is subtracted
    and divided by `std`, one number for each channel; without them they are spread over the value range.
    """

    resize: Literal["stretch"] | Annotated[int, Field(ge=1, le=2**14)] = "stretch"
    channels: Literal["rgb", "bgr"] = "rgb"
    mean: tuple[Annotated[float, Field(allow_inf_nan=False)], ...] = ()
    std: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = ()

    @model_validator(mode="after")
    def _mean_beside_std(self) -> Self:
        if len(self.mean) != len(self.std):
            raise ValueError(f"preprocess: {len(self.mean)} numbers in mean, {len(self.std)} in std")
        return self


class InputSpec(_Record):
    """What the graph's `input` takes: float32 [N, *shape] with values inside `value_range`.

    Images have shape [channels, height, width]. `preprocessing` says in words what the graph itself does
    to the values, such as normalisation; a client does none of it.

    `padding` is for inputs that are sequences along their first axis: the rule by which the service makes one of
    another length fit. `repeat_last` cuts a longer one, and continues a shorter one with its last element.
    Without a rule every input has exactly `shape`. The graph itself takes `shape` and nothing else.

    `integers` tells that the network takes whole numbers, such as bytes or tokens, of which the graph's float32 holds
    those up to 2²⁴ exactly. `preprocess` says how an image of another size becomes an input, where a request asks.
    """

    shape: Annotated[tuple[Count, ...], Field(min_length=1, max_length=8)]
    dtype: Literal["float32"] = "float32"
    value_range: Annotated[
        tuple[Annotated[float, Field(allow_inf_nan=False)], Annotated[float, Field(allow_inf_nan=False)]],
        AfterValidator(_rising),
    ] = (0.0, 1.0)
    preprocessing: str = ""
    padding: Padding | None = None
    integers: bool = False
    preprocess: Preprocess | None = None

    @model_validator(mode="after")
    def _fits_images(self) -> Self:
        given = self.preprocess
        if given is not None and (len(self.shape) != IMAGE_AXES or self.shape[0] not in IMAGE_CHANNELS):
            raise ValueError(f"preprocess: inputs of shape {list(self.shape)} are no images")
        if given is not None and given.mean and len(given.mean) != self.shape[0]:
            raise ValueError(f"preprocess.mean: {len(given.mean)} numbers for {self.shape[0]} channels")
        if self.integers and max(map(abs, self.value_range)) > MOST_EXACT:
            raise ValueError(f"value_range: {list(self.value_range)} holds whole numbers that float32 does not")
        return self


class Operator(_Record):
    """Version of the noise operator that the files carry, but for variants that say another one."""

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
    """A noise site: the layer after which it stands, by its name in the network's own file, and its own noise."""

    site: Annotated[int, Field(ge=0, lt=2**32)]
    layer: str
    operator: str = ""
    sigma_scale: Annotated[float, Field(ge=0, allow_inf_nan=False, description="multiplies a request's sigma")] = 1.0
    noise: Annotated[NoiseKind | None, Field(description="its kind, whatever a request asks for")] = None


class DigitalProduct(_Record):
    """A product without noise, and why it has none."""

    layer: str
    operator: str = ""
    reason: str = ""


class Checked(_Record):
    """What the gate of publishing found: how far the file is from its source without noise, on so many examples.

    `given` tells that these were real inputs, not random ones; `error` is null where there was no source to compare.
    """

    examples: Count
    given: bool
    error: Annotated[float, Field(ge=0)] | None
    scale: Annotated[float, Field(ge=0, description="the largest |logit|")]
    sites: Annotated[int, Field(ge=0, description="sites whose noise was measured and is what was asked")]


class Variant(_Record):
    """One trained network of a version: its file, how it was trained, what a vote costs, what it achieves."""

    name: Name
    file: FileName
    sha256: Digest
    bytes: Count
    noise: Annotated[NoiseKind, Field(description="noise kind while training")]
    sigma_train: Sigma
    network: str
    recipe: dict[str, JsonValue] = Field(default_factory=dict)
    provenance: Annotated[Provenance | None, Field(description="null: the network was trained elsewhere")] = None
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
    sites: Annotated[tuple[Site, ...], Field(description="noise sites by layer; empty: not told")] = ()
    digital: Annotated[tuple[DigitalProduct, ...], Field(description="products without noise")] = ()
    cut_off: Annotated[
        Literal["softmax", "log_softmax", "sigmoid"] | None,
        Field(description="what the network ended in before it was published; its logits are published"),
    ] = None
    rows_per_run: Annotated[
        Count | None,
        Field(description="rows of every run, padded, because rounding depends on their number; null: it does not"),
    ] = None
    checked: Checked | None = None

    precision: Annotated[
        Precision,
        Field(description="how products are computed: in float32, or of bytes, with one result on all processors"),
    ] = "float32"
    twin: Annotated[
        Name | None,
        Field(
            description="the float32 variant of this version that an int8 variant was made of; null for float32. "
            "One variant has a twin for each version of the noise operator at most"
        ),
    ] = None
    operator_version: Annotated[
        Count | None, Field(description="version of the noise operator that the file draws with; null: the manifest's")
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

    @model_validator(mode="after")
    def _twin_of_what_is_quantised(self) -> Self:
        if (self.twin is not None) != (self.precision == "int8"):
            raise ValueError(f"twin: {self.twin!r} of {self.precision} variant {self.name}; int8 variants have one")
        if self.precision == "int8" and self.certifies is not None:
            raise ValueError(f"certifies: {self.certifies} of int8 variant {self.name}; float32 ones alone certify")
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

    @model_validator(mode="after")
    def _twins_are_there(self) -> Self:
        floats = {variant.name for variant in self.variants if variant.precision == "float32"}
        twins = [variant for variant in self.variants if variant.twin is not None]
        drawn = [f"{variant.twin}, operator version {self.operator_version(variant)}" for variant in twins]
        _refuse_repeats("variants.twin", drawn)
        for variant in twins:
            if variant.twin not in floats:
                raise ValueError(f"variants.twin: {variant.twin!r} is no float32 variant of this version")
        return self

    def variant(self, name: str) -> Variant | None:
        """The variant of that name, or None."""
        return next((variant for variant in self.variants if variant.name == name), None)

    def operator_version(self, variant: Variant) -> int:
        """The version of the noise operator that one of the variants draws with."""
        return self.operator.version if variant.operator_version is None else variant.operator_version


def _refuse_repeats(key: str, values: Sequence[Hashable]) -> None:
    seen: set[Hashable] = set()
    for value in values:
        if value in seen:
            raise ValueError(f"{key}: {value!r} occurs twice")
        seen.add(value)
