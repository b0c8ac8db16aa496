"""Two tables beside the paper's figures: of runs that keep to the paper's recipe, and of the best of any recipe."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from noisevote.evaluation.results import Measured
from noisevote.noise_op.contract import NoiseKind
from noisevote.training.report import paper
from noisevote.training.report.departures import common, departures, keeping
from noisevote.training.report.record import Record, best
from noisevote.training.report.rows import header, percent, row

ABOUT: Final = """
- *Paper's recipe* means here: the paper's network, noise after every product while training too, a loss of one noisy
  run of each example, examples as they are (no augmentation), no teacher, and batch norms estimated under the noise of
  training. Optimiser, length, learning rate, a ramp of sigma and an average of the weights may be ours. Where such a
  run reaches the paper's figure, it is reproduced; no other can say so.
- *Best recipe* is the best of all runs at each sigma, calibrated ones too. Below each stands its variant, and what of
  it is not the paper's recipe: *loss of v × d votes* is that of the mean probability of v votes with d draws of the
  last product's noise each; *calibrated* are batch norms estimated anew, under the second sigma of the name; *before*
  is what holds of the weights that training started from, as far as records tell.

The best at each sigma is picked by these very test accuracies, as in the paper.
""".strip()


@dataclass(frozen=True)
class _Block:
    """A run at each of the paper's sigmas, None where nothing is measured; `picked`: the best of several σ_train."""

    title: str
    picked: bool
    theirs: paper.Row | None
    pairs: tuple[tuple[Record, Measured] | None, ...]

    @property
    def accuracies(self) -> tuple[float | None, ...]:
        return tuple(pair[1].accuracy if pair else None for pair in self.pairs)


def tables(network: str, runs: Sequence[Record], calibrated: Sequence[Record], noise: NoiseKind) -> Iterable[str]:
    """Both tables of a noise kind, or one where they are equal, or where no run keeps to the paper's recipe.

    Args:
        network: whose runs.
        runs: those that are not calibrated, as `trained_for` picks them.
        calibrated: those that are, of any kind.
        noise: the kind.
    """
    kept, every = keeping(runs), [*runs, *(run for run in calibrated if run.noise == noise)]
    papers, ours = _blocks(network, kept, noise, "best σ_train"), _blocks(network, every, noise, "best of all")
    noisy = any(run.sigma_train > 0 for run in kept)
    if not noisy:  # the best of noiseless training alone says nothing of the recipe
        papers = [block for block in papers if not block.picked]
    equal = [block.accuracies for block in papers] == [block.accuracies for block in ours]
    yield from ("### Paper's recipe", "")
    if any(pair for block in papers for pair in block.pairs):
        yield from (*_table(network, papers, "σ_train of these", lambda run: f"{run.sigma_train}"), "")
    if not noisy:
        yield from ("No run that was trained under this noise keeps to it.", "")
    if equal:
        yield "No other recipe is better at any sigma: the table of the best recipe would be this one."
    else:
        yield from _best_recipe(network, ours, common(every))


def _best_recipe(network: str, blocks: Sequence[_Block], shared: Sequence[str]) -> Iterable[str]:
    yield from ("### Best recipe", "")
    if shared:
        yield from (f"True of all runs, and not said again: {', '.join(shared)}.", "")
    yield from _table(network, blocks, "recipe of these", lambda run: _told(run, shared))


def _blocks(network: str, runs: Sequence[Record], noise: NoiseKind, best_of: str) -> list[_Block]:
    reported = paper.reported(network, noise)
    noiseless = [run for run in runs if run.sigma_train == 0 and run.calibrated_at is None]
    rows = (
        ("noiseless training, one run", noiseless, 1, reported.noiseless_training if reported else None),
        (f"{best_of}, one run", runs, 1, reported.one_run if reported else None),
        (f"{best_of}, {paper.VOTES} votes", runs, paper.VOTES, reported.voted if reported else None),
    )
    return [
        _Block(title, among is runs, theirs, tuple(best(among, noise, sigma, votes) for sigma in paper.SIGMAS))
        for title, among, votes, theirs in rows
    ]


def _table(network: str, blocks: Sequence[_Block], whose: str, owner: Callable[[Record], str]) -> Iterable[str]:
    """Our rows beside the paper's; where runs were picked, `owner` says for each cell which it is of."""
    yield from header(["", *(f"sigma {sigma}" for sigma in paper.SIGMAS)])
    for block in blocks:
        yield row([block.title, *map(percent, block.accuracies)])
        if block.picked:
            yield row([whose, *(owner(pair[0]) if pair else "–" for pair in block.pairs)])
        if block.theirs:
            beside = " (DenseNet-40)" if network in paper.STANDS_BESIDE else ""
            yield row([f"paper{beside}", *(f"{value:.1f}" for value in block.theirs)])
            pairs = zip(block.accuracies, block.theirs, strict=True)
            yield row(["ours − paper", *("–" if ours is None else f"{100 * ours - its:+.2f}" for ours, its in pairs)])


def _told(run: Record, shared: Sequence[str]) -> str:
    """A run's variant, and in a few words its recipe, without what all runs share."""
    found = departures(run)
    own = [departure for departure in found if departure not in shared] if found else ["paper's recipe"]
    return f"`{run.variant}`{': ' if own else ''}{', '.join(own)}"
