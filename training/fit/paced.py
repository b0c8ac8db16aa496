"""Training that ends at a given time: as many of a recipe's epochs as fit, the learning rate run down to its end.

On a graphics card that several runs share, nobody knows beforehand how long an epoch takes. After each one the rest of
the schedule is spread over the epochs that the remaining time allows; how many they were is in the weights' file.
"""

import math
import time
from pathlib import Path
from typing import Any, Final

import torch
from tqdm import tqdm

from noisevote.training.data.data_set import DataSet
from noisevote.training.fit.best import Best
from noisevote.training.fit.quick_eval import QUICK_EVAL_IMAGES, quick_evals
from noisevote.training.fit.train import Training, finish
from noisevote.training.networks.network import Network
from noisevote.training.noise.draws import CPU
from noisevote.training.noise.silent import silence
from noisevote.training.runs import checkpoint
from noisevote.training.runs.checkpoint import Checkpoint
from noisevote.training.runs.provenance import provenance
from noisevote.training.runs.recipe import Recipe
from noisevote.training.runs.run_folder import RunFolder

RISING: Final = 0.3  # share of the schedule in which the rate grows, as in torch's OneCycleLR
FIRST: Final = 1 / 25  # of the largest rate, at the beginning
LOOKED_AT: Final = 0.6  # share of the schedule after which epochs are judged and kept
SAVE_EVERY_S: Final = 20.0
LOOK_SHARE: Final = 1.3  # what an epoch with a look takes, where none was measured yet, by one without
SLACK: Final = 1.1  # an epoch may take so much longer than the one before it


class Schedule:
    """One cycle of the learning rate over a progress from 0 to 1, which grows by `pace` at each step."""

    def __init__(self, optimizer: torch.optim.Optimizer, largest: float) -> None:
        for group in optimizer.param_groups:  # torch's schedule, made before, has changed it
            group["betas" if "betas" in group else "momentum"] = (0.9, 0.999) if "betas" in group else 0.9
        self.optimizer = optimizer
        self.largest = largest
        self.progress = 0.0
        self.pace = 0.0
        self._set()

    def step(self) -> None:
        """Called after each step of the optimiser."""
        self.progress = min(1.0, self.progress + self.pace)
        self._set()

    def get_last_lr(self) -> list[float]:
        """As torch's schedules answer."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` takes."""
        return {"progress": self.progress}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on at a saved progress."""
        self.progress = state["progress"]
        self._set()

    def _set(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.largest * one_cycle(self.progress)


def one_cycle(progress: float) -> float:
    """The rate's share of its largest value: up from a 25th along half a cosine, then down to almost nothing."""
    if progress < RISING:
        return FIRST + (1 - FIRST) * (1 - math.cos(math.pi * progress / RISING)) / 2
    return 1e-5 + (1 - 1e-5) * (1 + math.cos(math.pi * (progress - RISING) / (1 - RISING))) / 2


class PacedTraining(Training):
    """`Training` whose schedule can be set to end with any epoch."""

    schedule: Schedule  # type: ignore[assignment]  # in place of torch's, whose length is fixed

    def __init__(self, recipe: Recipe, data: DataSet, device: torch.device = CPU) -> None:
        super().__init__(recipe, data.to_train(recipe.images, recipe.holdout), device)
        self.schedule = Schedule(self.optimizer, recipe.lr)
        if recipe.sigma_train == 0 and recipe.loss_votes == recipe.output_votes == 1:
            silence(self.network)
            silence(self.average.network)

    def warm_up(self, folder: RunFolder) -> None:
        """Let libraries choose and compile, so that the first epoch takes no longer than the others.

        If a step cannot be recorded as a graph, steps are computed one by one from here on; the log says so.
        """
        self.network.train()
        inputs, labels = next(self._batches(0))
        try:
            self.choose_way(folder)
            self.compute(inputs, labels, self._draws(0))
        except (RuntimeError, AssertionError) as error:
            if self.compute is self.computed:
                raise
            folder.append("no graph", error=str(error))
            print(f"no graph: {error}", flush=True)
            self.compute = self.computed
            self.compute(inputs, labels, self._draws(0))

    def plan(self, epochs: int) -> None:
        """Let the schedule end after so many more epochs."""
        self.schedule.pace = (1 - self.schedule.progress) / (max(1, epochs) * self.steps_per_epoch)


def train_until(deadline: float, recipe: Recipe, data: DataSet, folder: RunFolder, device: torch.device = CPU) -> None:
    """Train, or go on training, and write the result before `deadline`, seconds of `time.time()`.

    The network so far is kept in the run folder: `best.safetensors` of adversarial training, else `latest.safetensors`.
    """
    folder.open(recipe)
    if folder.weights.exists():
        return
    torch.backends.cudnn.benchmark = device.type == "cuda"
    training, best = PacedTraining(recipe, data, device), Best(recipe, data, folder, device)
    if folder.checkpoint.exists():
        training.restore(folder.checkpoint)
    made_by = provenance(data, device)
    folder.append("start", epoch=training.epoch, recipe=recipe.model_dump(), **made_by)
    training.plan(recipe.epochs - training.epoch)
    training.warm_up(folder)
    saved = time.time()
    while training.epoch < recipe.epochs and training.schedule.progress < 1:
        seconds = _epoch(training, best, folder)
        left = min(recipe.epochs - training.epoch, int((deadline - time.time()) / (seconds * SLACK)))
        training.plan(left)
        if left < 1:
            break
        if time.time() - saved > SAVE_EVERY_S:
            training.save(folder.checkpoint)
            saved = time.time()
    finish(training, folder, best, {**made_by, "progress": training.schedule.progress})


def latest(folder: RunFolder) -> Path:
    """The network after the latest epoch, of training that is not judged by attacks."""
    return folder.path / "latest.safetensors"


def _epoch(training: PacedTraining, best: Best, folder: RunFolder) -> float:
    """One epoch, looked at near the end of the schedule; returns the seconds to expect of the next."""
    started, recipe = time.perf_counter(), training.recipe
    with tqdm(disable=True) as bar:
        figures = training.run_epoch(bar)
    figures["train_seconds"] = time.perf_counter() - started
    if training.schedule.progress >= LOOKED_AT or training.epoch == 1:
        network = training.result(min(20, recipe.norm_batches))
        glance = best.examples if recipe.holdout else best.examples.first(QUICK_EVAL_IMAGES)
        figures |= quick_evals(network, recipe, glance.first(QUICK_EVAL_IMAGES)) | best.judge(network, training.epoch)
        if not best.active:
            _keep(network, recipe, training.epoch, latest(folder))
    seconds = figures["seconds"] = time.perf_counter() - started
    looked = training.schedule.progress >= LOOKED_AT
    progress, rate = training.schedule.progress, training.schedule.get_last_lr()[0]
    folder.append("epoch", epoch=training.epoch, progress=progress, lr=rate, **figures)
    print(f"{folder.path.name} epoch {training.epoch} {figures}", flush=True)
    return seconds if looked else LOOK_SHARE * figures["train_seconds"]


def _keep(network: Network, recipe: Recipe, epoch: int, file: Path) -> None:
    tensors = {f"model.{name}": tensor for name, tensor in network.state_dict().items()}
    checkpoint.write(file, Checkpoint(tensors, {"recipe": recipe.model_dump(), "epochs": epoch}))
