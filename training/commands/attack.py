"""`attack`: craft transfer sets, ask published files about them, and attack networks with full access."""

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from noisevote.evaluation.examples import Examples
from noisevote.evaluation.onnx_runtime import OnnxRuntime
from noisevote.evaluation.results import sha256_of
from noisevote.model_store.store import ModelStore
from noisevote.noise_op.contract import NOISE_KINDS
from noisevote.training.attack.crafting import craft_into
from noisevote.training.attack.full_access import by_steps, given, measure, plan, target_of
from noisevote.training.attack.steps import Steps, for_transfer
from noisevote.training.attack.target import EOT_DRAWS, Noise, Target
from noisevote.training.attack.transfer_set import TransferRecipe, read_set
from noisevote.training.attack.transfer_votes import Asked, ask_all, fresh_record
from noisevote.training.commands.options import (
    RECORDS,
    STORE,
    Commands,
    add_device,
    add_runs,
    add_threads,
    data_of,
    published,
)
from noisevote.training.commands.victims import finished, victim_of
from noisevote.training.data.files import DataSource
from noisevote.training.data.registry import load
from noisevote.training.networks.registry import named
from noisevote.training.report.defence_runs import defence_run
from noisevote.training.runs.run_folder import RunFolder

DEFENCE = RECORDS.parent / "defence"


def add_attack(commands: Commands) -> None:
    """Add `attack` with its own commands."""
    parser = commands.add_parser("attack", help="make adversarial examples, and measure what networks make of them")
    kinds = parser.add_subparsers(required=True, metavar="kind")
    _add_craft(kinds)
    _add_votes(kinds)
    _add_full(kinds)
    _add_record(kinds)


def _add_craft(kinds: Commands) -> None:
    parser = kinds.add_parser("craft", help="make a transfer set on a finished run, or go on with one")
    parser.set_defaults(command=_craft)
    parser.add_argument("run", type=_run, help="folder of the run that is attacked")
    parser.add_argument("set", type=Path, help="folder of the set")
    _add_steps(parser)
    parser.add_argument("--images", type=int, help="only the first so many test images")
    parser.add_argument("--per-byte", type=int, default=2, help="steps of the stored grid to a byte of a pixel")
    add_device(parser)
    add_threads(parser)


def _add_votes(kinds: Commands) -> None:
    parser = kinds.add_parser("votes", help="ask published variants about a transfer set, on ONNX Runtime")
    parser.set_defaults(command=_votes)
    parser.add_argument("set", type=Path, help="folder of the set")
    parser.add_argument("variants", nargs="+", metavar="MODEL/VERSION/VARIANT", help="who is asked")
    parser.add_argument("--sigmas", nargs="+", type=float, default=[0.0, 0.1, 0.2, 0.3, 0.4, 0.5], help="of the noise")
    parser.add_argument("--votes", type=int, default=20, help="votes an image, each of which is also a run of its own")
    parser.add_argument("--images", type=int, help="only the first so many images")
    parser.add_argument("--store", type=Path, default=STORE, help="default: model_store/models")
    parser.add_argument("--records", type=Path, default=DEFENCE / "transfer", help="default: docs/results/defence/…")
    add_threads(parser)


def _add_full(kinds: Commands) -> None:
    parser = kinds.add_parser("full", help="attack a network with full access to its weights")
    parser.set_defaults(command=_full)
    parser.add_argument("network", help="folder of the run that is attacked, or a published MODEL/VERSION/VARIANT")
    parser.add_argument("record", type=Path, help="file of the record; goes on where it stopped")
    _add_steps(parser)
    parser.add_argument("--noise", choices=NOISE_KINDS, default="multiplicative", help="noise kind")
    parser.add_argument("--sigma", type=float, default=0.0, help="of the noise that the network runs under")
    parser.add_argument("--draws", type=int, help=f"votes a gradient (default: {EOT_DRAWS}, without noise 1)")
    parser.add_argument("--known", action="store_true", help="the attacker knows the seed, and so every vote")
    parser.add_argument("--source", help="take the gradients of this run or published variant instead")
    parser.add_argument("--given", type=Path, help="judge examples of a transfer set's folder, or of benchmarks.square")
    parser.add_argument("--every", type=int, default=50, help="attack every so many test images one")
    parser.add_argument("--before", nargs="+", type=int, default=[], metavar="K", help="before them every K-th, …")
    parser.add_argument("--images", type=int, help="at most so many of these")
    parser.add_argument("--votes", type=int, default=100, help="fresh votes that judge")
    parser.add_argument("--store", type=Path, default=STORE, help="default: model_store/models")
    add_device(parser)
    add_threads(parser)


def _add_record(kinds: Commands) -> None:
    parser = kinds.add_parser("record", help="note finished runs of the defence for the report")
    parser.set_defaults(command=_record)
    add_runs(parser)
    parser.add_argument("--records", type=Path, default=DEFENCE / "training", help="default: docs/results/defence/…")


