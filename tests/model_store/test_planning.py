"""The planner against a reference that tries every variant with every number of votes and reads."""

import random
from collections.abc import Sequence
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noisevote.model_store.accuracy_table import accuracy_table, effective_sigma
from noisevote.model_store.manifest import Variant
from noisevote.model_store.planning import (
    Figure,
    Goal,
    LatencyBudget,
    Plan,
    Planning,
    ProductBudget,
    Question,
    TargetAccuracy,
    plan,
)
from tests.support.manifests import point, variant

pytestmark = pytest.mark.slow

MOST_VOTES, MOST_READS = 12, 5


class Way(NamedTuple):
    """A way to run the model, by the reference."""

    variant: Variant
    votes: int
    reads: int
    score: float
    error: float

    @property
    def name(self) -> tuple[str, int, int]:
        """What tells ways apart."""
        return self.variant.name, self.votes, self.reads

    @property
    def products(self) -> int:
        """V·R·L."""
        return self.votes * self.reads * self.variant.layers

    def latency(self, execution: str) -> int:
        """Layer times by the design's formulas."""
        runs, layers = self.votes * self.reads, self.variant.layers
        return {"sequential": runs * layers, "pipelined": runs + layers - 1, "parallel": layers}[execution]


@st.composite
def variants(draw: st.DrawFn) -> list[Variant]:
    """One to three variants, of different depth and measured at different places; accuracies often equal."""
    drawn = []
    for number in range(draw(st.integers(1, 3))):
        points = []
        for votes in draw(st.lists(st.sampled_from([1, 2, 3, 5, 10]), min_size=1, max_size=3, unique=True)):
            steps = draw(st.lists(st.integers(0, 6), min_size=1, max_size=4, unique=True))
            points += [
                point(step / 4, draw(st.integers(0, 20)) / 20, votes, images=draw(st.integers(20, 500)))
                for step in steps
            ]
        sigma_train = draw(st.sampled_from([0.0, 0.5]))
        layers = draw(st.integers(1, 4))
        drawn.append(variant(f"v{number}", sigma_train=sigma_train, accuracy=points, layers=layers))
    return drawn


GOALS: st.SearchStrategy[Goal] = st.one_of(
    st.builds(TargetAccuracy, st.integers(1, 20).map(lambda n: n / 20) | st.floats(0.01, 1)),
    st.builds(ProductBudget, st.integers(1, 150)),
    st.builds(LatencyBudget, st.integers(1, 150), st.sampled_from(["sequential", "pipelined", "parallel"])),
)
FIGURES: st.SearchStrategy[Figure] = st.sampled_from(["estimate", "lower_bound"])
QUESTIONS = st.builds(
    Question,
    noise=st.just("multiplicative"),
    sigma=st.floats(0, 3) | st.integers(0, 12).map(lambda n: n / 4),
    goal=GOALS,
    most_votes=st.integers(1, MOST_VOTES),
    most_reads=st.integers(1, MOST_READS),
    by=FIGURES,
)


def every_way(among: Sequence[Variant], question: Question) -> list[Way]:
    """All ways that the tables know."""
    ways = []
    for each in among:
        table = accuracy_table(each, question.noise, question.sigma)
        for votes in range(1, question.most_votes + 1) if table else ():
            for reads in range(1, question.most_reads + 1):
                assert table is not None
                found = table.estimate(effective_sigma(question.sigma, reads), votes)
                score = found.accuracy if question.by == "estimate" else found.lower_bound(question.alpha)
                if found.inside:
                    ways.append(Way(each, votes, reads, score, found.standard_error))
    return ways


def meets(way: Way, goal: Goal) -> bool:
    """Whether the goal is met."""
    match goal:
        case TargetAccuracy(accuracy):
            return way.score >= accuracy - 1e-9
        case ProductBudget(products):
            return way.products <= products
        case LatencyBudget(layer_times, execution):
            return way.latency(execution) <= layer_times


