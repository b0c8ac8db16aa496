"""All that was measured of a run: by ONNX Runtime on its exported file, and by the torch twin on its weights.

Both draw the same noise, so what one has measured fills the gaps of the other.
"""

from pathlib import Path

from noisevote.evaluation import results
from noisevote.evaluation.onnx_runtime import OnnxRuntime
from noisevote.evaluation.provenance import DEVICE
from noisevote.evaluation.results import Cell, Evaluation, EvaluationError
from noisevote.training.measure.torch_twin import TorchTwin
from noisevote.training.runs.run_folder import RunFolder


def measurements(folder: RunFolder) -> Evaluation:
    """The run's measurements; a cell of the other engine than the first's says so.

    ONNX Runtime comes first, as it is what serves. Where both measured a cell, that of more votes stands.

    Raises:
        EvaluationError: nothing was measured, or something was of another file, or with other images or draws.
    """
    measured = [
        _read(kept, file)
        for engine, file in ((OnnxRuntime.name, folder.exported), (TorchTwin.name, folder.weights))
        if (kept := folder.evaluation_by(engine)).exists()
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
        gained = [_marked(cell, other) for cell in other.cells if not _has_as_many_votes(first, cell)]
        first = first.with_cells(gained)
    return first


def _read(kept: Path, file: Path) -> Evaluation:
    """Read the results of a file, which must be those of the file as it is now."""
    found = results.read(kept)
    expected = results.sha256_of(file) if file.exists() else None
    if found.sha256 != expected:
        raise EvaluationError(kept, f"is of a file of sha256 {found.sha256}, but {file.name} has {expected}")
    return found


def _has_as_many_votes(evaluation: Evaluation, cell: Cell) -> bool:
    """Whether the evaluation has a cell at the same noise, of at least as many votes."""
    same = evaluation.cell(cell.noise, cell.sigma)
    return same is not None and same.passes >= cell.passes


def _marked(cell: Cell, measured: Evaluation) -> Cell:
    """A cell of `measured` as it stands among those of another engine: it says what measured it, and where."""
    device = cell.device or measured.versions.get(DEVICE, "CPU")
    return cell.model_copy(update={"engine": measured.engine, "device": device})
