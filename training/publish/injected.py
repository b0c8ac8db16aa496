"""Publishing a torch classifier of one's own: noise injected into it, measured and described like any other model."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

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
from noisevote.model_store.manifest import DigitalProduct, Provenance, Site, Variant
from noisevote.model_store.store import ModelStore
from noisevote.noise_op.injection import NoisyModule
from noisevote.noise_op.layer_noise import LayerNoise
from noisevote.noise_op.torch_twin import Draws, GaussianNoise, drawing
from noisevote.training.data.data_set import DataSet
from noisevote.training.errors import TrainingError
from noisevote.training.networks.layers import Counts
from noisevote.training.publish import export, manifests
from noisevote.training.publish.export import Argument, PublishedForm
from noisevote.training.publish.gate import pass_gate
from noisevote.training.publish.manifests import ModelDescription, Training

LOOKED_AT: Final = 8  # examples
CHUNK: Final = 1000  # examples at once


class UnfitDataError(TrainingError):
    """The data and what is published of a network do not fit: the value range, or the classes."""


@dataclass(frozen=True)
class Description(ModelDescription):
    """Describes a model, the recipe that its variants were trained by, and what its forward takes.

    `arguments` is for networks whose input is not one float32 tensor: token ids, or several inputs.
    """

    recipe: Mapping[str, JsonValue]
    arguments: tuple[Argument, ...] = ()


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
        UninjectableError: a module answers no logits, or shows on test examples what `NoisyModule.look` refuses.
        UnfitDataError: test examples are outside of the value range, or there are not as many outputs as classes.
    """
    _refuse_out_of_range(described, data)
    contents: dict[str, bytes] = {}
    variants = []
    with tempfile.TemporaryDirectory() as folder:
        for name, module in modules.items():
            file = Path(folder) / f"{name}.onnx"
            _look(module, described, data)
            _export(name, module, described, file)
            _refuse_other_classes(file, described, data)
            variants.append(_measured(name, module, described, data, file, plan))
            contents[name] = file.read_bytes()
    return store.publish(manifests.manifest(described, data.classes, variants), contents)


def count(module: NoisyModule, input_shape: tuple[int, ...], arguments: Sequence[Argument] = ()) -> Counts:
    """Count what one vote costs, by one noiseless pass of a zero input; a site counts each time it is computed."""
    folded = module.folded()
    samples: list[int] = []

    def record(_: torch.nn.Module, __: object, signal: torch.Tensor) -> None:
        samples.append(signal[0].numel())

    hooks = [site.register_forward_hook(record) for site in folded.modules() if isinstance(site, GaussianNoise)]
    zero = torch.zeros(1, dtype=torch.int64)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), drawing(Draws(sigma=torch.zeros(1, 2), seed=zero, vote=zero)), counter:
        folded(*export.as_arguments(torch.zeros(1, *input_shape), arguments))
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
    graph = export.published_graph(module.published(), described.input.shape, metadata, described.arguments)
    export.write(graph, file)


def _look(module: NoisyModule, described: Description, data: DataSet) -> None:
    """Look at the module with real examples, so that nothing is published that hides a product or mixes rows."""
    examples = torch.from_numpy(data.test.values(slice(LOOKED_AT)))
    module.look(*export.as_arguments(examples, described.arguments))


def _refuse_out_of_range(described: Description, data: DataSet) -> None:
    """The service refuses what is outside of the range, so that nobody could send what was measured."""
    least, most = described.input.value_range
    for start in range(0, len(data.test), CHUNK):
        values = data.test.values(slice(start, start + CHUNK))
        if values.min() < least or values.max() > most:
            raise UnfitDataError(f"input.value_range: test examples have values from {values.min():g} to "
                                 f"{values.max():g}, outside of [{least:g}, {most:g}]")  # fmt: skip


def _refuse_other_classes(file: Path, described: Description, data: DataSet) -> None:
    one = np.arange(1)
    inputs = data.test.values(slice(1))
    logits = OnnxRuntime(file).logits(Feeds(inputs, np.zeros((1, 2), np.float32), one, one, one))
    if logits.shape[1] != len(data.classes):
        outputs, classes = logits.shape[1], len(data.classes)
        raise UnfitDataError(f"classes: {described.name} answers {outputs} logits, data set {data.name} has {classes}")


def _sites(module: NoisyModule) -> list[Site]:
    named = [site for site in module.sites() if isinstance(site, LayerNoise)]
    return [Site(site=site.site, layer=site.name, sigma_scale=site.scale, noise=site.kind) for site in named]


def _measured(name: str, module: NoisyModule, described: Description, data: DataSet, file: Path, plan: Plan) -> Variant:
    """The manifest's entry of an exported module, measured as the plan says."""
    provenance = Provenance(
        data_set=data.name,
        files=data.hashes,
        train_images=len(data.train),
        commit=git_commit(),
        versions=versions(),
    )
    source = partial(_logits, module, _source(module, described))
    examples = data.test.values(slice(0, EXAMPLES))
    found = pass_gate(file, described.input, len(data.classes), source, examples, None)
    engine = OnnxRuntime(file, torch.get_num_threads())
    variant = manifests.variant(
        name,
        file,
        network=described.name,
        training=Training(module.kind, module.sigma, described.recipe, provenance),
        costs=count(module, described.input.shape, described.arguments),
        sites=_sites(module),
        digital=[DigitalProduct(layer=name) for name in module.digital],
        measured=evaluate(engine, file.with_suffix(".json"), data.test, plan),
    )
    return variant.model_copy(update={"checked": found.for_manifest()})


def _source(module: NoisyModule, described: Description) -> PublishedForm:
    """What the file is held against: the module with its norms as they are, or, cut to logits, what is published."""
    published = module.published()
    return PublishedForm(published if published.cut else module, described.arguments, binary=published.cut == "sigmoid")


@torch.no_grad()
def _logits(module: NoisyModule, source: PublishedForm, feeds: Feeds) -> NDArray[np.float32]:
    """What the source computes in evaluation mode; the module's own mode is as before."""
    training = module.training
    try:
        found = source.eval()(*map(torch.from_numpy, (feeds.input, feeds.sigma, feeds.seed, feeds.vote, feeds.row)))
    finally:
        module.train(training)
    return np.asarray(found.numpy())