def order(way: Way, goal: Goal, met: bool) -> tuple[float | str, ...]:
    """Rank among the ways that meet the goal, or among all where none does."""
    tie = (way.reads, way.variant.sigma_train, way.variant.name)
    match goal:
        case TargetAccuracy() if met:
            return (way.products, -way.score, *tie)
        case ProductBudget() if not met:
            return (way.products, -way.score, *tie)
        case LatencyBudget(_, execution) if not met:
            return (way.latency(execution), -way.score, way.products, *tie)
        case _:
            return (-way.score, way.products, *tie)


def slow_runner_ups(ranked: Sequence[Way]) -> list[tuple[str, int, int]]:
    """The next four that none dominates and that are no near copies, and the best of every other variant."""
    taken, listed = [ranked[0]], []
    seen = {ranked[0].variant.name}
    for i, way in enumerate(ranked[1:], 1):
        dominated = any(
            other.products <= way.products
            and other.score >= way.score
            and (j < i or (other.products, other.score) != (way.products, way.score))
            for j, other in enumerate(ranked)
            if j != i
        )
        alike = any(
            max(t.products, way.products) < 1.25 * min(t.products, way.products)
            for t in taken
            if t.variant.name == way.variant.name
        )
        chosen = len(taken) < 5 and not dominated and not alike
        if chosen:
            taken.append(way)
        if chosen or way.variant.name not in seen:
            listed.append(way.name)
        seen.add(way.variant.name)
    return listed


def name_of(found: Plan | None) -> tuple[str, int, int] | None:
    """What tells plans apart."""
    return None if found is None else (found.variant.name, found.votes, found.reads)


@given(variants(), QUESTIONS)
def test_a_planning_is_the_one_of_trying_everything(among: list[Variant], question: Question) -> None:
    """The plan, what comes nearest where none meets the goal, the cheaper one, the runner-ups and their order."""
    ways = every_way(among, question)
    met = [way for way in ways if meets(way, question.goal)]
    found = plan(among, question)
    assert found.known == len(ways)
    assert found.known + found.outside == len(among) * question.most_votes * question.most_reads
    assert found.feasible == bool(met)
    if not ways:
        assert found == Planning(False, None, None, (), 0, found.outside)
        return
    ranked = sorted(met or ways, key=lambda way: order(way, question.goal, bool(met)))
    best = ranked[0]
    assert name_of(found.best) == best.name
    assert [name_of(each) for each in found.runner_ups] == slow_runner_ups(ranked)
    close = [way for way in ways if way.score >= best.score - best.error - 1e-9 and way.products < best.products]
    cheapest = min(close, key=lambda way: order(way, TargetAccuracy(0), True), default=None)
    assert name_of(found.cheaper) == (cheapest and cheapest.name)


@given(variants(), QUESTIONS)
def test_no_known_plan_is_better_and_no_bound_exceeded(among: list[Variant], question: Question) -> None:
    """The plan keeps its budget or reaches its target; no other way that does is cheaper, or else more accurate."""
    found = plan(among, question)
    for each in filter(None, (found.best, found.cheaper, *found.runner_ups)):
        assert each.votes <= question.most_votes
        assert each.reads <= question.most_reads
        assert each.estimate.inside
    if not found.feasible or found.best is None:
        return
    ways = {way.name: way for way in every_way(among, question)}
    best = ways[found.best.variant.name, found.best.votes, found.best.reads]
    assert meets(best, question.goal)
    others = [way for way in ways.values() if meets(way, question.goal)]
    if isinstance(question.goal, TargetAccuracy):
        assert best.products == min(way.products for way in others)
    else:
        assert best.score == max(way.score for way in others)


