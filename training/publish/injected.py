"""Publishing a torch classifier of one's own: noise injected into it, measured and described like any other model."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import JsonValue
from torch.utils.flop_counter import FlopCounterMode

from noisevote.engine.feeds import Feeds
from noisevote.evaluation.accuracy import evaluate
from noisevote.evaluation.gate import EXAMPLES
from noisevote.evaluation.onnx_runtime import OnnxRuntime
from noisevote.evaluation.plan import Plan
from noisevote.evaluation.provenance import git_commit, versions
from noisevote.model_store.manifest import Provenance, Variant
from noisevote.model_store.store import ModelStore
from noisevote.noise_op.injection import NoisyModule
from noisevote.noise_op.torch_twin import Draws, GaussianNoise, drawing
from noisevote.training.data.data_set import DataSet
from noisevote.training.networks.layers import Counts
from noisevote.training.publish import export, manifests
from noisevote.training.publish.gate import pass_gate
from noisevote.training.publish.manifests import ModelDescription, Training


@dataclass(frozen=True)
class Description(ModelDescription):
    """Describes a model, and the recipe that its variants were trained by."""

    recipe: Mapping[str, JsonValue]


def publish(
    modules: Mapping[str, NoisyModule], described: Description, data: DataSet, store: ModelStore, plan: Plan
) -> Path:
    """Export the modules, measure each on all test examples, and publish them as variants; returns the folder.

    Args:
        modules: variant name to trained module, each with the sigma that it was trained under.
        described: what the manifest says.
        data: what they were trained and are measured on.
        store: where to publish.
        plan: kinds, sigmas and votes of the measured table.

    Raises:
        RefusedFileError: the gate refuses a file.
        StoreError: the version exists, or the store refuses it.
    """
    contents: dict[str, bytes] = {}
    variants = []
    with tempfile.TemporaryDirectory() as folder:
        for name, module in modules.items():
            file = Path(folder) / f"{name}.onnx"
            _export(name, module, described, file)
            variants.append(_measured(name, module, described, data, file, plan))
            contents[name] = file.read_bytes()
    return store.publish(manifests.manifest(described, data.classes, variants), contents)


def count(module: NoisyModule, input_shape: tuple[int, ...]) -> Counts:
    """Count what one vote costs, by one noiseless pass of a zero input; a site counts each time it is computed."""
    folded = module.folded()
    samples: list[int] = []

    def record(_: torch.nn.Module, __: object, signal: torch.Tensor) -> None:
        samples.append(signal[0].numel())

    hooks = [site.register_forward_hook(record) for site in folded.modules() if isinstance(site, GaussianNoise)]
    zero = torch.zeros(1, dtype=torch.int64)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), drawing(Draws(sigma=torch.zeros(1, 2), seed=zero, vote=zero)), counter:
        folded(torch.zeros(1, *input_shape))
    for hook in hooks:
        hook.remove()
    parameters = sum(weights.numel() for weights in folded.parameters())
    # The counter has two operations for each multiply-accumulate.
    return Counts(parameters, counter.get_total_flops() // 2, sum(samples), len(samples))


def _export(name: str, module: NoisyModule, described: Description, file: Path) -> None:
    metadata = {
        "network": described.name,
        "variant": name,
        "noise": module.kind,
        "sigma_train": f"{module.sigma}",
    }
    export.write(export.published_graph(module.folded(), described.input.shape, metadata), file)


def _measured(name: str, module: NoisyModule, described: Description, data: DataSet, file: Path, plan: Plan) -> Variant:
    """The manifest's entry of an exported module, measured as the plan says."""
    provenance = Provenance(
        data_set=data.name,
        files=data.hashes,
        train_images=len(data.train),
        commit=git_commit(),
        versions=versions(),
    )
    found = pass_gate(
        file, described.input, len(data.classes), partial(_logits, module), data.test.values(slice(0, EXAMPLES)), None
    )
    engine = OnnxRuntime(file, torch.get_num_threads())
    variant = manifests.variant(
        name,
        file,
        network=described.name,
        training=Training(module.kind, module.sigma, described.recipe, provenance),
        costs=count(module, described.input.shape),
        measured=evaluate(engine, file.with_suffix(".json"), data.test, plan),
    )
    return variant.model_copy(update={"checked": found.for_manifest()})


@torch.no_grad()
def _logits(module: NoisyModule, feeds: Feeds) -> NDArray[np.float32]:
    """What the module as it was trained computes in evaluation mode, its norms not folded."""
    sigma, seed, vote, row = (torch.from_numpy(each) for each in (feeds.sigma, feeds.seed, feeds.vote, feeds.row))
    training = module.training
    try:
        with drawing(Draws(sigma, seed, vote, row)):
            found = module.eval()(torch.from_numpy(feeds.input))
    finally:
        module.train(training)
    return np.asarray(found.numpy())
