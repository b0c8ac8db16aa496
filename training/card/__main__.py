"""A plan's trainings on one graphics card, side by side: `python -m training.card --help`.

Each run of a plan is a process with a time at which it has ended. It can be stopped and started again with the same
folder. On a card with CUDA's multi-process service the runs share it; without, they take turns.
"""

import argparse
import contextlib
import multiprocessing
import os
import sys
import time
import traceback
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final

import torch

from noisevote.model_store.store import ModelStore
from noisevote.training.card.data import loaded
from noisevote.training.card.defence import DEFENCE
from noisevote.training.card.densenet import DENSENET, PAPERS
from noisevote.training.card.measure import craft_set, measure, measure_accuracy
from noisevote.training.card.packing import pack, summary
from noisevote.training.card.run import Run, miniature
from noisevote.training.card.sharing import shared_card
from noisevote.training.data.data_set import DataSet
from noisevote.training.fit.paced import train_until
from noisevote.training.fit.restored import restore
from noisevote.training.networks.registry import named
from noisevote.training.runs.recipe import Recipe
from noisevote.training.runs.run_folder import RunFolder

PACK_EVERY_S = 60.0
FAILED = "failed.txt"  # in the folder of a run that ended with an error
PLANS: Final = {"defence": DEFENCE, "densenet": DENSENET, "densenet-paper": PAPERS}
STORE = Path(__file__).resolve().parents[2] / "model_store" / "models"


@dataclass(frozen=True)
class Job:
    """What every process is told.

    Attributes:
        runs: folder of the run folders.
        device: where torch computes.
        start: when the work began, seconds of `time.time()`.
        seconds: how long all of it may take.
        store: published models, of which some runs start.
        small: a trial in miniature.
        plan: all runs of the plan, those that are not chosen too.
    """

    runs: Path
    device: torch.device
    start: float
    seconds: float
    store: Path
    small: bool
    plan: tuple[Run, ...]

    def time_at(self, share: float) -> float:
        """When that share of the time is over."""
        return self.start + share * self.seconds


