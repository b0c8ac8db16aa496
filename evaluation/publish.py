"""`noisevote publish noisy.onnx --name … --classes …`: through the gate into the model store, measured on your data."""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
from pydantic import ValidationError

from noisevote.engine.preprocessing import normalised_range
from noisevote.evaluation import injection_record
from noisevote.evaluation.accuracy_points import accuracy_points
from noisevote.evaluation.costs import FileCosts, costs_of
from noisevote.evaluation.data import DataError, picked, read_data
from noisevote.evaluation.examples import Labelled
from noisevote.evaluation.flags import STORE, add_measuring, numbers, plan_of, sigmas
from noisevote.evaluation.gate import EXAMPLES, Candidate, examine
from noisevote.evaluation.gate_report import GateError, GateReport
from noisevote.evaluation.injection_record import InjectionRecord, RecordError
from noisevote.evaluation.onnx_runtime import OnnxRuntime, usable_threads
from noisevote.evaluation.plan import Plan
from noisevote.evaluation.report import measure_into
from noisevote.evaluation.results import Evaluation, EvaluationError
from noisevote.model_store.manifest import (
    AccuracyPoint,
    DigitalProduct,
    InputSpec,
    Manifest,
    Operator,
    Preprocess,
    Site,
    Variant,
)
from noisevote.model_store.store import ModelStore, StoreError, digest
from noisevote.noise_op import onnx_probes
from noisevote.noise_op.contract import DOMAIN
from noisevote.noise_op.onnx_versions import operator_version

DONE, REFUSED, UNUSABLE = 0, 1, 2
PREFIXES: Final = {"multiplicative": "mul", "additive": "add"}


class PublishError(Exception):
    """Something that was given cannot be used; the message names it."""


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Publish. Returns 0, 1 where the gate refuses, 2 where something given cannot be used."""
    asked = command_parser().parse_args(arguments)
    try:
        publication = _publication(asked)
        data = None if asked.data is None else _data(asked, publication)
        plan = None if data is None else plan_of(asked)
        store = ModelStore(asked.model_store)
        manifest, folder = publish(publication, store, source=asked.source, data=data, plan=plan, report=asked.report)
    except GateError as error:
        print(f"noisevote publish: refused: {error}", file=sys.stderr)
        return REFUSED
    except (PublishError, RecordError, DataError, EvaluationError, StoreError, OSError) as error:
        print(f"noisevote publish: {error}", file=sys.stderr)
        return UNUSABLE
    except ValidationError as error:
        (problem, *_) = error.errors()
        place = ".".join(str(part) for part in problem["loc"]) or "manifest"
        print(f"noisevote publish: {place}: {problem['msg']}", file=sys.stderr)
        return UNUSABLE
    print(manifest.model_dump_json(indent=1) if asked.json else told(manifest, folder))
    return DONE


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
    manifest = _manifest(publication, store, content, costs, found, accuracy)
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


def _manifest(
    publication: Publication,
    store: ModelStore,
    content: bytes,
    costs: FileCosts,
    found: GateReport,
    accuracy: tuple[AccuracyPoint, ...],
) -> Manifest:
    record = publication.record
    variant = Variant(
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
        sites=tuple(
            Site(site=each.site, layer=each.layer, operator=each.operator, sigma_scale=each.sigma_scale)
            for each in record.products
            if each.site is not None
        ),
        digital=tuple(
            DigitalProduct(layer=each.layer, operator=each.operator, reason=each.reason)
            for each in record.products
            if each.site is None
        ),
        cut_off=None if record.head == "none" else record.head,
        rows_per_run=found.rows_per_run,
        checked=found.for_manifest(),
    )
    versions = store.versions(publication.name)
    return Manifest(
        name=publication.name,
        version=publication.version or str(int(versions[-1]) + 1 if versions else 1),
        title=publication.title,
        description=publication.description,
        published=datetime.now(UTC).replace(microsecond=0),
        input=publication.spec,
        classes=publication.classes,
        operator=Operator(domain=DOMAIN, version=operator_version(onnx_probes.read(content))),
        variants=(variant,),
    )


def told(manifest: Manifest, folder: Path) -> str:
    """What was published, for people."""
    (variant,) = manifest.variants
    checked = variant.checked
    assert checked is not None
    on = f"{checked.examples} {'of your' if checked.given else 'random'} examples"
    far = (
        ""
        if checked.error is None
        else f"{checked.error:.2g} from its source at most (logits up to {checked.scale:.3g}), "
    )
    lines = [
        f"{manifest.name} {manifest.version}, variant {variant.name}: {folder}",
        f"On {on}: {far}rows independent, the noise of {checked.sites} sites as asked.",
    ]
    if not checked.given:
        lines.append("No --data was given: whether it fits real inputs, and how accurate it is, is not known.")
    best: dict[float, AccuracyPoint] = {}
    for point in variant.accuracy:
        if point.reads == 1 and (point.sigma not in best or point.votes > best[point.sigma].votes):
            best[point.sigma] = point
    lines += [f"  sigma {sigma:g}: {point.accuracy:.2%} with {point.votes} votes" for sigma, point in best.items()]
    return "\n".join(lines)


def read_classes(file: Path) -> tuple[str, ...]:
    """Names of classes, one a line, or a JSON list; their order is that of the outputs.

    Raises:
        PublishError: it is neither.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PublishError(f"--classes: {file} cannot be read as text ({error})") from error
    if file.suffix == ".json":
        given = json.loads(text)
        if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
            raise PublishError(f"--classes: {file} is no JSON list of names")
        return tuple(given)
    names = [line.strip() for line in text.splitlines()]
    while names and not names[-1]:
        names.pop()
    if "" in names:
        raise PublishError(f"--classes: line {names.index('') + 1} of {file} is empty")
    return tuple(names)


