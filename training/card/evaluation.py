"""Attacks and certificates that need a card, or many cores: `python -m training.card.evaluation --help`.

Each job is a command of `python -m training` (or of benchmarks) on a published file, which keeps its record block by
block: all can be stopped at any time, and started again with the same folder. Jobs of the card share it, those of the
processor run on its other cores, the most valuable first. Copy what is in OUT into docs/results/defence.
"""

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final, TypeAlias

ROOT: Final = Path(__file__).resolve().parents[2]
RECORDS: Final = ROOT / "docs" / "results" / "defence"
EPS_CIFAR: Final = "--eps 0.03137254901960784 --step 0.00784313725490196"
NOISY: Final = "mnist-cnn-robust/1/robust-mul-0.3"
RADII: Final = "0.25 0.5 0.75 1 1.25 1.5 1.75 2 2.5"


@dataclass(frozen=True)
class Job:
    """A command. `record` is its file below OUT, which no two jobs write at once; `on_card`: torch computes it there.

    `whole` are its flags; in miniature `small` takes their place.
    """

    name: str
    command: str
    record: str
    on_card: bool
    whole: str = ""
    small: str = ""
    needs: str = "torch"

    def line(self, out: Path, device: str, threads: int, *, miniature: bool) -> list[str]:
        """The words after `python -m`."""
        record, flags = out / self.record, self.small if miniature else self.whole
        place = f"--device {device}" if self.on_card else f"--threads {threads}"
        command = self.command.format(record=shlex.quote(str(record)), folder=shlex.quote(str(record.parent)))
        return shlex.split(f"{command} {flags} {place}")


def _full(name: str, network: str, flags: str) -> Job:
    command = f"noisevote.training attack full {network} {{record}} {flags}"
    return Job(name, command, f"attacks/{name}.json", on_card=True, whole="--every 10 --before 200 50",
               small="--every 5000 --iterations 1 --draws 2 --votes 2")  # fmt: skip


def _auto(name: str, network: str, flags: str) -> Job:
    command = f"benchmarks.autoattack {network} {{record}} {flags}"
    return Job(name, command, f"attacks/{name}.json", on_card=True, whole="--every 10 --before 200 50",
               small="--every 5000 --iterations 2 --draws 2 --votes 2", needs="pyautoattack")  # fmt: skip


def _certify(sigma: str, radii: str = f"--radii {RADII}", images: int = 10_000) -> Job:
    command = f"noisevote.training certify mnist-smoothed/1/add-{sigma} --records {{folder}} {radii}"
    name = f"certify-{sigma}-{'all-votes' if 'all' in radii else images}"
    record = f"certificates/mnist-smoothed-add-{sigma}.json"
    return Job(name, command, record, on_card=False, whole=f"--images {images}", small="--images 1")


Active: TypeAlias = tuple[Job, "subprocess.Popen[bytes]"]

PLAN: Final = (
    _full("card-noise-eot-20", NOISY, "--sigma 0.3 --iterations 40"),
    _full("card-pgd-100", NOISY, "--iterations 100 --restarts 10 --step 0.01"),
    _full("card-robust-pgd-100", "mnist-cnn-robust/1/robust", "--iterations 100 --restarts 10 --step 0.01"),
    _auto("card-noise-autoattack-ce", NOISY, "--sigma 0.3 --loss ce"),
    _auto("card-noise-autoattack-dlr", NOISY, "--sigma 0.3 --loss dlr"),
    _auto("card-robust-autoattack", "mnist-cnn-robust/1/robust", ""),
    _full("card-cifar10-pgd-20", "cifar10-cnn-robust/1/robust", EPS_CIFAR),
    _full("card-cifar10-noise-eot-20", "cifar10-cnn-robust/1/robust", f"{EPS_CIFAR} --sigma 0.3"),
    _full("card-noise-eot-100", NOISY, "--sigma 0.3 --draws 100"),
    _certify("0.5", images=2000), _certify("1.0", images=2000), _certify("0.25", images=2000),
    _certify("0.5", "--all-votes", 500), _certify("1.0", "--all-votes", 500), _certify("0.25", "--all-votes", 500),
)  # fmt: skip  # a job a line


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all jobs, or those that are named, until the time is over; returns the exit status."""
    options = _parser().parse_args(arguments)
    end = time.monotonic() + options.seconds
    _begin(options.out)
    chosen = [job for job in PLAN if not options.only or job.name in options.only]
    for missing in [job for job in chosen if find_spec(job.needs) is None]:
        print(f"{missing.name}: left out, {missing.needs} is not installed", flush=True)
        chosen.remove(missing)
    lanes = [[job for job in chosen if job.on_card == on_card] for on_card in (True, False)]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that jobs end with this
    active: list[Active] = []
    failed = 0
    try:
        while (active or any(lanes)) and time.monotonic() < end:
            for lane, at_once in zip(lanes, (options.on_card, options.on_cores), strict=True):
                _start_free(lane, at_once, active, options)
            time.sleep(0.2)
            for job, process in [each for each in active if each[1].poll() is not None]:
                active.remove((job, process))
                failed += process.returncode != 0
                print(f"{job.name}: {'done' if process.returncode == 0 else 'FAILED, see its log'}", flush=True)
    finally:
        for job, process in active:
            process.terminate()
            process.wait()
            print(f"{job.name}: out of time; its record goes on where it stopped", flush=True)
    return int(failed > 0)


def _start_free(lane: list[Job], at_once: int, active: list[Active], options: argparse.Namespace) -> None:
    """Start the first job of a lane whose record nobody writes, if the lane has room for one."""
    written = {job.record for job, _ in active}
    free = next((job for job in lane if job.record not in written), None)
    if free is not None and sum(job.on_card == free.on_card for job, _ in active) < at_once:
        lane.remove(free)
        active.append(_started(free, options))


def _begin(out: Path) -> None:
    """Make the folder, with the certificates' records of before, which go on."""
    (out / "certificates").mkdir(parents=True, exist_ok=True)
    for record in (RECORDS / "certificates").glob("*.json"):
        if not (out / "certificates" / record.name).exists():
            shutil.copy(record, out / "certificates")


def _started(job: Job, options: argparse.Namespace) -> Active:
    line = job.line(options.out, options.device, options.threads, miniature=options.miniature)
    print(f"{job.name}: python -m {shlex.join(line)}", flush=True)
    with (options.out / f"{job.name}.log").open("ab") as log:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [sys.executable, "-m", *line], stdout=log, stderr=subprocess.STDOUT, cwd=ROOT, env=environment
        )
    return job, process


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.card.evaluation", description=__doc__)
    parser.add_argument(
        "--out", type=_folder, required=True, help="folder of the records; those of before are gone on with"
    )
    parser.add_argument("--seconds", type=float, default=840.0, help="how long all of it may take")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="where torch computes")
    parser.add_argument("--on-card", type=int, default=9, help="jobs that share the card")
    parser.add_argument("--on-cores", type=int, default=3, help="jobs on the processor's cores beside them")
    parser.add_argument("--threads", type=int, default=2, help="of each of those")
    parser.add_argument("--only", nargs="+", choices=[job.name for job in PLAN], metavar="JOB", help="only these jobs")
    parser.add_argument("--miniature", action="store_true", help="a trial: one or two images each, few steps")
    return parser


def _folder(path: str) -> Path:
    return Path(path).resolve()


if __name__ == "__main__":
    sys.exit(main())
