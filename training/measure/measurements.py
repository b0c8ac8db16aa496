"""All that was measured of a run: by ONNX Runtime on its exported file, and by the torch twin on its weights.

Both draw the same noise, so what one has measured fills the gaps of the other.
"""

from pathlib import Path

from noisevote.evaluation import accuracy as evaluate
from noisevote.evaluation.accuracy import Cell, Evaluation, EvaluationError
from noisevote.evaluation.provenance import DEVICE
from noisevote.training.measure.engines import OnnxRuntime, TorchTwin
from noisevote.training.runs.run_folder import RunFolder


def measurements(folder: RunFolder) -> Evaluation:
    """The run's measurements; a cell of the other engine than the first's says so.

    ONNX Runtime comes first, as it is what serves. Where both measured a cell, that of more votes stands.

    Raises:
        EvaluationError: nothing was measured, or something was of another file, or with other images or draws.
    """
    measured = [
        _of(results, file)
        for engine, file in ((OnnxRuntime.name, folder.exported), (TorchTwin.name, folder.weights))
        if (results := folder.evaluation_by(engine)).exists()
    ]
    if not measured:
        raise EvaluationError(
            folder.evaluation_by(OnnxRuntime.name), "nothing was measured yet; evaluate the run first"
        )
    first, *others = measured
    for other in others:
        if (other.images, other.seed) != (first.images, first.seed):
            raise EvaluationError(
                folder.evaluation_by(other.engine),
                f"is of {other.images} images, seed {other.seed}; that of {first.engine} is of {first.images}, "
                f"seed {first.seed}",
            )
        first = first.with_cells(_told(cell, other) for cell in other.cells if not _surpassed(cell, first))
    return first


def _of(results: Path, file: Path) -> Evaluation:
    found = evaluate.read(results)
    expected = evaluate.sha256_of(file) if file.exists() else None
    if found.sha256 != expected:
        raise EvaluationError(results, f"is of a file of sha256 {found.sha256}, but {file.name} has {expected}")
    return found


def _surpassed(cell: Cell, by: Evaluation) -> bool:
    same = by.cell(cell.noise, cell.sigma)
    return same is not None and same.passes >= cell.passes


def _told(cell: Cell, whole: Evaluation) -> Cell:
    """The cell as it stands among those of another engine."""
    device = cell.device or whole.versions.get(DEVICE, "CPU")
    return cell.model_copy(update={"engine": whole.engine, "device": device})
