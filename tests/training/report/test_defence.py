"""The page of the defence beside its records, and its intervals beside what is known of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from noisevote.evaluation.vote_paths import VotePath
from noisevote.training.attack.certified import CertifiedPaths, written
from noisevote.training.attack.records import FullAccess, Outcome, Votes
from noisevote.training.report import defence
from noisevote.training.report.defence_certified import fixed_rule, fixed_table
from noisevote.training.report.defence_floor import autoattack, seeds
from noisevote.training.report.defence_numbers import over_noise, paired, share
from noisevote.training.report.defence_runs import Certified
from noisevote.training.report.defence_worst import worst_cases
from noisevote.voting.certification import look_times

LOOKS = len(look_times(100_000))
RESULTS = Path(__file__).parents[3] / "docs" / "results"


@pytest.fixture(scope="module")
def remade(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page, made again from the records of the repository."""
    out = tmp_path_factory.mktemp("report")
    defence.report(RESULTS / "defence", out)
    return out


def test_page_is_that_of_its_records(remade: Path) -> None:
    """The page in the repository is what the records give, byte for byte, and the figures pixel for pixel."""
    assert (remade / "defence.md").read_bytes() == (RESULTS / "defence.md").read_bytes()
    pictures = sorted(path.name for path in remade.glob("*.png"))
    assert pictures == sorted(path.name for path in RESULTS.glob("defence-*.png"))
    for picture in pictures:
        with Image.open(remade / picture) as made, Image.open(RESULTS / picture) as kept:
            assert np.array_equal(np.asarray(made), np.asarray(kept)), picture


def cell(right: np.ndarray, sigma: float = 0.3) -> Votes:
    """Votes, bool [images, votes]; the decision is the majority."""
    counts, decided = right.sum(axis=1), right.mean(axis=1) > 0.5
    outcome = Outcome().with_more([int(count) for count in counts], [bool(one) for one in decided])
    runs = tuple(int(run) for run in right.sum(axis=0))
    return Votes(inputs="adversarial", sigma=sigma, votes=right.shape[1], runs=runs, outcome=outcome)


def test_intervals_hold_what_scipy_says() -> None:
    """Shares have Clopper and Pearson's interval, runs Student's, paired differences Student's of the differences."""
    generator = np.random.default_rng(0)
    noisy, noiseless = generator.random((300, 20)) < 0.9, generator.random((300, 1)) < 0.85
    exact = stats.binomtest(int(noiseless.sum()), 300).proportion_ci(0.95)
    found = share(noiseless[:, 0])
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=1e-9)
    student = stats.ttest_1samp(noisy.mean(axis=0), 0).confidence_interval(0.95)
    assert over_noise(cell(noisy)).low == pytest.approx(student.low, abs=1e-9)
    pairs = stats.ttest_rel(noisy.mean(axis=1), noiseless[:, 0].astype(float)).confidence_interval(0.95)
    gained = paired(cell(noisy), cell(noiseless, 0.0), voted=False)
    assert (gained.low, gained.high) == pytest.approx((pairs.low, pairs.high), abs=1e-9)


def test_a_gain_is_one_only_outside_its_interval() -> None:
    """The same answers are no gain; many more right ones are one, and judged among many places less easily."""
    some, all_right = np.arange(200)[:, None] % 10 > 0, np.ones((200, 1), bool)
    assert paired(cell(some), cell(some, 0.0), voted=True).verdict == "none"
    assert paired(cell(all_right), cell(some, 0.0), voted=True).verdict == "gain"
    assert paired(cell(some), cell(all_right, 0.0), voted=True).verdict == "loss"
    nothing = paired(cell(some), cell(some, 0.0), voted=True)  # of 200 images none differs: at most 1.8 % do
    assert (nothing.low, nothing.high) == pytest.approx((-nothing.high, 1 - 0.025 ** (1 / 200)))
    one, many = (paired(cell(all_right), cell(some, 0.0), voted=True, places=count) for count in (1, 10))
    assert many.low < one.low


def test_certified_radius_is_cohens() -> None:
    """100,000 of 100,000 votes certify sigma · Φ⁻¹(alpha^(1/n)); a wrong class or half of the votes nothing."""
    counts = {0: ([0, 100], [0, 100_000]), 20: ([100, 0], [100_000, 0]), 40: ([49, 51], [50_000, 50_000])}
    found = fixed_rule(0.5, Certified(sigma=0.5, n0=100, n=100_000, counts=counts, labels=[1, 1, 1]), None)
    assert found.radii[0] == pytest.approx(0.5 * stats.norm.ppf(0.001 ** (1 / 100_000)), rel=1e-9)
    assert found.radii[1:].tolist() == [-1, -1]
    assert (found.card, found.runtime) == (3, 0)


def paths(failures: dict[int, int], looks: int = LOOKS, label: int = 3, index: int = 3) -> CertifiedPaths:
    """Votes of ONNX Runtime on some images: all failures of each before the first look, as many looks as told."""
    return CertifiedPaths(
        model="m", version="1", variant="v", sha256="", data_set="mnist", sigma=0.5, n0=100, n=100_000, alpha=0.001,
        nonce="", commit=None, versions={}, isa=None,
        paths={image: written(label, VotePath(index, [no] + [0] * (looks - 1))) for image, no in failures.items()},
    )  # fmt: skip


def test_the_fixed_rule_counts_each_image_once() -> None:
    """The card's votes where it has them, else a whole path; each engine's images are told."""
    card = Certified(
        sigma=0.5, n0=1, n=100_000, counts={0: ([0, 1], [10, 99_990]), 20: ([0, 1], [0, 100_000])}, labels=[1, 1]
    )
    found = fixed_rule(0.5, card, paths({20: 5000, 40: 10, 60: 0}))
    assert (found.card, found.runtime) == (2, 2)
    assert found.radii[0] == found.radii[2]
    assert found.radii[1] == found.radii[3] > found.radii[0] > 0
    wrong = fixed_rule(0.5, None, paths({0: 0}, index=4))
    assert wrong.radii.tolist() == [-1]


