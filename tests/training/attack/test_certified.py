"""Votes for certificates, kept look by look: what they certify is what `…/certify` answers and `verify` recomputes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from noisevote.engine.certificate_seed import certificate_seed
from noisevote.evaluation.certificates import CertifyAnswer, differences
from noisevote.evaluation.examples import Examples
from noisevote.evaluation.onnx_runtime import OnnxRuntime
from noisevote.evaluation.vote_paths import VotePath, end_of
from noisevote.model_store.store import ModelStore
from noisevote.training.attack import certified
from noisevote.training.attack.certified import (
    STRIDES,
    CertifiedPaths,
    certify_images,
    fresh_paths,
    outcomes,
    read,
    written,
)
from noisevote.training.attack.records import in_order
from noisevote.voting.certificates import failure_at
from noisevote.voting.certification import (
    AnytimeCertificate,
    CertificateRule,
    CertificateRuleName,
    certificate,
    look_times,
    looks_of,
    rule_of,
)
from tests.support.smoothed import CLASSES, SHAPE, publish_smoothed

N = 3000
RADII = (0.1, 0.6, 1.2)
GENERATOR = np.random.default_rng(5)
TEST = Examples(GENERATOR.random((24, *SHAPE)).astype(np.float32), GENERATOR.integers(0, CLASSES, 24))
Certify = Callable[..., CertifiedPaths]


@pytest.fixture
def certify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Certify:
    """Casts votes on the first images under a rule and reads the record; runs of 7 rows, blocks of 5 images."""
    monkeypatch.setattr(certified, "N", N)
    monkeypatch.setattr(certified, "BLOCK", 5)
    store = ModelStore(tmp_path / "models")
    manifest = publish_smoothed(store)
    variant = manifest.variant("in-0.5")
    assert variant is not None
    engine = OnnxRuntime(store.root / "smooth" / "1" / variant.file)
    engine.rows = 7
    fresh = fresh_paths(manifest, variant, "some").model_copy(update={"nonce": "ab" * 16})

    def certified_to(
        name: str, rule: CertificateRule, images: int, steps: int | None = None, skip: int = 0
    ) -> CertifiedPaths:
        path = tmp_path / f"{name}.json"
        for number, _ in enumerate(certify_images(path, fresh, engine, TEST, rule, slice(skip, images), CLASSES)):
            if number == steps:  # stopped there
                break
        return CertifiedPaths.read(path)

    return certified_to


def anytime(radius: float) -> AnytimeCertificate:
    """The rule at a radius."""
    return AnytimeCertificate(N, 0.001, 0.5, radius)


def answer_of(record: CertifiedPaths, radius: float | None) -> CertifyAnswer:
    """The answer of `…/certify` that the record amounts to, at one radius, or by the fixed rule."""
    name: CertificateRuleName = "fixed" if radius is None else "anytime"
    rule = rule_of(name, record.n, record.alpha, record.sigma, radius)
    told = []
    for image in record.paths:
        kept = record.path(image)
        assert kept is not None
        end = end_of(kept[1], rule)
        assert end is not None
        found = certificate(rule, record.sigma, radius, end.count, end.trials)
        seed = certificate_seed(record.sha256, TEST.values(slice(image, image + 1))[0], record.nonce)
        told.append({
            "index": kept[1].index, "radius": found.radius, "abstain": found.abstain, "lower_bound": found.lower_bound,
            "count": end.count, "votes_used": end.trials, "first_vote": record.n0, "seed": seed,
            "stopped_by": end.reason,
        })  # fmt: skip
    named = record.model_dump(include={"model", "version", "variant", "sha256", "sigma", "alpha", "n0", "n", "nonce"})
    return CertifyAnswer.model_validate(
        named | {"operator": 1, "rule": name, "radius_asked": radius, "certificates": told}
    )


@pytest.mark.parametrize("radius", [*RADII, None])
def test_a_record_is_what_verify_recomputes(certify: Certify, tmp_path: Path, radius: float | None) -> None:
    """Class, count, votes, bound, radius and reason of every image, though rows of several images shared runs."""
    record = certify("record", rule_of("fixed" if radius is None else "anytime", N, 0.001, 0.5, radius), 12)
    engine = OnnxRuntime(tmp_path / "models" / "smooth" / "1" / "in-0.5.onnx")
    inputs = np.stack([TEST.values(slice(image, image + 1))[0] for image in record.paths])
    assert len(record.paths) == 12
    assert list(differences(answer_of(record, radius), inputs, engine._session, CLASSES)) == [[]] * 12


def test_votes_of_one_radius_are_the_first_of_another(certify: Certify) -> None:
    """Radii in either order, and a measurement that was stopped and goes on, end every path in the same place."""
    for radius in RADII:
        up = certify("up", anytime(radius), 9)
    for radius in reversed(RADII):
        down = certify("down", anytime(radius), 9)
    assert up.paths == down.paths
    certify("stopped", anytime(RADII[0]), 2)
    certify("stopped", anytime(RADII[2]), 9, steps=3)
    for radius in RADII:
        stopped = certify("stopped", anytime(radius), 9)
    assert stopped.paths == up.paths


def test_what_is_there_is_not_cast_again(certify: Certify, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that suffices is left as it is, without a run."""
    before = certify("record", anytime(0.6), 6)

    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(OnnxRuntime, "logits", refuse)
    assert certify("record", anytime(0.6), 6) == before


