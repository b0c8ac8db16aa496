"""Manifests of trained networks, whatever they were made by: the one place that fills them in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import JsonValue

from noisevote.evaluation.accuracy_points import accuracy_points
from noisevote.evaluation.results import Evaluation
from noisevote.model_store.manifest import DigitalProduct, InputSpec, Manifest, Operator, Provenance, Site, Variant
from noisevote.model_store.store import digest
from noisevote.noise_op import onnx_probes
from noisevote.noise_op.contract import DOMAIN, OP_VERSION, NoiseKind
from noisevote.noise_op.onnx_versions import operator_version
from noisevote.training.networks.layers import Counts


@dataclass(frozen=True)
class ModelDescription:
    """Describes a model to people and to the service; `input` says what one input is."""

    name: str
    version: str
    title: str
    description: str
    input: InputSpec


@dataclass(frozen=True)
class Training:
    """How the network of a variant was trained: the noise, the recipe, and where it comes from.

    `certifies` is the sigma of additive noise on the input, where that is the network's only noise.
    """

    noise: NoiseKind
    sigma: float
    recipe: Mapping[str, JsonValue]
    provenance: Provenance
    certifies: float | None = None


def manifest(described: ModelDescription, classes: Sequence[str], variants: Sequence[Variant]) -> Manifest:
    """The manifest of a version that is published now."""
    return Manifest(
        name=described.name,
        version=described.version,
        title=described.title,
        description=described.description,
        published=datetime.now(UTC).replace(microsecond=0),
        input=described.input,
        classes=tuple(classes),
        operator=Operator(domain=DOMAIN, version=OP_VERSION),
        variants=tuple(variants),
    )


def variant(
    name: str,
    file: Path,
    *,
    network: str,
    training: Training,
    costs: Counts,
    measured: Evaluation,
    sites: Sequence[Site] = (),
    digital: Sequence[DigitalProduct] = (),
) -> Variant:
    """The manifest's entry of an exported and measured file."""
    content = file.read_bytes()
    return Variant(
        name=name,
        file=file.name,
        sha256=digest(content),
        bytes=len(content),
        noise=training.noise,
        sigma_train=training.sigma,
        network=network,
        recipe=dict(training.recipe),
        provenance=training.provenance,
        parameters=costs.parameters,
        multiply_accumulates=costs.macs,
        samples=costs.samples,
        layers=costs.noisy_layers,
        accuracy=accuracy_points(measured),
        measured_by=measured.measured_by,
        sites=tuple(sites),
        digital=tuple(digital),
        certifies=training.certifies,
        operator_version=None if (version := operator_version(onnx_probes.read(content))) == OP_VERSION else version,
    )
