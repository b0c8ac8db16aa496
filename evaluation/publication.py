"""A noisy ONNX file on its way through the gate into the model store, measured on the way."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from noisevote.evaluation.accuracy_points import accuracy_points
from noisevote.evaluation.costs import FileCosts, costs_of
from noisevote.evaluation.examples import Labelled
from noisevote.evaluation.gate import EXAMPLES, Candidate, examine
from noisevote.evaluation.gate_report import GateReport
from noisevote.evaluation.injection_record import InjectionRecord
from noisevote.evaluation.onnx_runtime import OnnxRuntime, usable_threads
from noisevote.evaluation.plan import Plan
from noisevote.evaluation.report import measure_into
from noisevote.evaluation.results import Evaluation
from noisevote.model_store.manifest import (
    AccuracyPoint,
    DigitalProduct,
    InputSpec,
    Manifest,
    Operator,
    Site,
    Variant,
)
from noisevote.model_store.store import ModelStore, digest
from noisevote.noise_op import onnx_probes
from noisevote.noise_op.contract import DOMAIN
from noisevote.noise_op.onnx_versions import operator_version


@dataclass(frozen=True)
class Publication:
    """What is to be published, and how it is to be described.

    Attributes:
        noisy: the noisy file.
        record: what was kept beside it.
        name, title, description: of the model.
        version: None: the next one.
        variant: its name.
        classes: names of the classes.
        spec: what the file takes.
    """

    noisy: Path
    record: InjectionRecord
    name: str
    title: str
    description: str
    version: str | None
    variant: str
    classes: tuple[str, ...]
    spec: InputSpec


def publish(
    publication: Publication,
    store: ModelStore,
    *,
    source: Path | None = None,
    data: Labelled | None = None,
    plan: Plan | None = None,
    report: Path | None = None,
) -> tuple[Manifest, Path]:
    """Examine, measure and publish a noisy file; returns the manifest and its folder.

    Args:
        publication: what.
        store: where.
        source: the file that noise was put into; None: where it was then.
        data: what the gate tries it on, and accuracies are measured on; None: random inputs, and no table.
        plan: what to measure.
        report: folder of a report about it; None: none is made.

    Raises:
        GateError: it may not be published.
        RecordError: the source is not there.
        StoreError: the version exists.
    """
    content = publication.noisy.read_bytes()
    digital = [each.layer for each in publication.record.products if each.site is None]
    candidate = Candidate(
        content, publication.spec, len(publication.classes), publication.record.open_source(source), digital
    )
    examples = None if data is None else data.values(_spread(len(data)))
    found = examine(candidate, examples)
    costs = costs_of(onnx_probes.read(content), publication.spec)
    accuracy: tuple[AccuracyPoint, ...] = ()
    if data is not None and plan is not None:
        accuracy = accuracy_points(_measured(publication, costs, found, data, plan, report))
    variant = _variant(publication, content, costs, found, accuracy)
    operator = Operator(domain=DOMAIN, version=operator_version(onnx_probes.read(content)))
    manifest = _manifest(publication, variant, operator, store.versions(publication.name))
    return manifest, store.publish(manifest, {publication.variant: content})


def _spread(count: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Up to 32 places evenly over all examples, which may be in the order of their classes."""
    return np.unique(np.linspace(0, count - 1, EXAMPLES).astype(np.int64))


def _measured(
    publication: Publication, costs: FileCosts, found: GateReport, data: Labelled, plan: Plan, report: Path | None
) -> Evaluation:
    engine = OnnxRuntime(publication.noisy, usable_threads(), samples=costs.samples, rows_per_run=found.rows_per_run)
    if report is not None:
        return measure_into(report, engine, publication.variant, data, plan, publication.classes)
    with tempfile.TemporaryDirectory() as folder:
        return measure_into(Path(folder), engine, publication.variant, data, plan, publication.classes)


def _variant(
    publication: Publication,
    content: bytes,
    costs: FileCosts,
    found: GateReport,
    accuracy: tuple[AccuracyPoint, ...],
) -> Variant:
    record = publication.record
    return Variant(
        name=publication.variant,
        file=f"{publication.variant}.onnx",
        sha256=digest(content),
        bytes=len(content),
        noise=record.noise,
        sigma_train=0,
        network=publication.name,
        parameters=costs.parameters,
        multiply_accumulates=costs.macs,
        samples=costs.samples,
        layers=costs.layers,
        accuracy=accuracy,
        sites=_sites(record),
        digital=_digital(record),
        cut_off=None if record.head == "none" else record.head,
        rows_per_run=found.rows_per_run,
        checked=found.for_manifest(),
    )


def _sites(record: InjectionRecord) -> tuple[Site, ...]:
    """The products that noise was put behind."""
    return tuple(
        Site(site=each.site, layer=each.layer, operator=each.operator, sigma_scale=each.sigma_scale)
        for each in record.products
        if each.site is not None
    )


def _digital(record: InjectionRecord) -> tuple[DigitalProduct, ...]:
    """The products that are computed without noise, and why."""
    return tuple(
        DigitalProduct(layer=each.layer, operator=each.operator, reason=each.reason)
        for each in record.products
        if each.site is None
    )


def _manifest(publication: Publication, variant: Variant, operator: Operator, versions: Sequence[str]) -> Manifest:
    return Manifest(
        name=publication.name,
        version=publication.version or str(int(versions[-1]) + 1 if versions else 1),
        title=publication.title,
        description=publication.description,
        published=datetime.now(UTC).replace(microsecond=0),
        input=publication.spec,
        classes=publication.classes,
        operator=operator,
        variants=(variant,),
    )
