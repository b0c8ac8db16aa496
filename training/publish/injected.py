"""Publishing a torch classifier of one's own: noise injected into it, measured and described like any other model."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from pydantic import JsonValue
from torch.utils.flop_counter import FlopCounterMode

from noisevote.evaluation import accuracy as evaluate
from noisevote.evaluation.accuracy import Plan
from noisevote.evaluation.examples import DataSet
from noisevote.evaluation.provenance import git_commit, versions
from noisevote.model_store.manifest import InputSpec, Manifest, Operator, Provenance, Variant
from noisevote.model_store.store import ModelStore
from noisevote.noise_op.contract import DOMAIN, OP_VERSION
from noisevote.noise_op.injection import NoisyModule
from noisevote.noise_op.torch_twin import Draws, GaussianNoise, drawing
from noisevote.training.measure.engines import OnnxRuntime
from noisevote.training.networks.layers import Counts
from noisevote.training.publish import export
from noisevote.training.publish.runs import table


@dataclass(frozen=True)
class Description:
    """What people and the service must know of a model; `input` says what one input is."""

    name: str
    version: str
    title: str
    description: str
    input: InputSpec
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
        StoreError: the version exists, or the store refuses it.
    """
    contents: dict[str, bytes] = {}
    variants = []
    for name, module in modules.items():
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"{name}.onnx"
            metadata = {
                "network": described.name,
                "variant": name,
                "noise": module.kind,
                "sigma_train": f"{module.sigma}",
            }
            export.write(export.published_graph(module.folded(), described.input.shape, metadata), file)
            contents[name] = file.read_bytes()
            variants.append(_variant(name, module, described, data, file, plan))
    manifest = Manifest(
        name=described.name,
        version=described.version,
        title=described.title,
        description=described.description,
        published=datetime.now(UTC).replace(microsecond=0),
        input=described.input,
        classes=data.classes,
        operator=Operator(domain=DOMAIN, version=OP_VERSION),
        variants=tuple(variants),
    )
    return store.publish(manifest, contents)


def count(module: NoisyModule, input_shape: tuple[int, ...]) -> Counts:
    """What one vote costs, by one noiseless forward pass of a zero input; a site counts each time it is computed."""
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


def _variant(name: str, module: NoisyModule, described: Description, data: DataSet, file: Path, plan: Plan) -> Variant:
    engine = OnnxRuntime(file, torch.get_num_threads())
    measured = evaluate.evaluate(engine, file.with_suffix(".json"), data.test, plan)
    costs = count(module, described.input.shape)
    return Variant(
        name=name,
        file=file.name,
        sha256=measured.sha256,
        bytes=file.stat().st_size,
        noise=module.kind,
        sigma_train=module.sigma,
        network=described.name,
        recipe=dict(described.recipe),
        provenance=Provenance(
            data_set=data.name,
            files=data.hashes,
            train_images=len(data.train),
            commit=git_commit(),
            versions=versions(),
        ),
        parameters=costs.parameters,
        multiply_accumulates=costs.macs,
        samples=costs.samples,
        layers=costs.noisy_layers,
        accuracy=tuple(table(measured)),
    )
