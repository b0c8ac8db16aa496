"""`noisevote evaluate MODEL --data D -o report/`: a model measured on one's own data."""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import httpx
from pydantic import TypeAdapter, ValidationError
from tqdm import tqdm

from noisevote.evaluation import figures, results
from noisevote.evaluation.accuracy_points import accuracy_points
from noisevote.evaluation.data import DataError, picked, read_data
from noisevote.evaluation.decisions import Decisions
from noisevote.evaluation.examples import Labelled
from noisevote.evaluation.flags import STORE, add_measuring, plan_of, sigmas
from noisevote.evaluation.onnx_runtime import OnnxRuntime, usable_threads
from noisevote.evaluation.over_http import ServedModel, ServerError
from noisevote.evaluation.plan import Plan
from noisevote.evaluation.provenance import git_commit, versions
from noisevote.evaluation.report import measure_into, write_report
from noisevote.evaluation.results import Evaluation, EvaluationError
from noisevote.model_store.manifest import MANIFEST_FILE, InputSpec, Manifest, Name, Variant
from noisevote.model_store.store import ModelStore, StoreError

DONE, UNUSABLE = 0, 2
NAME: Final[TypeAdapter[str]] = TypeAdapter(Name)


class EvaluateError(Exception):
    """Something that was given cannot be used; the message names it."""


@dataclass(frozen=True)
class Measurable:
    """A variant and where its file lies, with the manifest that describes it."""

    manifest: Manifest
    variant: Variant
    file: Path

    @property
    def spec(self) -> InputSpec:
        """What it takes."""
        return self.manifest.input


def evaluate_model(
    model: str | Path,
    data: str | Path,
    report: str | Path,
    *,
    plan: Plan | None = None,
    variant: str | None = None,
    examples: int | None = None,
    store: Path = STORE,
) -> dict[str, Evaluation]:
    """Measure a published model on labelled data and write a report; returns what was measured, by variant.

    Args:
        model: its name, `name/version`, or the path of one of its files in a model store.
        data: a folder of class folders with images, an .npz with `inputs` and `labels`, or MNIST's idx files.
        report: folder to write to; what it holds of the same files, seed and examples is not measured again.
        plan: kinds, sigmas, votes and reads; None: multiplicative, sigma 0 … 1 in steps of 0.1, 1 to 50 votes.
        variant: its name; None: all of them.
        examples: so many, drawn by the plan's seed; None: all.
        store: folder of published models.

    Raises:
        EvaluateError: no such model.
        DataError: the data cannot be read or do not fit.
        EvaluationError: a file of results is damaged, or logits are no numbers.
    """
    plan = plan or Plan(("multiplicative",), sigmas("0:1:0.1"), 50, 0, (1, 5, 20, 50))
    found = measurables(str(model), variant, store)
    labelled = read_data(Path(data), found[0].spec, found[0].manifest.classes)
    chosen = picked(labelled, examples, plan.seed)
    classes = found[0].manifest.classes
    return {each.variant.name: measure_into(Path(report), _engine(each), each.variant.name, chosen, plan, classes)
            for each in found}  # fmt: skip


