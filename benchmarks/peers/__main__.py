"""`make bench-peers`: this server beside others that serve the same network with noise of their own.

    python -m benchmarks.peers install
    python -m benchmarks.peers measure --rounds 5
    python -m benchmarks.peers report --out docs/results/peers

`install` makes an environment for each of them below `.peers/`; what cannot be installed is skipped, and the report
says why. Rounds are kept there, so `measure` may be called again and again and adds to them; in each all take turns.
All serve `mnist-cnn`'s variant for sigma 0.8, others with RandomNormalLike in the place of our operator.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import uvloop

from benchmarks.graphs import with_random_normal_like
from benchmarks.peers.contenders import PEERS, REQUIREMENTS, Peer, Unavailable, launched, ready
from benchmarks.peers.rounds import CLIENTS, LARGE_CLIENTS, OURS, SIGMA, Contender, alone, beside
from benchmarks.peers.tables import draw, ratios, summary, table
from benchmarks.report import write
from benchmarks.server_process import PATH
from benchmarks.server_process import serving as serving_ours
from benchmarks.serving_core import MODEL
from noisevote.model_store.selection import select
from noisevote.model_store.store import ModelStore
from noisevote.service.cpus import usable_cpus

TITLE: Final = "One vote and twenty, beside other servers"
VOTES: Final = (1, 20, 100, 1000)


def main() -> None:
    """Do the chosen step."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("step", choices=("install", "measure", "report"))
    parser.add_argument("--folder", type=Path, default=Path(".peers"), help="of environments and rounds")
    parser.add_argument("--model-store", type=Path, default=Path("model_store/models"))
    parser.add_argument("--lanes", type=int, default=usable_cpus())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each turn")
    parser.add_argument("--out", type=Path, default=Path("docs/results/peers"))
    options = parser.parse_args()
    {"install": install, "measure": measure, "report": report}[options.step](options)


def install(options: argparse.Namespace) -> None:
    """Make an environment for each set of requirements, if it is not there."""
    for requirements in sorted(REQUIREMENTS.glob("*.txt")):
        folder = options.folder / requirements.stem
        if (folder / "installed").exists():
            continue
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
        done = subprocess.run([*pip, "-r", str(requirements)], check=False, capture_output=True, text=True)
        if done.returncode:
            reason = done.stderr.strip().splitlines()[-1:] or ["pip failed"]
            print(f"{requirements.stem}: not installed: {reason[0]}", file=sys.stderr)
        else:
            (folder / "installed").touch()


def measure(options: argparse.Namespace) -> None:
    """Start everybody, and add rounds to those that are kept."""
    graph = options.folder.resolve() / "graph.onnx"
    graph.parent.mkdir(parents=True, exist_ok=True)
    graph.write_bytes(with_random_normal_like(_file(options.model_store), SIGMA))
    kept = _kept(options.folder)
    with ExitStack() as stack, asyncio.Runner(loop_factory=uvloop.new_event_loop) as on:
        began = time.monotonic()
        starting = [(peer, _launched(peer, graph, options, stack)) for peer in PEERS]
        ours, _ = stack.enter_context(serving_ours(options.lanes, options.model_store))
        contenders = [on.run(Contender.ours(ours, PATH, VOTES))]
        for peer, url in starting:
            contender = url if isinstance(url, Unavailable) else on.run(_ready(peer, url, began))
            if isinstance(contender, Unavailable):
                kept["missing"][peer.name] = str(contender)
                print(f"{peer.name}: left out: {contender}", file=sys.stderr)
            else:
                kept["missing"].pop(peer.name, None)
                contenders.append(contender)
        for number in range(options.rounds):
            order = contenders[:: -1 if len(kept["rounds"]) % 2 else 1]
            kept["rounds"].append(on.run(_round(order, options.seconds)))
            _path(options.folder).write_text(json.dumps(kept))
            print(f"round {number + 1} of {options.rounds}")


def _launched(peer: Peer, graph: Path, options: argparse.Namespace, stack: ExitStack) -> str | Unavailable:
    folder = options.folder.resolve() / "run" / peer.name.replace(" ", "-").replace(",", "")
    try:
        return stack.enter_context(launched(peer, options.folder.resolve(), graph, folder))
    except Unavailable as why:
        return why


async def _ready(peer: Peer, url: str, began: float) -> Contender | Unavailable:
    contender = Contender.of(peer, url, VOTES)
    try:
        await ready(peer, contender.connections, began)
    except Unavailable as why:
        return why
    return contender


async def _round(contenders: list[Contender], seconds: float) -> dict[str, Any]:
    found: dict[str, Any] = {each.name: {} for each in contenders}
    for votes in (1, 20):
        for each in contenders:
            await alone(each, votes, min(0.3, seconds))
            found[each.name][str(votes)] = await alone(each, votes, seconds)
    for votes in (100, 1000):
        for each in contenders:
            found[each.name][f"beside {votes}"] = await beside(each, votes, seconds)
    for each in contenders:
        found[each.name]["mistaken"] = each.mistaken
    return found


def report(options: argparse.Namespace) -> None:
    """Write the table, the record and the figure of all rounds that are kept."""
    kept = _kept(options.folder)
    if not kept["rounds"]:
        raise SystemExit("benchmarks.peers: nothing was measured yet")
    rounds = kept["rounds"]
    found, against = summary(rounds), ratios(rounds)
    found = {OURS: found[OURS]} | found
    about = (
        f"{CLIENTS} clients, {MODEL} at sigma {SIGMA:g}, {options.lanes} lanes; then one client that asks for one vote "
        f"beside {LARGE_CLIENTS} that ask for 100 or 1000. {len(rounds)} rounds; medians with quartiles."
    )
    missing = [f"Left out: {name}: {reason}." for name, reason in kept["missing"].items()]
    rows = table(found, against)
    print(*rows, *missing, sep="\n")
    figures = {"servers": found, "ratios": against, "missing": kept["missing"]}
    version = ModelStore(options.model_store).manifest(MODEL).version
    figure = f"![Requests per second and latency of each server]({options.out.name}.svg)"
    write(
        options.out,
        figures,
        [about, "", *rows, "", *missing, *([""] if missing else []), figure],
        TITLE,
        f"{MODEL} {version}",
    )
    draw(found, options.out.with_suffix(".svg"))


def _file(root: Path) -> bytes:
    """What this server runs where one vote at this sigma is asked for."""
    store = ModelStore(root)
    manifest = store.manifest(MODEL)
    return store.read(manifest, select(manifest.variants, "multiplicative", SIGMA, 1, 1))


def _path(folder: Path) -> Path:
    return folder / "rounds.json"


def _kept(folder: Path) -> dict[str, Any]:
    path = _path(folder)
    return json.loads(path.read_text()) if path.exists() else {"rounds": [], "missing": {}}


if __name__ == "__main__":
    main()
