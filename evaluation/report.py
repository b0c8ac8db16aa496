"""A report of measured accuracies: the record as JSON, a table in Markdown, and figures."""

from collections.abc import Sequence
from pathlib import Path

from noisevote.evaluation import figures, results
from noisevote.evaluation.accuracy import evaluate
from noisevote.evaluation.decisions import Decisions
from noisevote.evaluation.engine import Engine
from noisevote.evaluation.examples import Labelled
from noisevote.evaluation.plan import Plan
from noisevote.evaluation.results import Cell, Evaluation


def measure_into(
    folder: Path, engine: Engine, variant: str, data: Labelled, plan: Plan, classes: Sequence[str]
) -> Evaluation:
    """Measure what is missing, and write the report of a variant: `<variant>.json`, `.npz`, `.md` and figures.

    Raises:
        EvaluationError: a file of results is damaged, or logits are no numbers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    decided = Decisions.beside(folder / f"{variant}.npz", len(data), results.sha256_of(engine.file))
    found = evaluate(engine, folder / f"{variant}.json", data, plan, decided)
    write_report(folder, variant, found, decided, data, classes)
    return found


def write_report(
    folder: Path, variant: str, found: Evaluation, decided: Decisions, data: Labelled, classes: Sequence[str]
) -> None:
    """Write the table and the figures of what was measured."""
    drawn = figures.draw(folder, variant, found, decided, data.labels, classes)
    (folder / f"{variant}.md").write_text(markdown(variant, found, drawn), encoding="utf-8")


def markdown(variant: str, found: Evaluation, drawn: Sequence[Path]) -> str:
    """The table: accuracy in percent by noise, reads and sigma over numbers of votes; then the figures."""
    counts = sorted({each.votes for cell in found.cells for each in cell.measured})
    lines = [
        f"# {variant}",
        "",
        f"Accuracy in percent of the mode of so many votes, on {found.images} examples; seed {found.seed}. The largest "
        "mean probability of the same votes is in brackets.",
        "",
        f"| noise | reads | sigma | {' | '.join(f'votes: {count}' for count in counts)} |",
        f"|---|---:|---:|{'---:|' * len(counts)}",
    ]
    lines += [_row(cell, counts) for cell in sorted(found.cells, key=lambda each: (each.noise, each.reads, each.sigma))]
    lines += ["", *(f"![{path.stem}]({path.name})" for path in drawn), ""]
    lines.append(
        f"sha256 {found.sha256}, {', '.join(f'{name} {version}' for name, version in found.versions.items())}."
    )
    return "\n".join(lines) + "\n"


def _row(cell: Cell, counts: Sequence[int]) -> str:
    by_votes = {each.votes: each for each in cell.measured}
    cells = []
    for count in counts:
        each = by_votes.get(1 if cell.sigma == 0 else count)
        soft = "" if each is None or each.soft_accuracy is None else f" ({100 * each.soft_accuracy:.2f})"
        cells.append("" if each is None else f"{100 * each.accuracy:.2f}{soft}")
    return f"| {cell.noise if cell.sigma else '–'} | {cell.reads} | {cell.sigma:g} | {' | '.join(cells)} |"
