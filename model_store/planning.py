"""How to run a model on noisy hardware: which variant, with how many votes and reads.

The answer is the cheapest plan that is accurate enough, or the most accurate one that is cheap enough. All pairs
of votes and reads of all variants are compared, by what their measured tables say about them. Reads enter exactly,
as sigma/√reads; what lies outside of a table is not considered, however good it may be.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np

from noisevote.model_store import analog_cost
from noisevote.model_store.accuracy_table import AccuracyTable, Estimate, accuracy_table, effective_sigma
from noisevote.model_store.analog_cost import Execution
from noisevote.model_store.manifest import Variant
from noisevote.noise_op.contract import NoiseKind

# Runner-ups beside the best plan of every other variant, and the least ratio of products between two plans of one
# variant, so that a list is no sequence of nearly equal plans.
RUNNER_UPS: Final = 4
DISTINCT: Final = 1.25
# Means over repetitions are stored rounded: far less than one image of any test.
ROUNDING: Final = 1e-9

Figure = Literal["estimate", "lower_bound"]
Rank: TypeAlias = tuple[float | str, ...]


@dataclass(frozen=True, eq=False)
class Candidate:
    """A way to run the model; `score` is the figure of its accuracy that plans are judged by."""

    variant: Variant
    votes: int
    reads: int
    score: float

    @property
    def products(self) -> int:
        """Matrix-vector products."""
        return analog_cost.products(self.votes, self.reads, self.variant.layers)

    def latency(self, execution: Execution) -> int:
        """Layer times."""
        return analog_cost.latency(execution, self.votes, self.reads, self.variant.layers)

    @property
    def simplicity(self) -> Rank:
        """Decides between candidates that are equally good: fewer reads, smaller σ_train, then the name."""
        return (self.reads, self.variant.sigma_train, self.variant.name)

    @property
    def by_score(self) -> Rank:
        """Order in which the most accurate comes first, the cheaper of equals before the other."""
        return (-self.score, self.products, *self.simplicity)


@dataclass(frozen=True)
class TargetAccuracy:
    """The cheapest plan that is at least so accurate."""

    accuracy: float

    def met(self, candidate: Candidate) -> bool:
        """Whether the candidate reaches it."""
        return candidate.score >= self.accuracy - ROUNDING

    def preference(self, candidate: Candidate) -> Rank:
        """Order among candidates that meet the goal."""
        return (candidate.products, -candidate.score, *candidate.simplicity)

    def distance(self, candidate: Candidate) -> Rank:
        """Order among candidates where none meets the goal."""
        return candidate.by_score


@dataclass(frozen=True)
class ProductBudget:
    """The most accurate plan of at most so many matrix-vector products."""

    products: int

    def met(self, candidate: Candidate) -> bool:
        """Whether the candidate keeps to it."""
        return candidate.products <= self.products

    def preference(self, candidate: Candidate) -> Rank:
        """Order among candidates that meet the goal."""
        return candidate.by_score

    def distance(self, candidate: Candidate) -> Rank:
        """Order among candidates where none meets the goal."""
        return (candidate.products, *candidate.by_score)


@dataclass(frozen=True)
class LatencyBudget:
    """The most accurate plan that takes at most so many layer times."""

    layer_times: int
    execution: Execution

    def met(self, candidate: Candidate) -> bool:
        """Whether the candidate keeps to it."""
        return candidate.latency(self.execution) <= self.layer_times

    def preference(self, candidate: Candidate) -> Rank:
        """Order among candidates that meet the goal."""
        return candidate.by_score

    def distance(self, candidate: Candidate) -> Rank:
        """Order among candidates where none meets the goal."""
        return (candidate.latency(self.execution), *candidate.by_score)


Goal: TypeAlias = TargetAccuracy | ProductBudget | LatencyBudget


@dataclass(frozen=True)
class Question:
    """What is to be planned. `by` is the figure that plans are judged by, `alpha` the lower bound's."""

    noise: NoiseKind
    sigma: float
    goal: Goal
    most_votes: int
    most_reads: int
    by: Figure = "estimate"
    alpha: float = 0.05


@dataclass(frozen=True)
class Plan:
    """A way to run the model, and its accuracy inside the measured table."""

    variant: Variant
    votes: int
    reads: int
    estimate: Estimate