@given(variants(), QUESTIONS, st.randoms(use_true_random=False))
def test_the_order_of_variants_and_points_does_not_matter(
    among: list[Variant], question: Question, shuffler: random.Random
) -> None:
    """The same question about the same measurements has one answer."""
    shuffled = []
    for each in shuffler.sample(among, len(among)):
        points = shuffler.sample(each.accuracy, len(each.accuracy))
        shuffled.append(each.model_copy(update={"accuracy": tuple(points)}))
    found, again = plan(among, question), plan(shuffled, question)
    for one, other in zip(
        (found.best, found.cheaper, *found.runner_ups), (again.best, again.cheaper, *again.runner_ups), strict=True
    ):
        assert name_of(one) == name_of(other)
        assert (one and one.estimate) == (other and other.estimate)


def asking(
    goal: Goal, sigma: float = 1.0, most_votes: int = 20, most_reads: int = 16, by: Figure = "estimate"
) -> Question:
    """A question under multiplicative noise."""
    return Question("multiplicative", sigma, goal, most_votes, most_reads, by)


READS_HELP = variant(
    accuracy=[point(s / 4, 0.99 - s / 20, votes, images=10_000) for s in range(5) for votes in (1, 20)]
)


def test_reads_are_planned_by_their_effective_sigma() -> None:
    """Where votes do not help, 0.94 at sigma 1 takes the 16 reads that make it sigma 0.25, and one vote."""
    found = plan([READS_HELP], asking(TargetAccuracy(0.94)))
    assert name_of(found.best) == ("mul-0.8", 1, 16)
    assert found.best is not None
    assert (found.best.estimate.accuracy, len(found.best.estimate.points)) == (0.94, 1)


def test_a_target_may_be_asked_of_the_lower_bound() -> None:
    """0.94 of 10,000 images is at least 0.9359 with 95 % confidence, so 0.939 is estimated but not assured."""
    goal = TargetAccuracy(0.939)
    assert plan([READS_HELP], asking(goal)).feasible
    assured = plan([READS_HELP], asking(goal, by="lower_bound"))
    assert not assured.feasible
    assert plan([READS_HELP], asking(TargetAccuracy(0.9359), by="lower_bound")).feasible


def test_what_is_not_measured_is_not_planned() -> None:
    """At sigma 2 it takes 4 reads to come inside a table that ends at 1; other noise kinds are unknown."""
    found = plan([READS_HELP], asking(TargetAccuracy(0.5), sigma=2.0))
    assert name_of(found.best) == ("mul-0.8", 1, 4)
    assert found.known == 20 * 13
    assert plan([READS_HELP], asking(TargetAccuracy(0.5), sigma=2.0, most_reads=3)).best is None
    additive = Question("additive", 0.5, TargetAccuracy(0.5), 20, 16)
    assert plan([READS_HELP], additive) == Planning(False, None, None, (), 0, 20 * 16)


def test_a_dip_at_two_votes_is_stepped_over() -> None:
    """Two votes may be worse than one; the plan for a target that both neighbours reach never takes them."""
    dips = variant(accuracy=[point(0.5, a, votes) for votes, a in ((1, 0.9), (2, 0.5), (3, 0.95))])
    budget = asking(ProductBudget(4), sigma=0.5, most_votes=2, most_reads=1)
    assert name_of(plan([dips], budget).best) == ("mul-0.8", 1, 1)
    assert name_of(plan([dips], asking(TargetAccuracy(0.95), sigma=0.5, most_reads=1)).best) == ("mul-0.8", 3, 1)


@pytest.mark.parametrize(("execution", "runs"), [("sequential", 5), ("pipelined", 9), ("parallel", 20)])
def test_a_latency_buys_more_runs_the_more_arrays_there_are(execution: str, runs: int) -> None:
    """10 layer times of 2 layers: 5 runs one after another, 9 in a pipeline, any number side by side."""
    votes_help = variant(accuracy=[point(1.0, 0.5 + votes / 50, votes) for votes in range(1, 21)])
    goal = LatencyBudget(10, execution)  # type: ignore[arg-type]  # mypy widens the parameter's literals
    assert name_of(plan([votes_help], asking(goal, most_reads=1)).best) == ("mul-0.8", runs, 1)
