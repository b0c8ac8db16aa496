"""The int8 twin of a published variant: made, measured beside it on all test examples, and added to its version."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import onnx
from pydantic import JsonValue

from noisevote.evaluation.accuracy import evaluate
from noisevote.evaluation.accuracy_points import accuracy_points
from noisevote.evaluation.onnx_runtime import OnnxRuntime
from noisevote.evaluation.outcomes import Outcomes, paired_error
from noisevote.evaluation.plan import Plan
from noisevote.evaluation.provenance import git_commit, versions
from noisevote.evaluation.results import Evaluation, sha256_of
from noisevote.model_store.manifest import AccuracyPoint, Manifest, Provenance, Variant
from noisevote.model_store.store import ModelStore, digest
from noisevote.noise_op.contract import OP_VERSION, OperatorVersion
from noisevote.noise_op.onnx_versions import draw_with
from noisevote.training.data.data_set import DataSet
from noisevote.training.errors import TrainingError
from noisevote.training.publish import export
from noisevote.training.publish.differences import MOST_BELOW, Difference, differences
from noisevote.training.publish.quantize import CALIBRATION_INPUTS, CALIBRATION_VOTES, PERCENTILE, quantized

# Keys of a file's metadata: sigmas that it was calibrated at, and the percentile that ended each signal's range.
CALIBRATED_AT: Final = "calibrated_at"
CALIBRATED_TO: Final = "calibrated_to"


class LessAccurateError(TrainingError):
    """A twin falls below its float32 variant by more than it may."""

    def __init__(self, name: str, worst: Difference) -> None:
        super().__init__(f"{name}: {worst}; it may be {100 * MOST_BELOW:.3g} points below at most")


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

    @property
    def redrawn(self) -> Path | None:
        """The variant's file with the twin's draws; None where they are its own."""
        own = self.manifest.operator_version(self.variant) == self.operator
        return None if own else self.folder / f"{self.variant.name}-op{self.operator}.onnx"

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
        """Write the twin's file, calibrated on training examples under the variant's noise at these sigmas.

        Where the twin draws otherwise than its variant, the file to compare it with is written too. A file that is
        there already stays, unless it was calibrated otherwise.

        Raises:
            UnquantizableError: the network cannot be computed in 8 bits as it is.
        """
        about = {"variant": self.name, "precision": "int8", "twin": self.variant.name}
        about |= {CALIBRATED_AT: " ".join(map(str, sigmas)), CALIBRATED_TO: str(PERCENTILE)}
        content = store.read(self.manifest, self.variant)
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.file.exists() or not about.items() <= _metadata(self.file.read_bytes()).items():
            export.write(quantized(content, data.train, self.variant.noise, sigmas, about, self.operator), self.file)
        if self.redrawn is not None and not self.redrawn.exists():
            model = onnx.load_from_string(content)
            draw_with(model, self.operator)
            export.write(model, self.redrawn)

    def measured(self, data: DataSet, plans: Sequence[Plan], threads: int) -> Variant:
        """The manifest's entry of the file, measured as the plans say; what was measured before is kept."""
        evaluation, _ = _evaluated(self.file, data, plans, threads)
        content = self.file.read_bytes()
        told = _metadata(content)
        calibration: dict[str, JsonValue] = {
            "inputs": CALIBRATION_INPUTS,
            "votes": CALIBRATION_VOTES,
            "percentile": float(told[CALIBRATED_TO]),
            "sigmas": [float(sigma) for sigma in told[CALIBRATED_AT].split()],
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

    def compared(self, twin: Variant, data: DataSet, plans: Sequence[Plan], threads: int) -> list[Difference]:
        """Both accuracies wherever both were measured, on the same images with the same seeds, draws and votes.

        Where the twin draws with another version of the operator, the float32 variant is measured with that version
        too, so that draws do not differ and the votes of each image are compared.
        """
        if self.redrawn is None:
            return differences(self.variant.accuracy, twin.accuracy)
        evaluation, theirs = _evaluated(self.redrawn, data, plans, threads)
        _, ours = _evaluated(self.file, data, plans, threads)

        def error(point: AccuracyPoint) -> float | None:
            return paired_error(ours, theirs, (point.noise, point.sigma, point.reads), point.votes)

        return differences(accuracy_points(evaluation), twin.accuracy, error)


def add(store: ModelStore, twin: Twin, measured: Variant, compared: Sequence[Difference]) -> Path:
    """Add a measured twin to its variant's version; returns its file there.

    Raises:
        LessAccurateError: somewhere it is more than 0.1 points less accurate.
        StoreError: it is there already.
    """
    worst = min(compared, key=lambda difference: difference.gain)
    if worst.too_low:
        raise LessAccurateError(twin.name, worst)
    return store.add(twin.manifest.name, twin.manifest.version, measured, twin.file.read_bytes())


def _evaluated(file: Path, data: DataSet, plans: Sequence[Plan], threads: int) -> tuple[Evaluation, Outcomes]:
    """What was measured of a file, as the plans say; what was measured before is kept beside it."""
    engine = OnnxRuntime(file, threads)
    outcomes = Outcomes.beside(file.with_suffix(".npz"), data.test.labels, sha256_of(file))
    kept = file.with_suffix(".json")
    return [evaluate(engine, kept, data.test, plan, outcomes) for plan in plans][-1], outcomes


def _metadata(content: bytes) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load_from_string(content).metadata_props}
