"""A training step of DenseNet-40: module after module, and with norms that share their statistics.

    python -m benchmarks.densenet_step --out docs/results/densenet-step
    python -m benchmarks.densenet_step --device cuda

Loss, gradients and optimiser of whole batches of random images under multiplicative noise, the two ways by turns.
`training/networks/dense_block.py` says what is shared.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.report import write
from benchmarks.timing import in_turns
from noisevote.evaluation.examples import Examples
from noisevote.training.fit.gradients import Replayed
from noisevote.training.fit.train import Training
from noisevote.training.networks.channels import channels_of
from noisevote.training.networks.registry import named
from noisevote.training.runs.recipe import Recipe

NETWORK = "cifar10-densenet40"
TITLE = "A training step of DenseNet-40"
HEADER = "| precision | threads | batch | modules, ms a step | shared norms, ms a step | modules ÷ shared norms |"
RULE = "|---|---|---|---|---|---|"
PLAIN, SHARED = "modules", "shared norms"


def main() -> None:
    """Measure and print both ways, in each precision and with each number of threads."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.densenet_step", description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precisions", nargs="+", choices=("float32", "bfloat16"), default=["bfloat16", "float32"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, torch.get_num_threads()])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    device = torch.device(options.device)
    if channels_of(device) is None:
        parser.error(f"--device {options.device}: nothing computes shared norms there")
    figures, table = [], [HEADER, RULE]
    for precision in options.precisions:
        for threads in options.threads:
            torch.set_num_threads(threads)
            ways = {name: stepping(name == SHARED, precision, options.batch, device) for name in (PLAIN, SHARED)}
            timings = in_turns(ways, options.rounds)
            plain, shared = (1e3 * timings.median(name) for name in (PLAIN, SHARED))
            ratio = timings.ratio(PLAIN, SHARED)
            figures.append({"precision": precision, "threads": threads, PLAIN: plain, SHARED: shared, "ratio": ratio})
            table.append(f"| {precision} | {threads} | {options.batch} | {plain:.0f} | {shared:.0f} | {ratio:.2f} |")
            print(*table[-1:], sep="\n", flush=True)
    if options.out:
        write(options.out, figures, [__doc__.split("\n\n")[-1].strip(), "", *table], TITLE)


def stepping(shared: bool, precision: str, batch: int, device: torch.device) -> Callable[[], None]:
    """One way of computing steps, of a training of its own."""
    given = {"precision": precision, "sigma_train": 0.6, "output_votes": 16, "batch": batch, "ramp_epochs": 0.0}
    recipe = Recipe.model_validate({**named(NETWORK).recipe_defaults, "network": NETWORK, **given})
    draws = np.random.default_rng(0)
    images = draws.integers(0, 256, (batch, 3, 32, 32), dtype=np.uint8)
    training = Training(recipe, Examples(images, draws.integers(0, 10, batch)), device)
    training.network.train().shared_norms = shared
    if device.type == "cuda":
        training.compute = Replayed(training.computed)
    inputs, labels = next(training._batches(0))

    def step() -> None:
        training.compute(inputs, labels, training._draws(0))
        training.optimizer.step()
        training.average.update(training.network)
        if device.type == "cuda":
            torch.cuda.synchronize()

    return step


if __name__ == "__main__":
    main()
