"""The int8 twin of a published variant: made, measured beside it on all test examples, and added to its version."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import onnx
from pydantic import JsonValue

from noisevote.evaluation.accuracy import evaluate
from noisevote.evaluation.accuracy_points import accuracy_points
from noisevote.evaluation.onnx_runtime import OnnxRuntime
from noisevote.evaluation.plan import Plan
from noisevote.evaluation.provenance import git_commit, versions
from noisevote.model_store.manifest import AccuracyPoint, Manifest, Provenance, Variant
from noisevote.model_store.store import ModelStore, digest
from noisevote.noise_op.contract import OP_VERSION, OperatorVersion
from noisevote.training.data.data_set import DataSet
from noisevote.training.errors import TrainingError
from noisevote.training.publish import export
from noisevote.training.publish.quantize import CALIBRATION_INPUTS, CALIBRATION_VOTES, PERCENTILE, quantized

# Of accuracy, 0.1 points: what a twin may be below its float32 variant where both were measured.
MOST_BELOW: Final = 0.001
# Standard errors that count as chance: about one in 25 tables of 36 points has a larger difference by draws alone.
CHANCE: Final = 3.0
# Repetitions of a test whose spread is relied on.
LEAST_GROUPS: Final = 4
# Where a file says what it was calibrated under.
CALIBRATED_AT: Final = "calibrated_at"


class LessAccurateError(TrainingError):
    """A twin falls below its float32 variant by more than it may."""

    def __init__(self, name: str, worst: "Difference") -> None:
        super().__init__(f"{name}: {worst}; it may be {100 * worst.most_below:.3g} points below at most")


@dataclass(frozen=True)
class Difference:
    """Accuracies of a float32 variant and its twin, of the same images, seeds and votes.

    `error` is the standard error of the difference between other draws of the same noise; 0 where both drew the same.
    """

    point: AccuracyPoint
    twin: AccuracyPoint
    error: float = 0.0

    @property
    def gain(self) -> float:
        """By how much the twin is more accurate."""
        return self.twin.accuracy - self.point.accuracy

    @property
    def most_below(self) -> float:
        """By how much the twin may be less accurate."""
        return max(MOST_BELOW, CHANCE * self.error)

    @property
    def room(self) -> float:
        """How much less accurate the twin might still be; negative where it falls too far below."""
        return self.gain + self.most_below

    def __str__(self) -> str:
        at = f"{self.point.noise} sigma {self.point.sigma:.4g}, votes {self.point.votes}"
        chance = f", standard error {100 * self.error:.2f}" if self.error else ""
        gain = f"{100 * self.gain:+.2f} points{chance}"
        return f"{at}: float32 {self.point.accuracy:.2%}, int8 {self.twin.accuracy:.2%} ({gain})"


def standard_error(table: Sequence[AccuracyPoint], point: AccuracyPoint) -> float:
    """Standard deviation of a point's accuracy over other draws on the same images, from the spread that was seen.

    A point of few repetitions has that of fewer votes, which is no smaller; where none has enough of them, the largest
    that decisions of such accuracy can have, sqrt(accuracy · (1 - accuracy) / images). At sigma 0 nothing is drawn.
    """
    if point.sigma == 0:
        return 0.0
    beside = [each for each in table if (each.noise, each.sigma, each.reads) == (point.noise, point.sigma, point.reads)]
    votes = max(each.votes for each in beside)
    spreads = {each.votes: each.spread for each in beside if each.spread and votes // each.votes >= LEAST_GROUPS}
    fewer = [count for count in spreads if count <= point.votes]
    largest = math.sqrt(point.accuracy * (1 - point.accuracy) / point.images)
    return (spreads[max(fewer)] if fewer else largest) / math.sqrt(votes // point.votes)


@dataclass(frozen=True)
class Twin:
    """A variant, what trained it, and the folder of its int8 twin; results are kept beside the twin's file.

    `operator` is the version of the noise operator that the twin draws with.
    """

    manifest: Manifest
    variant: Variant
    provenance: Provenance
    folder: Path
    operator: OperatorVersion = OP_VERSION

    @property
    def name(self) -> str:
        """The twin's name; it tells the operator's version where that is not its model's."""
        drawn = "" if self.operator == self.manifest.operator.version else f"-op{self.operator}"
        return f"{self.variant.name}-int8{drawn}"

    @property
    def file(self) -> Path:
        """The twin's file."""
        return self.folder / f"{self.name}.onnx"

    def plans(self, votes: int, sigmas: Sequence[float] | None) -> tuple[Plan, ...]:
        """What to measure: as much as the float32 variant's table has, under the noise of its training.

        Args:
            votes: an image at most, and at sigmas that are not in the table.
            sigmas: in place of the table's.
        """
        kind = self.variant.noise
        most: dict[float, int] = {}
        for point in self.variant.accuracy:
            if point.noise == kind:
                most[point.sigma] = max(point.votes, most.get(point.sigma, 1))
        wanted = {sigma: min(votes, most.get(sigma, votes)) for sigma in sigmas or sorted(most)}
        seed = self.variant.accuracy[0].seed
        return tuple(
            Plan((kind,), tuple(sigma for sigma, count in wanted.items() if count == each), each, seed)
            for each in sorted(set(wanted.values()), reverse=True)
        )

    def make(self, store: ModelStore, data: DataSet, sigmas: Sequence[float]) -> None:
        """Write the file, calibrated on training examples under the variant's noise at these sigmas.

        Raises:
            UnquantizableError: the network cannot be computed in 8 bits as it is.
        """
        about = {"variant": self.name, "precision": "int8", "twin": self.variant.name}
        about[CALIBRATED_AT] = " ".join(map(str, sigmas))
        content = store.read(self.manifest, self.variant)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        export.write(quantized(content, data.train, self.variant.noise, sigmas, about, self.operator), self.file)

    def measured(self, data: DataSet, plans: Sequence[Plan], threads: int) -> Variant:
        """The manifest's entry of the file, measured as the plans say; what was measured before is kept."""
        engine, kept = OnnxRuntime(self.file, threads), self.file.with_suffix(".json")
        evaluation = [evaluate(engine, kept, data.test, plan) for plan in plans][-1]
        content = self.file.read_bytes()
        calibration: dict[str, JsonValue] = {
            "inputs": CALIBRATION_INPUTS,
            "votes": CALIBRATION_VOTES,
            "percentile": PERCENTILE,
            "sigmas": [float(sigma) for sigma in _metadata(content)[CALIBRATED_AT].split()],
        }
        provenance = self.provenance.model_copy(update={"commit": git_commit(), "versions": versions()})
        return Variant.model_validate(
            self.variant.model_dump()
            | {
                "name": self.name,
                "file": self.file.name,
                "sha256": digest(content),
                "bytes": len(content),
                "recipe": {**self.variant.recipe, "calibration": calibration},
                "provenance": provenance,
                "accuracy": accuracy_points(evaluation),
                "measured_by": evaluation.measured_by,
                "precision": "int8",
                "twin": self.variant.name,
                "certifies": None,
                "operator_version": None if self.operator == self.manifest.operator.version else self.operator,
            }
        )

    def differences(self, twin: Variant) -> list[Difference]:
        """Both accuracies wherever both were measured, on the same images with the same seeds and numbers of votes."""
        found = {_key(point): point for point in twin.accuracy}
        pairs = [(point, found[_key(point)]) for point in self.variant.accuracy if _key(point) in found]
        if self.manifest.operator_version(twin) == self.manifest.operator_version(self.variant):
            return [Difference(*pair) for pair in pairs]
        tables = self.variant.accuracy, twin.accuracy
        return [Difference(*pair, error=math.hypot(*map(standard_error, tables, pair))) for pair in pairs]


def add(store: ModelStore, twin: Twin, measured: Variant) -> Path:
    """Add a measured twin to its variant's version; returns its file there.

    Raises:
        LessAccurateError: it is, somewhere, by more than it may be: 0.1 points, or more where draws of their own differ
            by more.
        StoreError: it is there already.
    """
    worst = min(twin.differences(measured), key=lambda difference: difference.room)
    if worst.room < -1e-9:
        raise LessAccurateError(twin.name, worst)
    return store.add(twin.manifest.name, twin.manifest.version, measured, twin.file.read_bytes())


def _metadata(content: bytes) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load_from_string(content).metadata_props}


def _key(point: AccuracyPoint) -> tuple[object, ...]:
    return (point.noise, point.sigma, point.votes, point.reads, point.images, point.seed)
