"""Noise-injected training: the whole loop.

Every random number is a function of the recipe's seed, its purpose and the epoch, so a run that is stopped
and goes on makes the same weights as one that is not.
"""

import copy
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from noise_op.contract import NoiseKind, sigma_row
from noise_op.torch_twin import Draws, GaussianNoise, drawing, gaussian_noise
from training import checkpoint
from training.augment import augment
from training.checkpoint import Checkpoint
from training.data.examples import DataSet, Examples
from training.errors import TrainingError
from training.networks.network import Network
from training.networks.registry import build
from training.provenance import git_commit, versions
from training.recipe import Purpose, Recipe, derived_seed
from training.run_folder import RunFolder

GLANCE_IMAGES = 2000  # images of the per-epoch accuracies: a look at the run, not a published figure
GLANCE_NORM_BATCHES = 20
ROWS_PER_EVALUATION = 500

Tensors = list[Tensor] | tuple[Tensor, ...]


class TooFewImagesError(TrainingError):
    """The training images do not fill one batch."""

    def __init__(self, recipe: Recipe, images: int) -> None:
        super().__init__(f"batch: {recipe.batch} is more than the {images} training images")


class _Averaging:
    """Exponential moving average whose decay grows from 0.1 to `decay`, so that it forgets the first weights."""

    def __init__(self, decay: float) -> None:
        self.decay = decay

    def __call__(self, averaged: Tensors, current: Tensors, count: Tensor | int) -> None:
        decay = min(self.decay, (1 + float(count)) / (10 + float(count)))
        torch._foreach_lerp_(averaged, current, 1 - decay)