def measurables(model: str, variant: str | None, store: Path) -> list[Measurable]:
    """The variants that are meant by a name, or by the path of a file in a model store.

    Raises:
        EvaluateError: there is no such model or variant.
    """
    path = Path(model)
    if path.suffix == ".onnx":
        if not (path.parent / MANIFEST_FILE).exists():
            raise EvaluateError(f"{path}: no {MANIFEST_FILE} beside it says what it takes; publish it first")
        root, name, version = path.resolve().parents[2], path.resolve().parents[1].name, path.resolve().parent.name
        manifest = ModelStore(root).manifest(name, version)
        wanted = [each for each in manifest.variants if each.file == path.name]
    else:
        name, _, version = model.partition("/")
        root, manifest = store, ModelStore(store).manifest(name, version or None)
        wanted = [each for each in manifest.variants if variant is None or each.name == variant]
    if not wanted:
        known = ", ".join(each.name for each in manifest.variants)
        raise EvaluateError(
            f"{manifest.name} {manifest.version} has no variant {variant or path.name!r}; it has {known}"
        )
    folder = root / manifest.name / manifest.version
    return [Measurable(manifest, each, folder / each.file) for each in wanted]


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate. Returns 0, or 2 where something cannot be used."""
    asked = command_parser().parse_args(arguments)
    try:
        if asked.server is not None:
            _over_http(asked)
        else:
            _in_process(asked)
    except (EvaluateError, DataError, EvaluationError, StoreError, ServerError, httpx.HTTPError, OSError) as error:
        print(f"noisevote evaluate: {error}", file=sys.stderr)
        return UNUSABLE
    except ValidationError as error:
        print(f"noisevote evaluate: {error.errors()[0]['msg']}", file=sys.stderr)
        return UNUSABLE
    print(f"{asked.output}: {', '.join(sorted(each.name for each in asked.output.glob('*.md')))}")
    return DONE


def _in_process(asked: argparse.Namespace) -> None:
    plan = plan_of(asked)
    variant = None if asked.variant == "all" else asked.variant
    found = measurables(asked.model, variant, asked.model_store)
    evaluated = evaluate_model(
        asked.model, asked.data, asked.output, plan=plan, variant=variant, examples=asked.examples,
        store=asked.model_store,
    )  # fmt: skip
    if asked.per_site is not None:
        data = picked(read_data(asked.data, found[0].spec, found[0].manifest.classes), asked.examples, asked.seed)
        for each in found:
            _per_site(asked, each, data, plan)
    if asked.publish:
        folder = publish_measured(found, evaluated, ModelStore(asked.model_store))
        print(f"published with these accuracies: {folder}")


def publish_measured(found: Sequence[Measurable], evaluated: dict[str, Evaluation], store: ModelStore) -> Path:
    """The next version of a model, with the same files, and in the tables what was measured; returns its folder.

    A manifest never changes, so that a version stays what it was.
    """
    before = found[0].manifest
    variants = [
        each.model_copy(update={"accuracy": accuracy_points(evaluated[each.name]), "measured_by": "onnxruntime"})
        if each.name in evaluated else each
        for each in before.variants
    ]  # fmt: skip
    version = str(int(store.versions(before.name)[-1]) + 1)
    now = datetime.now(UTC).replace(microsecond=0)
    changed = before.model_copy(update={"version": version, "published": now, "variants": tuple(variants)})
    contents = {each.name: store.read(before, each) for each in before.variants}
    return store.publish(Manifest.model_validate(changed.model_dump()), contents)


def _per_site(asked: argparse.Namespace, each: Measurable, data: Labelled, plan: Plan) -> None:
    from noisevote.evaluation.per_site import measure_sites  # noqa: PLC0415  # needs onnx, which the rest does not

    kept = asked.output / f"{each.variant.name}-sites.json"
    noise = (plan.kinds[0], asked.per_site)
    one_vote = Plan(plan.kinds, plan.sigmas, asked.site_votes, plan.seed)
    found = measure_sites(each.file, kept, data, noise, one_vote, lambda copy: _engine_of(copy, each.variant))
    names = {site.site: site.layer for site in each.variant.sites}
    rows = ((names.get(site.site, f"site {site.site}"), site.alone, site.all_but) for site in found.sites)
    title = f"{each.manifest.name} {each.variant.name}: {found.noise} sigma {found.sigma:g}, {found.images} examples"
    figure = figures.per_site_figure(rows, found.quiet, found.noisy, title)
    figure.savefig(asked.output / f"{each.variant.name}-sites.png", dpi=figures.DPI, metadata={"Software": None})


def _over_http(asked: argparse.Namespace) -> None:
    """Measure what a server answers; kept as the other measurements are."""
    if asked.publish or asked.per_site is not None:
        raise EvaluateError("--server: --publish and --per-site need the files, not a server")
    name, _, version = asked.model.partition("/")
    variant = "auto" if asked.variant in {None, "all"} else asked.variant
    served = ServedModel(asked.server, os.environ.get("NOISEVOTE_KEY"), name, version or None, variant)
    manifest = Manifest.model_validate(served.description()["manifest"])
    data = picked(read_data(asked.data, manifest.input, manifest.classes), asked.examples, asked.seed)
    plan = plan_of(asked)
    asked.output.mkdir(parents=True, exist_ok=True)
    stem, chosen = f"{variant}-served", manifest.variant(variant)
    fresh = Evaluation(sha256=chosen.sha256 if chosen else f"{name} {manifest.version} {variant}", seed=plan.seed,
                       images=len(data), commit=git_commit(), versions=versions(), isa=None)  # fmt: skip
    kept = asked.output / f"{stem}.json"
    found = results.read(kept) if kept.exists() else fresh
    found = found if (found.sha256, found.seed, found.images) == (fresh.sha256, fresh.seed, fresh.images) else fresh
    decided = Decisions.beside(asked.output / f"{stem}.npz", len(data), fresh.sha256)
    missing = [cell for cell in plan.cells() if found.cell(*cell) is None]
    total = len(data) * sum(sum(plan.counts or ()) if cell[1] else 1 for cell in missing)
    with tqdm(total=total, unit="vote", unit_scale=True, desc=stem, disable=None) as bar:
        for noise in missing:
            cell, what = served.cell(data, noise, plan, bar.update)
            decided.put(noise, what)
            decided.end_of_cell(noise)
            found = found.with_cells([cell])
            results.write(kept, found)
    write_report(asked.output, stem, found, decided, data, manifest.classes)


def _engine(each: Measurable) -> OnnxRuntime:
    if results.sha256_of(each.file) != each.variant.sha256:
        raise EvaluateError(f"{each.file}: is not the file that its manifest describes; its sha256 is another")
    return _engine_of(each.file, each.variant)


def _engine_of(file: Path, variant: Variant) -> OnnxRuntime:
    return OnnxRuntime(file, usable_threads(), samples=variant.samples, rows_per_run=variant.rows_per_run)


def command_parser() -> argparse.ArgumentParser:
    """The command's flags."""
    parser = argparse.ArgumentParser(
        prog="noisevote evaluate",
        description="Measure a published model on your data: accuracies as JSON, a table and figures.",
        epilog="What the report's folder holds of the same file, seed and examples is not measured again. A server's "
        "key is read from NOISEVOTE_KEY. Exit status: 0 done, 2 something cannot be used.",
        allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("model", help="name, name/version, or the path of a file in a model store")
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        help="class folders with images, .npz with inputs and labels, or MNIST's idx files",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the report")
    parser.add_argument("--variant", help="default: all, each with a report of its own; of a server: auto")
    add_measuring(parser, sigmas("0:1:0.1"), (1, 5, 20, 50), (1,))
    parser.add_argument("--server", help="URL of a running server to measure, instead of the files")
    parser.add_argument("--per-site", type=float, metavar="SIGMA",
                        help="also measure noise of this sigma at one site alone, and at all but one")  # fmt: skip
    parser.add_argument("--site-votes", type=int, default=1, help="votes an example for that; default: 1")
    parser.add_argument("--publish", action="store_true",
                        help="publish the accuracies: the next version, with the same files")  # fmt: skip
    parser.add_argument("--model-store", type=Path, default=STORE, help="folder of published models")
    return parser


if __name__ == "__main__":
    sys.exit(main())