def _add_steps(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--eps", type=float, default=0.3, help="radius of the maximum-norm ball, in [0, 1]")
    parser.add_argument("--step", type=float, help="length of a step (default: an eighth of eps)")
    parser.add_argument("--iterations", type=int, default=20, help="steps")
    parser.add_argument("--restarts", type=int, default=1, help="tries, of which the worst example counts")
    parser.add_argument("--no-random-start", action="store_true", help="begin at the image itself: FGSM, BIM")
    parser.add_argument("--diverse", action="store_true", help="with momentum and diverse inputs, for transfer")
    parser.add_argument("--seed", type=int, default=0, help="of random starts and of the noise")


def _steps(options: argparse.Namespace) -> Steps:
    step = options.eps / 8 if options.step is None else options.step
    steps = Steps(options.eps, step, options.iterations, not options.no_random_start)
    return for_transfer(steps) if options.diverse else steps


def _craft(options: argparse.Namespace) -> None:
    recipe = finished(options.run).read_recipe()
    told = TransferRecipe(
        named(recipe.network).data_set, recipe.network, sha256_of(options.run.weights), _steps(options),
        options.restarts, options.seed, options.per_byte,
    )  # fmt: skip
    test = data_of(recipe).test
    examples = test.first(options.images or len(test))
    craft_into(options.set, told, options.run.read_network().to(options.device), examples, options.device)


def _votes(options: argparse.Namespace) -> None:
    store = ModelStore(options.store)
    natural = load(_data_set(options.set), DataSource.from_environment()).test
    examples, made = read_set(options.set, natural)
    asked = []
    for chosen in options.variants:
        manifest, variant, file = published(store, chosen)
        path = options.records / f"{options.set.name}-{manifest.name}-{variant.name}.json"
        fresh = fresh_record(made, manifest.name, variant.name, variant.sha256)
        asked.append(Asked(path, fresh, OnnxRuntime(file, options.threads), options.votes))
    with tqdm(unit="vote", unit_scale=True, desc=options.set.name, disable=None) as bar:
        ask_all(asked, natural, examples, options.sigmas, bar.update, options.images)


def _data_set(folder: Path) -> str:
    read: dict[str, Any] = TransferRecipe.read(folder)
    return str(read["data_set"])


def _full(options: argparse.Namespace) -> None:
    noise = Noise(options.noise, options.sigma, options.seed)
    victim = victim_of(options.network, options.store).on(options.device)
    source = victim_of(options.source, options.store).on(options.device) if options.source else None
    steps, test = _steps(options), load(victim.data_set, DataSource.from_environment()).test
    told, restarts, origin, examples = asdict(steps), options.restarts, source.sha256 if source else "", None
    if options.given is not None:
        told, restarts, origin, examples = _given(options.given, test)
    images = len(range(0, len(test), options.every))
    planned = plan(
        victim, told, noise, draws=options.draws or (EOT_DRAWS if options.sigma > 0 else 1), restarts=restarts,
        every=options.every, images=min(images, options.images or images), votes=options.votes, known=options.known,
        source=origin, before=options.before, among=len(test),
    )  # fmt: skip
    target = target_of(planned, victim)
    if examples is None:
        attack = by_steps(planned, steps, target, Target(source.network, draws=1) if source else None)
    else:
        attack = given(examples, target, told["eps"])
    started = time.perf_counter()
    record = measure(planned, options.record, victim, test, attack)
    accuracy = record.attacked.decisions.mean()
    print(f"{options.record}: {accuracy:.2%} of {len(record.attacked)} images, {told}", flush=True)
    print(f"{time.perf_counter() - started:.0f} s", flush=True)


def _given(place: Path, test: Examples) -> tuple[dict[str, Any], int, str, dict[int, NDArray[np.float32]]]:
    """Steps, restarts, whose gradients, and the examples by image: of a transfer set, or of a Square attack's state."""
    if place.is_dir():
        examples, made = read_set(place, test)
        return made["steps"], made["restarts"], made["weights"], dict(enumerate(examples.values(slice(None))))
    with np.load(place, allow_pickle=False) as stored:
        told, found = json.loads(str(stored["told"])), stored["images"]
        steps = {"eps": told["eps"], "iterations": int(stored["query"]), "attack": f"Square, sigma {told['sigma']:g}"}
    return steps, 1, "", {number * told["every"]: example for number, example in enumerate(found)}


def _record(options: argparse.Namespace) -> None:
    for folder in options.runs:
        path = options.records / f"{folder.path.name}.json"
        defence_run(folder, data_of(folder.read_recipe()).test.labels).write(path)
        print(path)


def _run(path: str) -> RunFolder:
    return RunFolder(Path(path))