class Training:
    """One run: network, optimiser and schedule, stepping through epochs that depend only on (recipe, epoch)."""

    def __init__(self, recipe: Recipe, examples: Examples) -> None:
        self.recipe = recipe
        self.examples = examples
        self.labels = torch.from_numpy(examples.labels).long()
        self.steps_per_epoch = len(self.labels) // recipe.batch
        self.epoch = 0
        if self.steps_per_epoch == 0:
            raise TooFewImagesError(recipe, len(self.labels))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(recipe.seed, Purpose.WEIGHTS))
            self.network = build(recipe.network, recipe.noise)
        if recipe.init is not None:
            self.network.load_state_dict(RunFolder(Path(recipe.init)).read_network().state_dict())
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # an overload torch leaves out
        self.average = AveragedModel(self.network, multi_avg_fn=_Averaging(recipe.average_decay))
        self.optimizer = _optimizer(self.network, recipe)
        self.schedule = OneCycleLR(self.optimizer, recipe.lr, total_steps=recipe.epochs * self.steps_per_epoch)

    def run_epoch(self, bar: "tqdm[Any]") -> dict[str, float]:
        """One pass over the training images; returns mean loss and accuracy under the training noise."""
        self.network.train()
        loss_sum, right = torch.zeros(()), torch.zeros(())
        for step, (inputs, labels) in enumerate(self._batches(self.epoch)):
            done = self.epoch * self.steps_per_epoch + step
            draws = presentation_draws(self.recipe, done, len(labels), self.steps_per_epoch, self.recipe.loss_votes)
            with drawing(draws), self._repeated_output(done), _precision(self.recipe):
                votes = self.recipe.loss_votes * self.recipe.output_votes
                logits = voted(self.network(inputs).float(), votes)  # [batch, classes]
                loss = loss_of(logits, labels, self.recipe)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # untyped in torch
            if self.recipe.clip_norm > 0:
                clip_grad_norm_(self.network.parameters(), self.recipe.clip_norm)
            self.optimizer.step()
            self.schedule.step()
            self.average.update_parameters(self.network)
            loss_sum += loss.detach()
            right += (logits.argmax(1) == labels).float().mean()
            bar.update()
        self.epoch += 1
        return {"loss": loss_sum.item() / self.steps_per_epoch, "train_accuracy": right.item() / self.steps_per_epoch}

    def result(self, norm_batches: int) -> Network:
        """The averaged network as it stands, its batch norms estimated anew under noise from so many batches."""
        source = cast("Network", self.average.module) if self.recipe.average_decay > 0 else self.network
        network = copy.deepcopy(source)
        if norm_batches > 0:
            self._estimate_norms(network, norm_batches)
        return network.eval()

    def save(self, path: Path) -> None:
        """Write all that `restore` needs to go on exactly as if nothing had stopped."""
        moments, groups = checkpoint.pack_optimizer(self.optimizer)
        parts = {"model": self.network.state_dict(), "average": self.average.state_dict(), "optimizer": moments}
        tensors = {f"{part}.{name}": tensor for part, named in parts.items() for name, tensor in named.items()}
        state = {"epoch": self.epoch, "schedule": self.schedule.state_dict(), "groups": groups}
        checkpoint.write(path, Checkpoint(tensors, state))

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint of the same recipe."""
        saved = checkpoint.read(path)
        self.network.load_state_dict(saved.part("model"))
        self.average.load_state_dict(saved.part("average"))
        checkpoint.unpack_optimizer(self.optimizer, saved.part("optimizer"), saved.state["groups"])
        self.schedule.load_state_dict(saved.state["schedule"])
        self.epoch = saved.state["epoch"]

    @contextmanager
    def _repeated_output(self, step: int) -> Iterator[None]:
        """Inside, the last site answers `output_votes` times for each row, each time with noise of its own.

        Nothing before it is computed again, so this costs next to nothing.
        """
        if self.recipe.output_votes == 1:
            yield
            return
        rows = self.recipe.batch * self.recipe.loss_votes
        draws = presentation_draws(self.recipe, step, rows, self.steps_per_epoch, self.recipe.output_votes)

        def repeat(site: torch.nn.Module, signals: tuple[Tensor, ...], _: Tensor) -> Tensor:
            assert isinstance(site, GaussianNoise)
            return gaussian_noise(signals[0], draws, site=site.site, activation=site.activation, fan_out=True)

        *_, last = (module for module in self.network.modules() if isinstance(module, GaussianNoise))
        hook = last.register_forward_hook(repeat)
        try:
            yield
        finally:
            hook.remove()

    def _batches(self, epoch: int, augmented: bool = True) -> Iterator[tuple[Tensor, Tensor]]:
        """Shuffled batches, images channels-last; the last, smaller one is left out."""
        order_seed = derived_seed(self.recipe.seed, Purpose.ORDER, epoch)
        order = torch.randperm(len(self.labels), generator=torch.Generator().manual_seed(order_seed))
        maps = torch.Generator().manual_seed(derived_seed(self.recipe.seed, Purpose.AUGMENTATION, epoch))
        for chosen in torch.split(order, self.recipe.batch)[: self.steps_per_epoch]:
            inputs = torch.from_numpy(self.examples.values(chosen.numpy()))
            if augmented:
                inputs = augment(inputs, self.recipe, maps)
            yield laid_out(inputs), self.labels[chosen]

    def _estimate_norms(self, network: torch.nn.Module, count: int) -> None:
        """Plain mean of the batch statistics over unaugmented batches with the training noise on."""
        norms = [m for m in network.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # torch: cumulative average
        network.train()
        seed = derived_seed(self.recipe.seed, Purpose.NORM_NOISE)
        with torch.no_grad():
            batches = self._batches(self.recipe.epochs, augmented=False)
            for step, (inputs, _) in zip(range(count), batches, strict=False):
                vote = step * self.recipe.batch
                draws = constant_draws(self.recipe.noise, self.recipe.sigma_train, seed, len(inputs), vote)
                with drawing(draws):
                    network(inputs)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def train(recipe: Recipe, data: DataSet, folder: RunFolder, *, stop_after: int | None = None) -> None:
    """Train, or go on training, until the run is finished (or `stop_after` epochs are done).

    Raises:
        RecipeChangedError: the folder was started with another recipe.
        CheckpointError: the folder's checkpoint cannot be read.
    """
    folder.open(recipe)
    if folder.weights.exists():
        tqdm.write(f"{folder.path}: finished already")
        return
    training = Training(recipe, data.to_train(recipe.images, recipe.holdout))
    if folder.checkpoint.exists():
        training.restore(folder.checkpoint)
    provenance = {"commit": git_commit(), "versions": versions(), "data_hashes": data.hashes}
    folder.append(
        "start", epoch=training.epoch, threads=torch.get_num_threads(), recipe=recipe.model_dump(), **provenance
    )
    glance = data.to_judge(recipe.holdout).first(GLANCE_IMAGES)
    last = min(recipe.epochs, recipe.epochs if stop_after is None else stop_after)
    steps = training.steps_per_epoch
    # disable=None: no bar where the output is a file
    with tqdm(total=recipe.epochs * steps, initial=training.epoch * steps, desc=recipe.variant, disable=None) as bar:
        while training.epoch < last:
            started = time.perf_counter()
            figures = training.run_epoch(bar)
            figures["seconds"] = time.perf_counter() - started
            figures |= glances(training.result(min(GLANCE_NORM_BATCHES, recipe.norm_batches)), recipe, glance)
            folder.append("epoch", epoch=training.epoch, lr=training.schedule.get_last_lr()[0], **figures)
            training.save(folder.checkpoint)
            bar.write(f"{recipe.variant} epoch {training.epoch}/{recipe.epochs} " + _readable(figures))
    if training.epoch == recipe.epochs:
        tensors = {
            f"model.{name}": tensor for name, tensor in training.result(recipe.norm_batches).state_dict().items()
        }
        state = {"recipe": recipe.model_dump(), "epochs": training.epoch, **provenance}
        checkpoint.write(folder.weights, Checkpoint(tensors, state))
        folder.append("finished", epoch=training.epoch)


def voted(logits: Tensor, votes: int) -> Tensor:
    """Log of the mean probabilities over each `votes` rows one after the other: [rows, classes] to [batch, classes].

    Their softmax is the mean, so they stand for the logits of the vote.
    """
    if votes == 1:
        return logits
    probabilities = log_softmax(logits, dim=1).reshape(-1, votes, logits.shape[1])
    return torch.logsumexp(probabilities, dim=1) - math.log(votes)


def loss_of(logits: Tensor, labels: Tensor, recipe: Recipe) -> Tensor:
    """Mean of (1 − p^q)/q, p the probability of the label: the generalised cross entropy of Zhang and Sabuncu (2018).

    At q = 0 it is the cross entropy. There, a vote that noise has turned over costs the more the surer it
    is, so the network hedges; towards q = 1 the loss is bounded and becomes the share of wrong votes.
    """
    if recipe.loss_power == 0:
        return cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
    log_p = -cross_entropy(logits, labels, reduction="none")
    return (-torch.expm1(recipe.loss_power * log_p) / recipe.loss_power).mean()


def glances(network: Network, recipe: Recipe, examples: Examples) -> dict[str, float]:
    """One-vote accuracy on a few images that it was not trained on, noiseless and at sigma_train: for the log only."""
    return {
        "glance_noiseless": one_vote_accuracy(network, recipe, examples, 0.0),
        "glance_one_vote": one_vote_accuracy(network, recipe, examples, recipe.sigma_train),
    }


@torch.no_grad()
def one_vote_accuracy(network: Network, recipe: Recipe, examples: Examples, sigma: float) -> float:
    """Share of the examples whose single vote is right."""
    right, seed = 0, derived_seed(recipe.seed, Purpose.TEST_NOISE)
    network.eval()
    for start in range(0, len(examples), ROWS_PER_EVALUATION):
        chosen = slice(start, start + ROWS_PER_EVALUATION)
        labels = torch.from_numpy(examples.labels[chosen]).long()
        inputs = laid_out(torch.from_numpy(examples.values(chosen)))
        with drawing(constant_draws(recipe.noise, sigma, seed, len(labels), start)):
            logits = network(inputs)
        right += int((logits.argmax(1) == labels).sum())
    return right / len(examples)


def presentation_draws(recipe: Recipe, step: int, inputs: int, steps_per_epoch: int, votes: int = 1) -> Draws:
    """Fresh noise for `votes` votes of each of a step's inputs: vote numbers count all votes of all steps before."""
    sigma, seed = sigma_at(recipe, step, steps_per_epoch), derived_seed(recipe.seed, Purpose.NOISE)
    draws = constant_draws(recipe.noise, sigma, seed, inputs * votes, step * inputs * votes)
    return draws if votes == 1 else replace(draws, row=torch.arange(inputs).repeat_interleave(votes))


