"""AutoAttack (Croce and Hein 2020) on a published network, with full access: `python -m benchmarks.autoattack --help`.

Under noise its `rand` version: APGD of 100 steps by cross entropy, and by the difference of logits ratio, with 20 votes
a gradient; each image's example of the highest loss is judged by fresh votes, where AutoAttack itself would count one
unlucky vote. Without noise its standard version: APGD, targeted APGD, targeted FAB and Square.

The library, pyautoattack 0.2.0, belongs in an environment of its own; see docs/defence.md. A record goes on where it
stopped.
"""

import argparse
import logging
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.attacks import Noisy
from noisevote.training.attack.craft import Crafted, judged
from noisevote.training.attack.full_access import Attack, measure, plan, target_of
from noisevote.training.attack.records import FullAccess
from noisevote.training.attack.target import EOT_DRAWS, Noise
from noisevote.training.attack.victim import Victim
from noisevote.training.commands.options import STORE
from noisevote.training.commands.victims import victim_of
from noisevote.training.data.files import DataSource
from noisevote.training.data.registry import load
from noisevote.training.noise.silent import silenced

STEPS: Final = 100
LOGGER: Final = logging.getLogger("autoattack")


def random_version(record: FullAccess, victim: Victim, loss: str) -> Attack:
    """APGD with the record's votes a gradient, by the loss `ce` or `dlr`."""
    from pyautoattack.autopgd_base import APGDAttack  # noqa: PLC0415  # only here, in an environment of its own

    apgd: Any = APGDAttack(
        Noisy(victim.network, record.sigma).eval(), n_iter=record.steps["iterations"], n_restarts=record.restarts,
        eps=record.steps["eps"], norm="Linf", eot_iter=record.draws, loss=loss, seed=record.seed,
        device=next(victim.network.parameters()).device,
        logger=LOGGER,
    )  # fmt: skip
    target = target_of(record, victim)

    def of(inputs: Tensor, labels: Tensor, _: NDArray[np.int64], first: int) -> Crafted:
        torch.manual_seed(record.seed + first)  # of random starts
        return judged(target, apgd.perturb(inputs, labels, best_loss=True), labels, first)

    return of


def standard_version(record: FullAccess, victim: Victim) -> Attack:
    """The four attacks one after the other, each on the images that stood those before."""
    from pyautoattack import AutoAttack  # noqa: PLC0415  # as above

    whole: Any = AutoAttack(
        silenced(victim.network).eval(), eps=record.steps["eps"], norm="Linf", version="standard", seed=record.seed,
        device=next(victim.network.parameters()).device,
    )  # fmt: skip
    target = target_of(record, victim)

    def of(inputs: Tensor, labels: Tensor, _: NDArray[np.int64], first: int) -> Crafted:
        found, _classes = whole.run_standard_evaluation(inputs, labels, batch_size=len(inputs))
        return judged(target, found, labels, first)

    return of


def parser() -> argparse.ArgumentParser:
    """The flags."""
    flags = argparse.ArgumentParser(prog="python -m benchmarks.autoattack", description=__doc__)
    flags.add_argument("network", help="MODEL/VERSION/VARIANT, or the folder of a run")
    flags.add_argument("record", type=Path, help="file of the record")
    flags.add_argument("--loss", choices=("ce", "dlr"), default="ce", help="under noise")
    flags.add_argument("--sigma", type=float, default=0.0, help="multiplicative noise; 0: the standard version")
    flags.add_argument("--eps", type=float, default=0.3)
    flags.add_argument("--iterations", type=int, default=STEPS, help="steps of APGD")
    flags.add_argument("--draws", type=int, default=EOT_DRAWS, help="votes a gradient")
    flags.add_argument("--every", type=int, default=50, help="every so many test images one")
    flags.add_argument("--before", nargs="+", type=int, default=[], metavar="K", help="before them every K-th, …")
    flags.add_argument("--images", type=int, help="at most so many of these")
    flags.add_argument("--votes", type=int, default=100, help="fresh votes that judge")
    flags.add_argument("--store", type=Path, default=STORE)
    flags.add_argument("--device", type=torch.device, default=torch.device("cpu"), help="where torch computes")
    return flags


def main() -> None:
    """Attack, and write the record after every block of images."""
    options = parser().parse_args()
    torch.set_num_threads(1)
    victim = victim_of(options.network, options.store).on(options.device)
    test = load(victim.data_set, DataSource.from_environment()).test
    name = f"AutoAttack rand, APGD by {options.loss}" if options.sigma else "AutoAttack, standard version"
    planned = plan(
        victim, {"eps": options.eps, "iterations": options.iterations, "attack": name}, Noise(sigma=options.sigma),
        draws=options.draws if options.sigma else 1, restarts=1, every=options.every, votes=options.votes,
        images=min(len(range(0, len(test), options.every)), options.images or len(test)),
        before=options.before, among=len(test),
    )  # fmt: skip
    chosen = random_version(planned, victim, options.loss) if options.sigma else standard_version(planned, victim)
    record = measure(planned, options.record, victim, test, chosen)
    print(f"{options.record}: {record.attacked.decisions.mean():.2%} of {len(record.attacked)} images", flush=True)


if __name__ == "__main__":
    main()
