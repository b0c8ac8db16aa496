"""Our attacks beside a library's on the same network and images: `python -m benchmarks.attacks --help`.

The library, torchattacks, belongs in an environment of its own; see docs/defence.md.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from noisevote.noise_op.torch_twin import drawing
from noisevote.training.attack.craft import craft
from noisevote.training.attack.steps import Steps, bim, fgsm, pgd
from noisevote.training.attack.target import Noise, Target
from noisevote.training.commands.options import data_of
from noisevote.training.noise.draws import constant_draws
from noisevote.training.noise.silent import silenced
from noisevote.training.runs.run_folder import RunFolder

OUT: Final = Path(__file__).resolve().parents[1] / "docs" / "results" / "defence" / "library.json"
ROWS: Final = 20
JUDGES: Final = 100  # fresh votes that judge under noise
Attack = Callable[[Tensor, Tensor], Tensor]


class Noisy(nn.Module):
    """A network whose every pass draws anew."""

    def __init__(self, network: nn.Module, sigma: float) -> None:
        super().__init__()
        self.network = network
        self.sigma = sigma
        self.votes = 0

    def forward(self, images: Tensor) -> Tensor:
        """Logits [n, 10] of one vote of each image."""
        draws = constant_draws("multiplicative", self.sigma, 1, len(images), self.votes, images.device)
        self.votes += len(images)
        with drawing(draws):
            return self.network(images)  # type: ignore[no-any-return]  # untyped __call__


def ours(network: nn.Module, steps: Steps, restarts: int = 1) -> Attack:
    """Our attack on a noiseless network."""
    return lambda images, labels: craft(Target(network), steps, images, labels, restarts=restarts).inputs


def pairs(network: nn.Module, eps: float) -> dict[str, tuple[Attack, Attack]]:
    """Attack's name to ours and the library's."""
    import torchattacks  # noqa: PLC0415  # only here, in an environment of its own

    model = silenced(network).eval()
    step = eps / 8
    return {
        "FGSM": (ours(network, fgsm(eps)), torchattacks.FGSM(model, eps=eps)),
        "BIM, 20 steps": (
            ours(network, bim(eps, step, 20)), torchattacks.BIM(model, eps=eps, alpha=step, steps=20),
        ),
        "PGD, 20 steps": (
            ours(network, pgd(eps, step, 20)), torchattacks.PGD(model, eps=eps, alpha=step, steps=20),
        ),
    }  # fmt: skip


def strongest(network: nn.Module, eps: float) -> dict[str, Attack]:
    """Parts of the library's AutoAttack (Croce and Hein 2020), for a network without noise."""
    import torchattacks  # noqa: PLC0415

    model = silenced(network).eval()
    return {
        "APGD, cross entropy": torchattacks.APGD(model, eps=eps, steps=100),
        "APGD, targeted": torchattacks.APGDT(model, eps=eps, steps=100),
    }


def random_version(network: nn.Module, eps: float, sigma: float) -> dict[str, Attack]:
    """AutoAttack's `rand` version: APGD with 20 votes a gradient, by two losses."""
    import torchattacks  # noqa: PLC0415

    model = Noisy(network, sigma).eval()
    return {
        f"AutoAttack rand, {loss}": torchattacks.APGD(model, eps=eps, steps=50, eot_iter=20, loss=loss)
        for loss in ("ce", "dlr")
    }


def right_after(network: nn.Module, attack: Attack, images: Tensor, labels: Tensor, sigma: float = 0.0) -> list[float]:
    """Share of right votes of each image after an attack; fresh votes where there is noise."""
    found: list[float] = []
    judge = Target(network, Noise(sigma=sigma, seed=2**41), draws=1)
    for start in range(0, len(images), ROWS):
        chosen = slice(start, start + ROWS)
        crafted = attack(images[chosen], labels[chosen])
        with torch.no_grad():
            logits = judge.logits(crafted, JUDGES if sigma else 1, first_input=start)
        found += (logits.argmax(dim=2) == labels[chosen, None]).float().mean(dim=1).tolist()
    return found


def main() -> None:
    """Run one comparison and add it to the record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attacks", description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("kind", choices=("pairs", "strongest", "rand"), help="what to compare")
    parser.add_argument("--eps", type=float, default=0.3)
    parser.add_argument("--sigma", type=float, default=0.3, help="noise of `rand`")
    parser.add_argument("--every", type=int, default=50, help="every so many test images one")
    parser.add_argument("--out", type=Path, default=OUT, help="the record")
    options = parser.parse_args()
    torch.set_num_threads(1)
    run = RunFolder(options.run)
    network, test = run.read_network(), data_of(run.read_recipe()).test
    chosen = np.arange(0, len(test), options.every)
    images, labels = torch.from_numpy(test.values(chosen)), torch.from_numpy(test.labels[chosen].astype(np.int64))
    told = {"run": run.path.name, "eps": options.eps, "every": options.every, "images": len(images)}
    rows: list[dict[str, Any]] = []
    if options.kind == "pairs":
        for name, both in pairs(network, options.eps).items():
            mine, theirs = (right_after(network, attack, images, labels) for attack in both)
            rows.append({**told, "attack": name, "sigma": 0.0, "ours": mean(mine), "library": mean(theirs)})
    else:
        sigma = options.sigma if options.kind == "rand" else 0.0
        attacks = strongest(network, options.eps) if sigma == 0 else random_version(network, options.eps, sigma)
        found = {name: right_after(network, attack, images, labels, sigma) for name, attack in attacks.items()}
        for name, right in found.items():
            rows.append({**told, "attack": name, "sigma": sigma, "ours": None, "library": mean(right)})
        if sigma == 0:
            worst = [min(shares) for shares in zip(*found.values(), strict=True)]
            rows.append({**told, "attack": "worst of both", "sigma": sigma, "ours": None, "library": mean(worst)})
    _add(options.out, rows)


def mean(shares: list[float]) -> float:
    """Accuracy."""
    return round(float(np.mean(shares)), 5)


def _add(out: Path, rows: list[dict[str, Any]]) -> None:
    kept = json.loads(out.read_text()) if out.exists() else []
    keys = ("run", "attack", "eps", "sigma", "every")
    new = [tuple(row[key] for key in keys) for row in rows]
    kept = [row for row in kept if tuple(row[key] for key in keys) not in new]
    out.write_text(json.dumps([*kept, *rows], indent=1) + "\n")
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