def test_the_fixed_rule_ends_before_an_image_that_lacks_votes() -> None:
    """Of the images behind it only those that took all votes are there, the hard ones; and part of a path is none."""
    found = fixed_rule(0.5, None, paths({0: 0, 20: 3, 60: 40_000, 5: 0}))
    assert (found.card, found.runtime) == (0, 2)
    assert len(fixed_rule(0.5, None, paths({0: 0}, looks=LOOKS - 1)).radii) == 0


def test_reached_is_a_figure_inside_or_below_an_interval() -> None:
    """One sigma is enough; above all intervals it is not reached."""
    every, none = (dict.fromkeys(range(0, 10_000, 20), failed) for failed in (0, 60_000))
    assert list(fixed_table([fixed_rule(0.5, None, paths(every)), fixed_rule(0.5, None, paths(none))]))[-1] == (
        f"| reached |  |  |  | {' | '.join(['yes'] * 7 + ['no'] * 2)} |"
    )


def attacked(choosing: np.ndarray, fresh: np.ndarray, **changed: Any) -> FullAccess:
    """An attack on every 50th image: right ones of 20 choosing and of 100 fresh votes, int [images]."""
    fields: dict[str, Any] = {
        "model": "m", "variant": "v", "sha256": "", "data_set": "mnist", "steps": {"eps": 0.3}, "restarts": 1,
        "noise": "multiplicative", "sigma": 0.3, "seed": 0, "draws": 20, "known": False, "every": 50,
        "images": len(choosing), "votes": 100, "commit": None, "versions": {},
    }  # fmt: skip
    outcome = Outcome().with_more([int(count) for count in fresh], [bool(count > 50) for count in fresh])
    judged = "".join(f"{count:02x}" for count in choosing)
    return FullAccess(**(fields | changed), judged=judged, natural=outcome, attacked=outcome)


def test_the_worst_case_is_chosen_on_some_votes_and_reported_on_others() -> None:
    """Where all examples are alike, picking the unluckiest count of ten leaves what fresh votes say as it is."""
    generator = np.random.default_rng(1)
    records = {
        str(number): attacked(generator.binomial(20, 0.9, 200), generator.binomial(100, 0.9, 200))
        for number in range(10)
    }
    (found,) = worst_cases(records)
    assert (found.images, len(found.attacks)) == (200, 10)
    assert found.same_votes < 0.85
    assert found.one_vote == pytest.approx(0.9, abs=0.01)


def test_the_worst_example_of_each_image_counts() -> None:
    """Each of two attacks turns other images: together both; of an attack on fewer images, the common ones count."""
    first, second = np.full(200, 20), np.full(150, 20)
    first[:30], second[30:60] = 0, 0
    records = {"a": attacked(first, 5 * first), "b": attacked(second, 5 * second)}
    (found,) = worst_cases(records)
    assert found.images == 150
    assert found.one_vote == pytest.approx(1 - 60 / 150)
    assert found.decided.estimate == pytest.approx(1 - 60 / 150)


def test_a_known_seed_a_sweep_and_few_images_are_no_worst_case() -> None:
    """Nor is one attack alone: there is nothing to choose from."""
    counts = np.full(200, 20)
    whole, few = attacked(counts, counts), attacked(counts[:50], counts[:50])
    assert worst_cases({"a": whole}) == []
    others = {"known": attacked(counts, counts, known=True), "robust-eps-0.3": whole, "few": few}
    others["chosen by another"] = attacked(counts, counts, source="b")
    assert len(worst_cases({"a": whole, "b": attacked(counts, counts, source="b", examined=True)})) == 1
    assert worst_cases({"a": whole, **others, "less eps": attacked(counts, counts, steps={"eps": 0.1})}) == []


def test_autoattack_stands_beside_pgd_on_its_images() -> None:
    """AutoAttack of every 100th image, then the 50th: PGD's accuracy is that on the images that it has done."""
    counts = np.array([20, 0, 20, 20])
    auto = attacked(counts, 5 * counts, every=50, before=(100,), steps={"eps": 0.3, "attack": "AutoAttack, standard"})
    fresh = np.full(200, 100)
    fresh[[2, 4, 1]] = 0  # images 100 and 200, which are among AutoAttack's four, and 50, which is not
    pgd = attacked(np.full(200, 20), fresh, steps={"eps": 0.3, "iterations": 20})
    (line,) = list(autoattack({"auto": auto, "pgd": pgd}))[2:]
    assert "| standard | 4 |" in line
    assert "75.00 (" in line
    assert line.endswith("50.00 of 4 (`pgd`) |")


def test_a_known_seed_stands_beside_the_same_attack_without_it() -> None:
    """By as many votes and on the images of both."""
    told = {"steps": {"eps": 0.3, "iterations": 20}, "votes": 20}
    votes = np.full(50, 20)
    known = attacked(votes, votes, known=True, every=200, by_votes={20: "0" * 10 + "1" * 40}, **told)
    other = attacked(np.full(200, 20), np.full(200, 20), by_votes={20: "1" * 200}, **told)
    few = attacked(votes[:20], votes[:20], every=200, by_votes={20: "1" * 20}, **told)
    lines = list(seeds({"known": known, "many": other, "few": few}))[2:]
    assert len(lines) == 1
    assert lines[0].startswith("| `known` | `many` | 50 | 20 | 80.00 | 100.00 | -20.00")
    assert lines[0].endswith("| loss |")
