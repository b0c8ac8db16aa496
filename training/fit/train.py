"""Noise-injected training: the whole loop.

Every random number is a function of the recipe's seed, its purpose and the epoch, so a run that is stopped
and goes on makes the same weights as one that is not.
"""

import copy
import itertools
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import OneCycleLR
from tqdm import tqdm

from noisevote.evaluation.examples import Examples
from noisevote.noise_op.torch_twin import Draws
from noisevote.training.data.data_set import DataSet
from noisevote.training.errors import TrainingError
from noisevote.training.fit.augment import augment
from noisevote.training.fit.best import Best
from noisevote.training.fit.chosen import gradients_of
from noisevote.training.fit.gradients import Compute, Replayed
from noisevote.training.fit.quick_eval import QUICK_EVAL_IMAGES, quick_evals
from noisevote.training.fit.step_way import faster_way
from noisevote.training.fit.warm_start import INPUTS, start_from
from noisevote.training.networks.network import Network
from noisevote.training.networks.registry import build
from noisevote.training.noise.draws import CPU, laid_out, presentation_draws
from noisevote.training.noise.norms import estimate_norms
from noisevote.training.runs import checkpoint
from noisevote.training.runs.checkpoint import Checkpoint
from noisevote.training.runs.provenance import provenance
from noisevote.training.runs.recipe import Purpose, Recipe, derived_seed
from noisevote.training.runs.run_folder import RunFolder

QUICK_EVAL_NORM_BATCHES = 20


class TooFewImagesError(TrainingError):
    """The training images do not fill one batch."""

    def __init__(self, recipe: Recipe, images: int) -> None:
        super().__init__(f"batch: {recipe.batch} is more than the {images} training images")


class _Average:
    """Exponential moving average of a network's parameters; its decay grows to `decay`, to forget the first weights.

    Torch's AveragedModel would do, but it asks the device for the number of steps at each of them, which makes
    the host wait, and copies every buffer each time.
    """

    def __init__(self, network: Network, decay: float) -> None:
        self.network = copy.deepcopy(network)
        self.decay = decay
        self.steps = 0

    def update(self, network: Network) -> None:
        """Take in the parameters as they are after one more step."""
        kept = min(self.decay, (1 + self.steps) / (10 + self.steps)) if self.steps else 0.0
        averaged: list[Tensor] = list(self.network.parameters())
        current: list[Tensor] = list(network.parameters())
        with torch.no_grad():
            torch._foreach_lerp_(averaged, current, 1 - kept)
        self.steps += 1


