"""`make bench-peers`: this server beside others that serve the same network with noise of their own.

    python -m benchmarks.peers install
    python -m benchmarks.peers measure --rounds 5
    python -m benchmarks.peers measure --only 'LitServe*' --again
    python -m benchmarks.peers report

`install` makes an environment for each of them below `.peers/`; what cannot be installed is skipped, and the report
says why. `measure` goes through rounds of short windows, in each of which all take turns in all ways of asking. It
keeps every window at once in `.peers/measured.json`: interrupted, it goes on there, and more rounds add to it. All
serve `mnist-cnn`'s variant for sigma 0.8, others with RandomNormalLike in the place of our operator. Whoever is not
asked is halted meanwhile.
"""

import argparse
import signal
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

from benchmarks.peers.contenders import REQUIREMENTS
from benchmarks.peers.measuring import measure
from benchmarks.peers.report import report
from noisevote.service.cpus import usable_cpus


def main() -> None:
    """Do the chosen step."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", choices=tuple(STEPS))
    parser.add_argument("--folder", type=Path, default=Path(".peers"), help="of environments and measured windows")
    parser.add_argument("--model-store", type=Path, default=Path("model_store/models"))
    parser.add_argument("--lanes", type=int, default=usable_cpus())
    parser.add_argument("--rounds", type=int, default=5, help="so many in all")
    parser.add_argument("--only", nargs="*", default=["*"], help="patterns of contenders")
    parser.add_argument("--ways", nargs="*", default=["*"], help="patterns of ways of asking")
    parser.add_argument("--again", action="store_true", help="forget what was measured of the chosen contenders first")
    parser.add_argument("--fresh", action="store_true", help="forget everything that was measured first")
    parser.add_argument("--list", action="store_true", help="print the names of contenders and ways, and end")
    parser.add_argument("--out", type=Path, default=Path("docs/results/peers"))
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _end)
    STEPS[options.step](options)


def _end(number: int, _: object) -> None:
    """Leave by the usual way, on which all servers are ended."""
    sys.exit(128 + number)


def install(options: argparse.Namespace) -> None:
    """Make an environment for each set of requirements, if it is not there."""
    for requirements in sorted(REQUIREMENTS.glob("*.txt")):
        folder = options.folder / requirements.stem
        if (folder / "installed").exists() or not any(fnmatch(requirements.stem, each) for each in options.only):
            continue
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
        done = subprocess.run([*pip, "-r", str(requirements)], check=False, capture_output=True, text=True)
        if done.returncode:
            reason = done.stderr.strip().splitlines()[-1:] or ["pip failed"]
            print(f"{requirements.stem}: not installed: {reason[0]}", file=sys.stderr)
        else:
            (folder / "installed").touch()


STEPS: Final = {"install": install, "measure": measure, "report": report}


if __name__ == "__main__":
    main()