def sigma_at(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Sigma of a step: a linear ramp over the first `ramp_epochs` epochs, then sigma_train."""
    ramp = recipe.ramp_epochs * steps_per_epoch
    return recipe.sigma_train * (min(1.0, (step + 1) / ramp) if ramp > 0 else 1.0)


def constant_draws(kind: NoiseKind, sigma: float, seed: int, rows: int, first_vote: int) -> Draws:
    """Draws of one sigma and seed for votes first_vote, first_vote + 1, …, one each row."""
    return Draws(
        sigma=torch.tensor([sigma_row(kind, sigma)]).expand(rows, 2).contiguous(),
        seed=torch.full((rows,), seed, dtype=torch.int64),
        vote=torch.arange(first_vote, first_vote + rows, dtype=torch.int64),
    )


def laid_out(inputs: Tensor) -> Tensor:
    """The same inputs; images [n, channels, height, width] channels-last in memory, as the weights are."""
    return inputs.contiguous(memory_format=torch.channels_last) if inputs.dim() == 4 else inputs


def _optimizer(network: torch.nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    groups = _parameter_groups(network, recipe.weight_decay)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.lr)
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=0.9, nesterov=True)


def _parameter_groups(network: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weights of products decay; biases and batch norm parameters do not."""
    decayed = [parameter for parameter in network.parameters() if parameter.dim() > 1]
    free = [parameter for parameter in network.parameters() if parameter.dim() <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


def _precision(recipe: Recipe) -> torch.autocast:
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=recipe.precision == "bfloat16")


def _readable(figures: dict[str, float]) -> str:
    return " ".join(f"{name} {value:.4f}" for name, value in figures.items())
