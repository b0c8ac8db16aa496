from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from noisevote.evaluation.examples import Examples
from noisevote.training.attack import full_access
from noisevote.training.attack.full_access import Attack, OutsideBallError, by_steps, given, measure, plan, target_of
from noisevote.training.attack.records import FullAccess
from noisevote.training.attack.steps import pgd
from noisevote.training.attack.target import Noise, Target
from noisevote.training.attack.victim import Victim
from noisevote.training.runs.run_folder import RunFolder

STEPS = pgd(0.1, 0.05, 2)


@pytest.fixture(scope="module")
def victim(trained: RunFolder) -> Victim:
    """The trained run's network."""
    return Victim.of_run(trained)


def steps_on(planned: FullAccess, victim: Victim) -> Attack:
    """The attack that STEPS are, on the victim as it is known."""
    return by_steps(planned, STEPS, target_of(planned, victim))


def attack(victim: Victim, digits: Examples, file: Path, images: int, *, known: bool = False) -> FullAccess:
    """A small EOT attack on every 4th digit."""
    noise = Noise(sigma=0.3, seed=3)
    planned = plan(victim, asdict(STEPS), noise, draws=2, restarts=1, every=4, images=16, votes=5, known=known)
    return measure(
        planned, file, victim, digits.first(4 * images), by_steps(planned, STEPS, target_of(planned, victim))
    )


def test_a_stopped_attack_goes_on(
    victim: Victim, digits: Examples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after a block, the record ends as that of an attack that never stopped; partial ones say so."""
    monkeypatch.setattr(full_access, "BLOCK", 8)
    whole = attack(victim, digits, tmp_path / "whole.json", 16)
    part = attack(victim, digits, tmp_path / "parts.json", 8)
    assert not part.complete
    assert attack(victim, digits, tmp_path / "parts.json", 16) == whole
    assert whole.complete
    assert FullAccess.read(tmp_path / "whole.json") == whole
    assert set(whole.by_votes) == {1, 5}
    assert whole.by_votes[5] == whole.attacked.decided


def test_images_of_a_coarser_stride_come_first_and_more_may_follow(
    victim: Victim, digits: Examples, tmp_path: Path
) -> None:
    """Of every 4th digit each 16th comes first; planned for more images, a record goes on with those behind."""

    def planned(images: int) -> FullAccess:
        return plan(
            victim, asdict(STEPS), Noise(), draws=1, restarts=1, every=4, images=images, votes=1, before=(16,), among=32
        )

    first = measure(planned(2), tmp_path / "some.json", victim, digits, steps_on(planned(2), victim))
    assert first.complete
    assert list(first.places) == [0, 16]
    more = measure(planned(8), tmp_path / "some.json", victim, digits, steps_on(planned(8), victim))
    assert list(more.places)[2:] == [4, 8, 12, 20, 24, 28]
    assert more.attacked.decided[:2] == first.attacked.decided
    inputs = torch.from_numpy(digits.values(np.array(list(more.places))))
    with torch.no_grad():
        found = Target(victim.network).logits(inputs, 1)[:, 0].argmax(dim=1).numpy()
    assert more.natural.decisions.tolist() == (found == digits.labels[list(more.places)]).tolist()


def test_a_folded_victim_computes_the_same(victim: Victim, digits: Examples) -> None:
    """Logits and gradients under the same draws, up to rounding."""
    inputs, labels = torch.from_numpy(digits.values(slice(0, 8))), torch.from_numpy(digits.labels[:8].astype(np.int64))
    plain, folded = (Target(one.network, Noise(sigma=0.3), draws=3) for one in (victim, victim.folded()))
    with torch.no_grad():
        torch.testing.assert_close(folded.logits(inputs, 3), plain.logits(inputs, 3), rtol=1e-4, atol=1e-4)
    slopes = [one.gradient(labels, torch.Generator())(inputs) for one in (plain, folded)]
    torch.testing.assert_close(slopes[1], slopes[0], rtol=1e-2, atol=1e-3 * float(slopes[0].abs().max()))


def test_known_votes_judge_where_the_seed_is_known(victim: Victim, digits: Examples, tmp_path: Path) -> None:
    """Of a known seed, natural outcomes are those of votes 0 … draws − 1 of that seed; else of another seed."""
    known = attack(victim, digits, tmp_path / "known.json", 16, known=True)
    assert known.votes == 2
    inputs = torch.from_numpy(digits.values(np.arange(0, 64, 4)))
    with torch.no_grad():
        logits = Target(victim.network, Noise(sigma=0.3, seed=3), draws=2).logits(inputs, 2)
    expected = (logits.argmax(dim=2).numpy() == digits.labels[::4, None]).sum(axis=1)
    assert known.natural.counts.tolist() == expected.tolist()
    assert attack(victim, digits, tmp_path / "unknown.json", 16).votes == 5


def test_a_transfer_uses_the_sources_gradients(victim: Victim, digits: Examples, tmp_path: Path) -> None:
    """Crafted on itself without noise, an attack by transfer is the noiseless attack."""
    planned = plan(victim, asdict(STEPS), Noise(), draws=1, restarts=1, every=4, images=16, votes=5)
    direct = measure(planned, tmp_path / "direct.json", victim, digits, steps_on(planned, victim))
    told = plan(victim, asdict(STEPS), Noise(), draws=1, restarts=1, every=4, images=16, votes=5, source=victim.sha256)
    by_itself = measure(told, tmp_path / "transfer.json", victim, digits, steps_on(told, victim))
    assert by_itself.attacked == direct.attacked
    assert by_itself.source == direct.sha256
    assert by_itself.examined


def test_examples_of_a_substitute_are_chosen_by_the_attacked_networks_votes(
    victim: Victim, digits: Examples, tmp_path: Path
) -> None:
    """`judged` counts the attacked network's noisy votes on them, not the substitute's one answer."""
    noise = Noise(sigma=0.9, seed=3)
    planned = plan(victim, asdict(STEPS), noise, draws=20, restarts=1, every=4, images=16, votes=5, source="b")
    attack = by_steps(planned, STEPS, target_of(planned, victim), Target(victim.network))
    found = measure(planned, tmp_path / "substitute.json", victim, digits, attack)
    assert set(bytes.fromhex(found.judged)) - {0, 20}


def test_given_examples_are_judged_as_crafted_ones(victim: Victim, digits: Examples, tmp_path: Path) -> None:
    """Examples made elsewhere, found by the number of their image, are judged by the same votes as if made here."""
    noise = Noise(sigma=0.3, seed=3)
    planned = plan(victim, {"eps": 0.1, "iterations": 2}, noise, draws=2, restarts=1, every=4, images=16, votes=5)
    examples = {image: digits.values(slice(image, image + 1))[0] for image in range(0, 64, 4)}
    attack = given(examples, target_of(planned, victim), 0.1)
    found = measure(planned, tmp_path / "given.json", victim, digits, attack)
    assert found.attacked == found.natural
    far = given({image: 1 - examples[image] for image in examples}, target_of(planned, victim), 0.1)
    with pytest.raises(OutsideBallError, match=r"image .*: the example given for it is .* away, eps is 0.1"):
        measure(planned, tmp_path / "far.json", victim, digits, far)