class Training:
    """One run: network, optimiser and schedule, stepping through epochs that depend only on (recipe, epoch)."""

    def __init__(self, recipe: Recipe, examples: Examples, device: torch.device = CPU) -> None:
        self.recipe = recipe
        self.device = device
        self.inputs = torch.tensor(examples.inputs, device=device)
        self.labels = torch.from_numpy(examples.labels.astype(np.int64)).to(device)
        self.steps_per_epoch = len(self.labels) // recipe.batch
        self.epoch = 0
        if self.steps_per_epoch == 0:
            raise TooFewImagesError(recipe, len(self.labels))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(recipe.seed, Purpose.WEIGHTS))
            self.network = build(recipe.network, recipe.noise)
        if recipe.init is not None:
            some = torch.from_numpy(examples.first(INPUTS).values(slice(None)))
            start_from(self.network, Path(recipe.init), some)
        self.network.to_device(device)
        self.average = _Average(self.network, recipe.average_decay)
        self.optimizer = _optimizer(self.network, recipe)
        self.schedule = OneCycleLR(self.optimizer, recipe.lr, total_steps=recipe.epochs * self.steps_per_epoch)
        self.computed = gradients_of(self.network, recipe)
        self.compute: Compute = Replayed(self.computed) if device.type == "cuda" else self.computed

    def choose_way(self, folder: RunFolder) -> None:
        """Compute steps the faster way from here on, where there are two and they depend on the device."""
        if self.device.type == "cuda" and self.network.shared_norms is not None:
            self.network.train()
            inputs, labels = next(self._batches(0))
            self.compute = faster_way(self.computed, (inputs, labels, self._draws(0)), folder, Replayed)

    def run_epoch(self, bar: "tqdm[Any]") -> dict[str, float]:
        """One pass over the training images; returns mean loss and accuracy under the training noise."""
        self.network.train()
        loss_sum, right_sum = torch.zeros((), device=self.device), torch.zeros((), device=self.device)
        self.computed.begin(self.epoch)
        for step, (inputs, labels) in enumerate(self._batches(self.epoch)):
            self.computed.at(self.epoch + step / self.steps_per_epoch)
            loss, right = self.compute(inputs, labels, self._draws(self.epoch * self.steps_per_epoch + step))
            if self.recipe.clip_norm > 0:
                clip_grad_norm_(self.network.parameters(), self.recipe.clip_norm)
            self.optimizer.step()
            self.schedule.step()
            self.average.update(self.network)
            loss_sum += loss
            right_sum += right
            bar.update()
        self.epoch += 1
        steps = self.steps_per_epoch
        return {"loss": loss_sum.item() / steps, "train_accuracy": right_sum.item() / steps}

    def result(self, norm_batches: int) -> Network:
        """The averaged network as it stands, its batch norms estimated anew under noise from so many batches."""
        network = copy.deepcopy(self.network)
        if self.recipe.average_decay > 0:
            network.load_state_dict(dict(self.average.network.named_parameters()), strict=False)
        if norm_batches > 0:
            self.estimate_norms(network, norm_batches)
        return network.eval()

    def estimate_norms(self, network: Network, count: int) -> None:
        """Estimate the batch norms of a network anew, from so many batches of unaugmented training images."""
        batches = itertools.islice(self._batches(self.recipe.epochs, augmented=False), count)
        estimate_norms(network, self._shown(batches), self.recipe)

    def _shown(self, batches: Iterator[tuple[Tensor, Tensor]]) -> Iterator[Tensor]:
        """What training shows the network of these batches: their inputs, adversarial ones among them if it does."""
        self.computed.begin(self.recipe.epochs)
        for step, (inputs, labels) in enumerate(batches):
            if self.recipe.adversarial_share > 0:
                with torch.enable_grad():  # the attack's; the parameters' are computed too, and left unused
                    self.compute(inputs, labels, self._draws(self.recipe.epochs * self.steps_per_epoch + step))
            yield self.computed.shown if self.recipe.adversarial_share > 0 else inputs

    def save(self, path: Path) -> None:
        """Write all that `restore` needs to go on exactly as if nothing had stopped."""
        moments, groups = checkpoint.pack_optimizer(self.optimizer)
        parts = {"model": self.network.state_dict(), "average": self.average.network.state_dict(), "optimizer": moments}
        tensors = {f"{part}.{name}": tensor for part, named in parts.items() for name, tensor in named.items()}
        state = {
            "epoch": self.epoch,
            "averaged": self.average.steps,
            "schedule": self.schedule.state_dict(),
            "groups": groups,
        }
        checkpoint.write(path, Checkpoint(tensors, state))

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint of the same recipe."""
        saved = checkpoint.read(path)
        self.network.load_state_dict(saved.part("model"))
        self.average.network.load_state_dict(saved.part("average"))
        self.average.steps = saved.state["averaged"]
        checkpoint.unpack_optimizer(self.optimizer, saved.part("optimizer"), saved.state["groups"])
        self.schedule.load_state_dict(saved.state["schedule"])
        self.epoch = saved.state["epoch"]

    def _draws(self, step: int) -> Draws:
        """Return the draws of a step: of the whole network, and of its last site where that answers several times."""
        recipe, epoch = self.recipe, self.steps_per_epoch
        draws = presentation_draws(recipe, step, recipe.batch, epoch, recipe.loss_votes, self.device)
        if recipe.output_votes == 1:
            return draws
        rows = recipe.batch * recipe.loss_votes
        return replace(draws, output=presentation_draws(recipe, step, rows, epoch, recipe.output_votes, self.device))

    def _batches(self, epoch: int, augmented: bool = True) -> Iterator[tuple[Tensor, Tensor]]:
        """Shuffled batches, images channels-last; the last, smaller one is left out."""
        order_seed = derived_seed(self.recipe.seed, Purpose.ORDER, epoch)
        order = torch.randperm(len(self.labels), generator=torch.Generator().manual_seed(order_seed))
        maps = torch.Generator().manual_seed(derived_seed(self.recipe.seed, Purpose.AUGMENTATION, epoch))
        for chosen in torch.split(order.to(self.device), self.recipe.batch)[: self.steps_per_epoch]:
            inputs = values(self.inputs[chosen])
            if augmented:
                inputs = augment(inputs, self.recipe, maps)
            yield laid_out(inputs), self.labels[chosen]


def train(
    recipe: Recipe, data: DataSet, folder: RunFolder, *, stop_after: int | None = None, device: torch.device = CPU
) -> None:
    """Train, or go on training, until the run is finished (or `stop_after` epochs are done).

    Raises:
        RecipeChangedError: the folder was started with another recipe.
        CheckpointError: the folder's checkpoint cannot be read.
    """
    folder.open(recipe)
    if folder.weights.exists():
        tqdm.write(f"{folder.path}: finished already")
        return
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True  # every batch has the same shape
    training = Training(recipe, data.to_train(recipe.images, recipe.holdout), device)
    if folder.checkpoint.exists():
        training.restore(folder.checkpoint)
    made_by = provenance(data, device)
    folder.append("start", epoch=training.epoch, threads=torch.get_num_threads(), recipe=recipe.model_dump(), **made_by)
    training.choose_way(folder)
    best = Best(recipe, data, folder, device)
    last = min(recipe.epochs, recipe.epochs if stop_after is None else stop_after)
    _run_epochs(training, last, data.to_judge(recipe.holdout).first(QUICK_EVAL_IMAGES), folder, best)
    if training.epoch == recipe.epochs:
        finish(training, folder, best, made_by)


def _run_epochs(training: Training, last: int, judged: Examples, folder: RunFolder, best: Best) -> None:
    """Train up to epoch `last`; after each epoch evaluate quickly, write a line of the log, and save a checkpoint."""
    recipe, steps = training.recipe, training.steps_per_epoch
    # disable=None: no bar where the output is a file
    with tqdm(total=recipe.epochs * steps, initial=training.epoch * steps, desc=recipe.variant, disable=None) as bar:
        while training.epoch < last:
            started = time.perf_counter()
            figures = training.run_epoch(bar)
            figures["seconds"] = time.perf_counter() - started
            network = training.result(min(QUICK_EVAL_NORM_BATCHES, recipe.norm_batches))
            figures |= quick_evals(network, recipe, judged) | best.judge(network, training.epoch)
            folder.append("epoch", epoch=training.epoch, lr=training.schedule.get_last_lr()[0], **figures)
            training.save(folder.checkpoint)
            bar.write(f"{recipe.variant} epoch {training.epoch}/{recipe.epochs} " + _readable(figures))


def finish(training: Training, folder: RunFolder, best: Best, made_by: dict[str, Any]) -> None:
    """Write the result: of adversarial training the best epoch's network, else the last one's."""
    recipe = training.recipe
    network = best.network() or training.result(recipe.norm_batches)
    folder.write_network(network, {"recipe": recipe.model_dump(), "epochs": training.epoch, **best.told(), **made_by})
    folder.append("finished", epoch=training.epoch, **best.told())


def values(stored: Tensor) -> Tensor:
    """Turn stored inputs into what the network takes, as `Examples.values` does: bytes stand for [0, 1]."""
    return stored.float() / 255 if stored.dtype == torch.uint8 else stored


def _optimizer(network: torch.nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    groups = _parameter_groups(network, recipe.weight_decay)
    fused = next(network.parameters()).is_cuda or None  # one kernel instead of many; None: torch's own choice
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.lr, fused=fused)
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=0.9, nesterov=True, fused=fused)


def _parameter_groups(network: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weights of products decay; biases and batch norm parameters do not."""
    decayed = [parameter for parameter in network.parameters() if parameter.dim() > 1]
    free = [parameter for parameter in network.parameters() if parameter.dim() <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


def _readable(figures: dict[str, float]) -> str:
    return " ".join(f"{name} {value:.4f}" for name, value in figures.items())