def test_outcomes_are_those_of_the_rule(certify: Certify) -> None:
    """At each radius, for the images up to the first unfinished one: what `end_of` says of each."""
    for radius in RADII:
        certify("record", anytime(radius), 14)
    record = certify("record", anytime(RADII[0]), 24)
    for radius, found in zip(RADII, outcomes(record, RADII, 24), strict=True):
        rule = anytime(radius)
        ends = []
        for image in in_order(24, STRIDES):
            kept = record.path(image)
            assert kept is not None
            end = end_of(kept[1], rule)
            if end is None:
                break
            ends.append((kept, end))
        # A whole stride is every 20th (2 images), every 5th (5) or all 24.
        done = next(count for count in (24, 5, 2) if count <= len(ends))
        assert found.votes.tolist() == [record.n0 + end.trials for _, end in ends[:done]]
        assert found.certified.tolist() == [end.reason == "radius" for _, end in ends[:done]]
        assert found.right.tolist() == [
            end.reason == "radius" and label == path.index for (label, path), end in ends[:done]
        ]


@given(label=some.integers(0, 9), index=some.integers(0, 9), failures=some.lists(some.integers(0, 3), max_size=20))
def test_a_written_path_is_read_again(label: int, index: int, failures: list[int]) -> None:
    """A line of a record holds the whole path."""
    path = VotePath(index, failures)
    assert read(written(label, path), 100_000) == (label, path)


@given(
    rate=some.floats(0, 1), reached=some.integers(0, 10_000), radius=some.sampled_from((0.05, 0.5, 1.0, 1.9, 4.0)),
    n=some.sampled_from((1, 40, 3000)), seed=some.integers(0, 1000),
)  # fmt: skip
def test_many_paths_end_where_each_does(rate: float, reached: int, radius: float, n: int, seed: int) -> None:
    """`Looks.first_ends` finds the look at which the rule stops when asked at one look after the other."""
    times = look_times(n)
    steps = np.diff(np.append(0, times))
    drawn = np.random.default_rng(seed).binomial(steps, rate).tolist()[: reached % (len(times) + 1)]
    rule = AnytimeCertificate(n, 0.001, 0.5, radius)
    end = end_of(VotePath(0, drawn), rule)
    failures = np.zeros((1, len(times)), np.int64)
    failures[0, : len(drawn)] = np.cumsum(drawn)
    (place,) = looks_of(n, 0.001, failure_at(0.5, radius)).first_ends(failures, np.array([len(drawn)]))
    if end is None or end.trials == 0:  # out of reach before the first vote: no look is needed to tell
        assert place == (-1 if end is None else place)
    else:
        assert (times[place], times[place] - failures[0, place]) == (end.trials, end.count)


def test_skipped_images_are_left_to_another_record(certify: Certify) -> None:
    """What follows them is the same as in a record that has them too."""
    whole, rest = certify("whole", anytime(0.6), 9), certify("rest", anytime(0.6), 9, skip=4)
    ordered = in_order(24, STRIDES)
    assert set(rest.paths) == set(ordered[4:9])
    assert {image: whole.paths[image] for image in ordered[4:9]} == rest.paths


def test_every_twentieth_image_comes_first() -> None:
    """Then every fifth, then the others, each once."""
    ordered = in_order(100, STRIDES)
    assert ordered[:5] == [0, 20, 40, 60, 80]
    assert sorted(ordered[:20]) == list(range(0, 100, 5))
    assert sorted(ordered) == list(range(100))