def main(arguments: list[str] | None = None) -> int:
    """Run all, or those that are named; returns the exit status."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)  # before any process is forked
    plan = PLANS[options.plan]
    chosen = [run for run in plan if not options.only or run.name in options.only]
    runs = options.runs or Path("runs") / options.plan
    job = Job(runs, torch.device(options.device), time.time(), options.seconds, options.store, options.miniature, plan)
    data = loaded({_data_set(run, job) for run in chosen}, synthetic=options.synthetic)
    chosen = [run for run in chosen if _data_set(run, job) in data]
    print(f"data read after {time.time() - job.start:.1f} s", flush=True)
    with contextlib.ExitStack() as stack:
        if job.device.type == "cuda":
            shared, how = stack.enter_context(shared_card(runs))
            print("shared" if shared else "in turns", how, flush=True)
            if not shared and not options.only:  # there is no time for all of them
                chosen = [run for run in chosen if not run.common]
        _run_all(chosen, job, data, options)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.card", description=__doc__)
    parser.add_argument("--plan", choices=PLANS, default="defence", help="what is trained")
    parser.add_argument("--runs", type=Path, help="folder of the run folders (default: runs/PLAN)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the archives")
    parser.add_argument("--seconds", type=float, default=510.0, help="how long all of it may take")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="where torch computes")
    parser.add_argument("--store", type=Path, default=STORE, help="published models that some runs start from")
    names = [run.name for plan in PLANS.values() for run in plan]
    parser.add_argument("--only", nargs="+", choices=names, metavar="RUN", help="only these runs of the plan")
    parser.add_argument("--at-once", type=int, default=len(names), help="processes side by side")
    parser.add_argument("--miniature", action="store_true", help="a trial: few images, few steps")
    parser.add_argument("--synthetic", action="store_true", help="random images instead of the data sets")
    return parser


def _run_all(chosen: list[Run], job: Job, data: dict[str, DataSet], options: argparse.Namespace) -> None:
    """Start the processes in order, pack every minute what they left, end those that outstay all time."""
    context, waiting, packed = multiprocessing.get_context("fork"), list(chosen), time.time()
    active: list[BaseProcess] = []
    while waiting or active:
        active = [process for process in active if process.is_alive()]
        while waiting and len(active) < options.at_once:
            run = waiting.pop(0)
            active.append(context.Process(target=_child, args=(run, job, data[_data_set(run, job)]), name=run.name))
            active[-1].start()
        if time.time() - packed > PACK_EVERY_S:
            _pack(chosen, job, options.out)
            packed = time.time()
        if time.time() > job.time_at(1.0):
            print("out of time:", [process.name for process in active], flush=True)
            for process in active:
                process.kill()
            break
        time.sleep(0.2)
    _pack(chosen, job, options.out)
    print(summary([folder for run in chosen for folder in run.folders(job.runs)]), flush=True)
    print(f"all ended after {time.time() - job.start:.1f} s", flush=True)


def _pack(chosen: list[Run], job: Job, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    try:
        left_out = pack([(folder, run.half) for run in chosen for folder in run.folders(job.runs)], out, [])
    except OSError as error:  # a file that a run just replaced: the next minute packs again
        left_out = [str(error)]
    if left_out:
        print("not packed:", ", ".join(left_out), flush=True)


def _child(run: Run, job: Job, data: DataSet) -> None:
    """One run, what it prints in its folder; an error ends only this one."""
    folder = RunFolder(job.runs / run.name)
    folder.path.mkdir(parents=True, exist_ok=True)
    failed = folder.path / FAILED
    failed.unlink(missing_ok=True)
    log = (folder.path / "output.txt").open("a", buffering=1)
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    os.environ["CUDA_MPS_CLIENT_PRIORITY"] = "1" if run.common else "0"
    torch.set_num_threads(1)
    try:
        if run.kind == "craft":
            _craft(run, job, data, folder)
            return
        if run.kind == "calibrate":
            _restore(run, job, data, folder)
        else:
            train_until(job.time_at(run.until), recipe_of(run, job), data, folder, job.device)
            print(f"trained after {time.time() - job.start:.1f} s", flush=True)
        if run.sigmas or run.calibrated:
            measure_accuracy(folder, run, data, job.device, job.time_at(0.97), job.small)
        else:
            measure(folder, data, job.device, job.time_at(0.95), job.small)
    except Exception:  # the others go on
        failed.write_text(traceback.format_exc())
        traceback.print_exc()
        sys.exit(1)
    finally:
        print(f"ended after {time.time() - job.start:.1f} s", flush=True)
        if job.device.type == "cuda":
            print(f"memory {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB", flush=True)


def _craft(run: Run, job: Job, data: DataSet, folder: RunFolder) -> None:
    source = RunFolder(job.runs / run.source)
    while not source.weights.exists() and time.time() < job.time_at(run.until):
        if (source.path / FAILED).exists():
            break
        time.sleep(0.5)
    if source.weights.exists():
        craft_set(source, folder.path, data, job.device, job.time_at(run.until), job.small)


def recipe_of(run: Run, job: Job) -> Recipe:
    """The run's recipe, starting from a published file where the plan says so; in miniature, a very small one."""
    file = _published(run, job)
    recipe = run.recipe(None if file is None else os.path.relpath(file))
    return miniature(recipe) if job.small else recipe


def _restore(run: Run, job: Job, data: DataSet, folder: RunFolder) -> None:
    """The run folder of the published file that is calibrated."""
    file = _published(run, job)
    assert file is not None  # plans calibrate what is published
    assert run.init is not None
    name, chosen = run.init
    manifest = ModelStore(job.store).manifest(name, file.parent.name)
    variant = manifest.variant(chosen)
    assert variant is not None
    restore(manifest, variant, file, data, folder)


def _published(run: Run, job: Job) -> Path | None:
    """The published file that a run starts from, if any."""
    if run.init is None:
        return None
    name, variant = run.init
    return next(iter(sorted((job.store / name).glob(f"*/{variant}.onnx"))), None)


def _data_set(run: Run, job: Job) -> str:
    network = run.network or next(source.network for source in job.plan if source.name == run.source)
    return named(network).data_set


if __name__ == "__main__":
    sys.exit(main())
