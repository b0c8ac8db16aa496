import json
from pathlib import Path
from typing import Any

import pytest
import torch

from noisevote.evaluation.examples import Examples
from noisevote.training.attack.craft import accuracy_under
from noisevote.training.attack.steps import pgd
from noisevote.training.attack.target import Target
from noisevote.training.data.data_set import DataSet
from noisevote.training.fit import paced
from noisevote.training.fit.paced import Schedule, one_cycle, train_until
from noisevote.training.fit.train import train
from noisevote.training.networks.registry import NETWORKS
from noisevote.training.noise.draws import CPU
from noisevote.training.runs import checkpoint
from noisevote.training.runs.recipe import Recipe
from noisevote.training.runs.run_folder import RunFolder
from tests.support.networks import NarrowCnn

EPS = 0.1


@pytest.fixture(scope="module")
def divided(digits: Examples) -> DataSet:
    """Digits twice over: the last 32 of 96 are held out."""
    more = Examples(digits.inputs[:32], digits.labels[:32])
    both = Examples(torch.cat([torch.from_numpy(p.inputs) for p in (digits, more)]).numpy(),
                    torch.cat([torch.from_numpy(p.labels) for p in (digits, more)]).numpy())  # fmt: skip
    return DataSet("mnist", both, digits, tuple("0123456789"), {"digits": "md5:0"})


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a narrow network: no step costs much, and each is taken as with a wide one."""
    monkeypatch.setitem(NETWORKS, "narrow", NarrowCnn)
    return "narrow"


def adversarial(**given: Any) -> Recipe:
    """A small recipe of adversarial training."""
    usual = {
        "sigma_train": 0.0, "batch": 16, "lr": 2e-3, "average_decay": 0.9, "norm_batches": 2, "precision": "float32",
        "shift_pixels": 0, "rotate_degrees": 0, "scale": 0, "holdout": 32, "adversarial_share": 1.0,
        "adversarial_eps": EPS, "adversarial_step": 0.04, "adversarial_iterations": 2, "epochs": 2,
    }  # fmt: skip
    return Recipe.model_validate(usual | given)


def log_of(folder: RunFolder, event: str) -> list[dict[str, Any]]:
    """The run's log lines of an event."""
    lines = [json.loads(line) for line in folder.log.read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


@pytest.mark.prove  # trains two networks; the others here train one for a few steps
def test_adversarial_training_withstands_what_breaks_plain_training(
    trained: RunFolder, divided: DataSet, tmp_path: Path
) -> None:
    """After a few epochs of PGD training PGD leaves far more digits right than of a network trained without."""
    folder = RunFolder(tmp_path / "robust")
    train(adversarial(epochs=12, adversarial_iterations=4), divided, folder)
    found = accuracy_under(Target(folder.read_network()), pgd(EPS, 0.02, 10), divided.test, CPU)
    plain = accuracy_under(Target(trained.read_network()), pgd(EPS, 0.02, 10), divided.test, CPU)
    assert found >= plain + 0.2


def test_best_epoch_on_held_out_images_is_kept(divided: DataSet, narrow: str, tmp_path: Path) -> None:
    """Each epoch's line has the accuracy under attack on held-out images, and the weights are of the largest one."""
    folder = RunFolder(tmp_path / "run")
    recipe = adversarial(network=narrow, epochs=4)
    train(recipe, divided, folder)
    judged = [line["holdout_pgd"] for line in log_of(folder, "epoch")]
    assert len(judged) == 4
    (finished,) = log_of(folder, "finished")
    assert finished["best_holdout_pgd"] == max(judged)
    assert judged[finished["best_epoch"] - 1] == max(judged)


@pytest.mark.parametrize("given", [{}, {"adversarial_share": 0.5, "sigma_train": 0.3}], ids=["alone", "mixed, noisy"])
def test_stopping_and_going_on_changes_no_bit(
    divided: DataSet, narrow: str, tmp_path: Path, given: dict[str, Any]
) -> None:
    """Random starts too are a function of (seed, epoch): a run that stopped ends in the weights of one that did not."""
    recipe = adversarial(network=narrow, **given)
    whole, parts = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "parts")
    train(recipe, divided, whole)
    for epochs in (1, None):
        train(recipe, divided, parts, stop_after=epochs)
    expected, found = checkpoint.read(whole.weights).tensors, checkpoint.read(parts.weights).tensors
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_recipes_from_before_are_still_read() -> None:
    """A recipe written without the fields of adversarial training means none of it."""
    recipe = Recipe.model_validate_json('{"network": "mnist-cnn", "sigma_train": 0.4, "seed": 3}')
    assert recipe.adversarial_share == recipe.consistency == recipe.mix_weight == 0


class EpochClock:
    """A clock by which an epoch of training takes 2 s and nothing else takes any time."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        original = paced.PacedTraining.run_epoch

        def run_epoch(training: paced.PacedTraining, bar: Any) -> dict[str, float]:
            self.now += 2
            return original(training, bar)

        patch.setattr(paced, "time", self)
        patch.setattr(paced.PacedTraining, "run_epoch", run_epoch)

    def time(self) -> float:
        """As `time.time`."""
        return self.now

    perf_counter = time


def test_paced_training_ends_in_time_with_a_small_rate(
    divided: DataSet, narrow: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With far more epochs than time, it writes weights before the deadline, at a small rate; then it rests."""
    folder, clock = RunFolder(tmp_path / "paced"), EpochClock(monkeypatch)
    train_until(20, adversarial(network=narrow, epochs=10_000), divided, folder)
    assert clock.now <= 20
    (finished,) = log_of(folder, "finished")
    assert finished["epoch"] < 10_000
    last = log_of(folder, "epoch")[-1]
    assert last["lr"] < 0.3 * 2e-3
    before = folder.weights.read_bytes()
    train_until(clock.now + 20, adversarial(network=narrow, epochs=10_000), divided, folder)
    assert folder.weights.read_bytes() == before


def test_schedule_is_one_cycle() -> None:
    """The rate begins at a 25th, is largest at three tenths, ends near nothing, and goes on where it was saved."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    schedule = Schedule(torch.optim.AdamW([parameter]), 0.1)
    schedule.pace = 0.1
    assert schedule.get_last_lr()[0] == pytest.approx(0.004)
    for _ in range(3):
        schedule.step()
    assert schedule.get_last_lr()[0] == pytest.approx(0.1)
    other = Schedule(torch.optim.AdamW([parameter]), 0.1)
    other.load_state_dict(schedule.state_dict())
    assert other.get_last_lr() == schedule.get_last_lr()
    assert one_cycle(1.0) < 1e-4
