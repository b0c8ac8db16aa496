"""Rounds of windows: everybody is started, and then asked in turns."""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final

from benchmarks.graphs import with_random_normal_like
from benchmarks.peers.asking import ConnectionEndedError
from benchmarks.peers.contenders import (
    OURS,
    PEERS,
    SIGMA,
    VARIANTS,
    Peer,
    Precision,
    Unavailable,
    launched,
    launched_ours,
    our_body,
    ready,
)
from benchmarks.peers.in_process import IN_PROCESS, NAMES, Alone
from benchmarks.peers.programs import Program
from benchmarks.peers.record import Record
from benchmarks.peers.windows import WAYS, Contender, WrongAnswerError, measured
from benchmarks.server_process import PATH
from benchmarks.serving_core import MODEL
from noisevote.model_store.store import ModelStore

RECORD: Final = "measured.json"
Start = Callable[[], AbstractContextManager[tuple[str, Program]]]


@dataclass(frozen=True)
class Server:
    """What is started for some contenders: how, and what it is asked to see whether it answers."""

    start: Start
    path: str
    body: dict[str, Any]
    contenders: tuple[Contender, ...]


@dataclass(frozen=True)
class Running:
    """A contender whose server runs, halted."""

    contender: Contender
    url: str
    program: Program

    def window(self, way: str) -> dict[str, Any]:
        """Figures of one window; see `measured` for errors."""
        self.program.go_on()
        try:
            return measured(self.contender, WAYS[way], self.url, self.program)
        finally:
            self.program.halt()


def measure(options: argparse.Namespace) -> None:
    """Start everybody, and measure each window that is not kept yet."""
    options.folder.mkdir(parents=True, exist_ok=True)
    path = options.folder / RECORD
    if options.fresh:
        path.unlink(missing_ok=True)
    store = ModelStore(options.model_store)
    record = Record(path, f"{MODEL} {store.manifest(MODEL).version}")
    files = published(store)
    servers = _servers(options, files)
    if options.list:
        print(*_names(servers), *NAMES, *WAYS, IN_PROCESS, sep="\n")
        return
    if options.again:
        record.drop(name for name in (*_names(servers), *NAMES) if _chosen(name, options.only))
    wanted = list(_wanted(servers, options))
    with ExitStack() as stack:
        running = _running([each for each in servers if _asked(each, wanted)], record, stack)
        alone = stack.enter_context(Alone(files, options.lanes))
        for round_, name, way in wanted:
            if record.has(round_, name, way):
                continue
            if way == IN_PROCESS:
                record.add(round_, name, way, alone.window(name))
            elif name in running:
                _keep(running, record, (round_, name, way))


def _keep(running: dict[str, Running], record: Record, place: tuple[int, str, str]) -> None:
    """Measure a window and keep it; a peer that fails is left out from then on."""
    round_, name, way = place
    try:
        figures = running[name].window(way)
    except (WrongAnswerError, ConnectionEndedError, OSError) as why:
        if name.startswith(OURS):
            raise
        record.miss(name, f"{way}: {why}")
        print(f"{name}: left out: {why}", file=sys.stderr)
        del running[name]
    else:
        record.add(round_, name, way, figures)
        print(f"round {round_ + 1}, {way}: {name}: {figures['requests_per_second']:.1f}/s", flush=True)


def published(store: ModelStore) -> Mapping[Precision, bytes]:
    """What everybody runs, in floats and in bytes."""
    manifest = store.manifest(MODEL)
    found = {}
    for precision, name in VARIANTS.items():
        variant = manifest.variant(name)
        if variant is None:
            raise SystemExit(f"benchmarks.peers: {MODEL} {manifest.version} has no variant {name}")
        found[precision] = store.read(manifest, variant)
    return found


def _servers(options: argparse.Namespace, files: Mapping[Precision, bytes]) -> list[Server]:
    folder: Path = options.folder.resolve()
    graphs = {precision: folder / f"graph-{precision}.onnx" for precision in VARIANTS}
    for precision, file in files.items():
        graphs[precision].write_bytes(with_random_normal_like(file, SIGMA))
    ours = [Contender.ours(precision, early=early) for early in (False, True) for precision in VARIANTS]
    start_ours = lambda: launched_ours(options.lanes, options.model_store, folder)  # noqa: E731  # beside the peers'
    peers = [Server(_starting(peer, folder, graphs), peer.path, peer.body(1), (Contender.of(peer),)) for peer in PEERS]
    return [Server(start_ours, PATH, our_body(1, 0, "float32"), tuple(ours)), *peers]


def _starting(peer: Peer, folder: Path, graphs: Mapping[Precision, Path]) -> Start:
    return lambda: launched(peer, folder, graphs)


def _names(servers: list[Server]) -> list[str]:
    return [contender.name for server in servers for contender in server.contenders]


def _asked(server: Server, wanted: list[tuple[int, str, str]]) -> bool:
    return any(name == contender.name for _, name, _ in wanted for contender in server.contenders)


def _running(servers: list[Server], record: Record, stack: ExitStack) -> dict[str, Running]:
    """Start one server after the other, and halt each once it answers."""
    found = {}
    for server in servers:
        try:
            began = time.monotonic()
            url, program = stack.enter_context(server.start())
            ready(url, server.path, server.body, program, began)
        except Unavailable as why:
            for contender in server.contenders:
                record.miss(contender.name, str(why))
                print(f"{contender.name}: left out: {why}", file=sys.stderr)
            continue
        for contender in server.contenders:
            if contender.name.startswith(OURS):
                contender.learn(url)
            found[contender.name] = Running(contender, url, program)
        program.halt()
    return found


def _wanted(servers: list[Server], options: argparse.Namespace) -> Iterator[tuple[int, str, str]]:
    """Round, contender and way of every window that is asked for, every other round the other way round."""
    contenders = [contender for server in servers for contender in server.contenders]
    for round_ in range(options.rounds):
        turned = contenders[:: -1 if round_ % 2 else 1]
        asked = [(each.name, way) for way in WAYS for each in turned if way in each.ways]
        asked += [(name, IN_PROCESS) for name in NAMES]
        for name, way in asked:
            if _chosen(name, options.only) and _chosen(way, options.ways):
                yield round_, name, way


def _chosen(name: str, patterns: list[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)