@dataclass(frozen=True)
class Planning:
    """What was found.

    `best` is the plan that meets the goal best; where none does (`feasible` false), the one that comes nearest;
    None where the tables know no plan at all. `cheaper` is the cheapest plan within one standard error of
    `best`, if that is another one. `runner_ups` follow `best` in order. `known` plans were compared; about
    `outside` more, inside the bounds of votes and reads, the tables say nothing.
    """

    feasible: bool
    best: Plan | None
    cheaper: Plan | None
    runner_ups: tuple[Plan, ...]
    known: int
    outside: int


def plan(variants: Sequence[Variant], question: Question) -> Planning:
    """The best plan for a question, and what comes next.

    A plan is dominated by another that is at least as accurate for as few products. Runner-ups are the next
    `RUNNER_UPS` that no other dominates, leaving out those whose products are within a factor of `DISTINCT` of
    one of the same variant before them, and the best plan of each other variant.
    """
    candidates: list[Candidate] = []
    known = 0
    for variant in variants:
        table = accuracy_table(variant, question.noise, question.sigma)
        if table is not None:
            front, inside = _front(variant, table, question)
            candidates += front
            known += inside
    outside = len(variants) * question.most_votes * question.most_reads - known
    goal = question.goal
    met = [candidate for candidate in candidates if goal.met(candidate)]
    ranked = sorted(met or candidates, key=goal.preference if met else goal.distance)
    if not ranked:
        return Planning(False, None, None, (), known, outside)
    best = _plan(ranked[0], question)
    enough = TargetAccuracy(ranked[0].score - best.estimate.standard_error)
    cheapest = min((candidate for candidate in candidates if enough.met(candidate)), key=enough.preference)
    return Planning(
        feasible=bool(met),
        best=best,
        cheaper=_plan(cheapest, question) if cheapest.products < ranked[0].products else None,
        runner_ups=tuple(_plan(candidate, question) for candidate in _runner_ups(ranked)),
        known=known,
        outside=outside,
    )


def _front(variant: Variant, table: AccuracyTable, question: Question) -> tuple[list[Candidate], int]:
    """The variant's candidates that none of its others dominates, and how many there are with those.

    No goal is met by a dominated candidate alone, and the best never is one.
    """
    votes = np.arange(1, min(question.most_votes, table.votes[-1]) + 1)
    reads = np.arange(1, question.most_reads + 1)
    sigmas = [effective_sigma(question.sigma, int(count)) for count in reads]
    grid = table.grid(sigmas, votes.tolist(), question.alpha)
    inside = np.nonzero(grid.inside)
    scores = (grid.accuracy if question.by == "estimate" else grid.lower_bound)[inside]
    votes, reads = votes[inside[0]], reads[inside[1]]
    order = np.lexsort((reads, -scores, votes * reads))
    most = np.maximum.accumulate(scores[order])
    front = order[np.diff(most, prepend=-1.0) > 0]
    return [Candidate(variant, int(votes[i]), int(reads[i]), float(scores[i])) for i in front], len(scores)


def _runner_ups(ranked: Sequence[Candidate]) -> list[Candidate]:
    """See `plan`."""
    undominated = set(_undominated(ranked))
    taken = [ranked[0]]
    for candidate in ranked[1:]:
        if len(taken) <= RUNNER_UPS and candidate in undominated and _distinct(candidate, taken):
            taken.append(candidate)
    listed = {*taken, *_first_of_each_variant(ranked)}
    return [candidate for candidate in ranked[1:] if candidate in listed]


def _undominated(candidates: Iterable[Candidate]) -> list[Candidate]:
    front: list[Candidate] = []
    for candidate in sorted(candidates, key=TargetAccuracy(0).preference):  # fewest products first
        if not front or candidate.score > front[-1].score:
            front.append(candidate)
    return front


def _distinct(candidate: Candidate, taken: Iterable[Candidate]) -> bool:
    products = [other.products for other in taken if other.variant.name == candidate.variant.name]
    return all(max(each, candidate.products) >= DISTINCT * min(each, candidate.products) for each in products)


def _first_of_each_variant(ranked: Iterable[Candidate]) -> list[Candidate]:
    firsts: dict[str, Candidate] = {}
    for candidate in ranked:
        firsts.setdefault(candidate.variant.name, candidate)
    return list(firsts.values())


def _plan(candidate: Candidate, question: Question) -> Plan:
    table = accuracy_table(candidate.variant, question.noise, question.sigma)
    assert table is not None  # a candidate comes from a table
    sigma = effective_sigma(question.sigma, candidate.reads)
    return Plan(candidate.variant, candidate.votes, candidate.reads, table.estimate(sigma, candidate.votes))
