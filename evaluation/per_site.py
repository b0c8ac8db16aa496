"""Which layer is the weak one: accuracy with noise at one site alone, and at all sites but one."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from tqdm import tqdm

from noisevote.evaluation.examples import Labelled
from noisevote.evaluation.onnx_runtime import OnnxRuntime
from noisevote.evaluation.plan import Plan
from noisevote.evaluation.results import EvaluationError, sha256_of
from noisevote.evaluation.votes import logits_by_run
from noisevote.model_store.files import replace_file
from noisevote.noise_op import onnx_probes
from noisevote.noise_op.contract import NoiseKind

# Makes an engine of a file.
MakeEngine = Callable[[Path], OnnxRuntime]


class SiteAccuracy(BaseModel):
    """Accuracy of single votes with noise at this site alone, and at every site but it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    site: int
    layer: str
    alone: float
    all_but: float


class PerSite(BaseModel):
    """Accuracies by site, of one file at one noise; `quiet` without noise, `noisy` with noise everywhere."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    noise: NoiseKind
    sigma: float
    votes: int
    seed: int
    images: int
    quiet: float
    noisy: float
    sites: tuple[SiteAccuracy, ...] = ()


def measure_sites(
    file: Path, kept: Path, data: Labelled, noise: tuple[NoiseKind, float], plan: Plan, make_engine: MakeEngine
) -> PerSite:
    """Measure every site that is not measured yet; kept after each, so that it may go on later.

    A site is silenced in a copy of the graph, in which its sigma is 0; the draws of the others stay the same.

    Raises:
        EvaluationError: `kept` is no such file.
    """
    model = onnx_probes.read(file.read_bytes())
    sites = onnx_probes.sites_of(model)
    numbers = {site.number for site in sites}

    def accuracy(silent: set[int]) -> float:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "silenced.onnx"
            copy.write_bytes(onnx_probes.silenced(model, silent))
            return _accuracy(make_engine(copy), data, noise, plan)

    found = _started(file, kept, data, noise, plan, accuracy, numbers)
    done = {each.site for each in found.sites}
    for site in tqdm([each for each in sites if each.number not in done], unit="site", desc="sites", disable=None):
        one = SiteAccuracy(
            site=site.number,
            layer=site.layer,
            alone=accuracy(numbers - {site.number}),
            all_but=accuracy({site.number}),
        )
        found = found.model_copy(update={"sites": (*found.sites, one)})
        replace_file(kept, f"{found.model_dump_json(indent=1)}\n".encode())
    return found


def _started(
    file: Path,
    kept: Path,
    data: Labelled,
    noise: tuple[NoiseKind, float],
    plan: Plan,
    accuracy: Callable[[set[int]], float],
    numbers: set[int],
) -> PerSite:
    """What was kept of exactly this; else the two accuracies that all sites are compared with."""
    asked: dict[str, Any] = {
        "sha256": sha256_of(file), "noise": noise[0], "sigma": noise[1], "votes": plan.votes, "seed": plan.seed,
        "images": len(data),
    }  # fmt: skip
    if kept.exists():
        try:
            before = PerSite.model_validate_json(kept.read_bytes())
        except ValidationError as error:
            raise EvaluationError(kept, str(error)) from error
        if all(getattr(before, key) == value for key, value in asked.items()):
            return before
    return PerSite(**asked, quiet=accuracy(numbers), noisy=accuracy(set()))


def _accuracy(engine: OnnxRuntime, data: Labelled, noise: tuple[NoiseKind, float], plan: Plan) -> float:
    """The share of single votes that are right."""
    right = votes = 0
    for chosen, logits in logits_by_run(engine, data, noise, plan):
        labels = data.labels[chosen]
        decided = logits.argmax(axis=1).reshape(len(labels), -1)
        right += int((decided == labels[:, None]).sum())
        votes += decided.size
    return right / votes