def input_spec(asked: argparse.Namespace, record: InjectionRecord) -> InputSpec:
    """What the file takes, from flags and the record.

    Raises:
        PublishError: flags contradict each other or the file.
    """
    try:
        wanted = asked.resize is not None or asked.mean or asked.std or asked.bgr
        preprocess = None
        if wanted:
            channels = "bgr" if asked.bgr else "rgb"
            preprocess = Preprocess(resize=asked.resize or "stretch", channels=channels, mean=asked.mean, std=asked.std)
        given = tuple(asked.value_range) if asked.value_range else None
        if given is None and record.integers:
            raise PublishError(
                "--value-range: the model takes whole numbers; say the least and the largest, as in 0 255"
            )
        value_range = given or (normalised_range(preprocess) if preprocess else (0.0, 1.0))
        return InputSpec(shape=record.shape, value_range=value_range, integers=record.integers, preprocess=preprocess)
    except ValidationError as error:
        raise PublishError("; ".join(problem["msg"] for problem in error.errors())) from error


def _publication(asked: argparse.Namespace) -> Publication:
    record = injection_record.read(asked.noisy)
    return Publication(
        noisy=asked.noisy,
        record=record,
        name=asked.name,
        title=asked.title or asked.name,
        description=asked.description,
        version=asked.version,
        variant=asked.variant or f"{PREFIXES[record.noise]}-0.0",
        classes=read_classes(asked.classes),
        spec=input_spec(asked, record),
    )


def _data(asked: argparse.Namespace, publication: Publication) -> Labelled:
    found = read_data(asked.data, publication.spec, publication.classes)
    return picked(found, asked.examples, asked.seed)


def resize(text: str) -> str | int:
    """The word stretch, or a number of pixels."""
    return int(text) if text.isdecimal() else text


def command_parser() -> argparse.ArgumentParser:
    """The command's flags."""
    parser = argparse.ArgumentParser(
        prog="noisevote publish",
        description="Examine a noisy file that `noisevote inject` made, measure it on your data, and publish it.",
        epilog="Exit status: 0 published, 1 refused, 2 something given cannot be used.",
        allow_abbrev=False,
    )
    parser.add_argument("noisy", type=Path, help="the noisy file")
    parser.add_argument("--name", required=True, help="of the model: small letters, digits, _ . -")
    parser.add_argument("--classes", type=Path, required=True, help="file of their names, one a line, or a JSON list")
    parser.add_argument("--version", help="default: the next one")
    parser.add_argument("--title", default="")
    parser.add_argument("--description", default="")
    parser.add_argument("--variant", help="name of the variant; default: mul-0.0 or add-0.0")
    parser.add_argument("--source", type=Path, help="the file that noise was put into; default: where it was then")
    image = parser.add_argument_group("inputs")
    image.add_argument("--value-range", type=float, nargs=2, metavar=("LOW", "HIGH"), help="of inputs; default: 0 1")
    image.add_argument("--resize", type=resize, metavar="PIXELS", help="declare how images of other sizes are resized: "
                       "their shorter side, then the middle is cut out; or stretch")  # fmt: skip
    image.add_argument(
        "--mean",
        type=numbers,
        default=(),
        metavar="R,G,B",
        help="declare that images are normalised: of brightness 0 … 1",
    )
    image.add_argument("--std", type=numbers, default=(), metavar="R,G,B")
    image.add_argument("--bgr", action="store_true", help="declare that channels are blue, green, red")
    parser.add_argument(
        "--data", type=Path, help="your examples: class folders with images, .npz, or MNIST's idx files"
    )
    add_measuring(parser, sigmas("0:1:0.2"), (1, 5, 20), (1,))
    parser.add_argument("--report", type=Path, help="folder for a report with figures")
    parser.add_argument("--model-store", type=Path, default=STORE, help="folder of published models")
    parser.add_argument("--json", action="store_true", help="for programs: the manifest")
    return parser


if __name__ == "__main__":
    sys.exit(main())
