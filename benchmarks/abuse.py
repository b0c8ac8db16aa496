"""Good clients beside abuse: what they and `/healthz` feel, and what memory it takes.

    python -m benchmarks.abuse --out docs/results/abuse

Everything happens on this machine's loopback: good clients ask from 127.0.0.2, `/healthz` is asked from 127.0.0.3, and
the abuse comes from 127.0.0.1 in a process of its own, which ends by itself. `--url` and `--pid` measure a server that
runs already; its models are then to be those of the store.
"""

import argparse
import asyncio
import contextlib
import multiprocessing
import resource
import threading
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import numpy as np
import orjson

from benchmarks.report import write
from benchmarks.server_process import DIGIT, PATH, resident_mib, served_model, serving

MIB: Final = 2**20
GOOD_CLIENTS: Final = 4
GOOD_ADDRESS, WATCHING_ADDRESS = "127.0.0.2", "127.0.0.3"
STALLED_SENT: Final = MIB // 4
MOST_SECONDS: Final = 300
ANSWER_SECONDS: Final = 60
HEAD: Final = "POST {} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
POINTS: Final = "/v1/models/stroke-lstm/predict"


@dataclass(frozen=True)
class Plan:
    """How much of everything, for how long."""

    idle: int
    half_headers: int
    stalled: int
    seconds: float


@dataclass
class Felt:
    """What clients felt: seconds of each answer, and how often there was none or another than 200."""

    seconds: list[float] = field(default_factory=list)
    problems: Counter[str] = field(default_factory=Counter)

    def figures(self) -> dict[str, object]:
        """In milliseconds."""
        taken = 1e3 * np.array(self.seconds or [float("nan")])
        return {
            "answers": len(self.seconds),
            "p50_ms": round(float(np.percentile(taken, 50)), 1),
            "p99_ms": round(float(np.percentile(taken, 99)), 1),
            "longest_ms": round(float(taken.max()), 1),
            "problems": dict(self.problems),
        }


# ---------------------------------------------------------------- good clients
class Caller:
    """One keep-alive connection from an address; it is opened again when it was closed."""

    def __init__(self, url: str, address: str) -> None:
        parts = urlsplit(url)
        self._server = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._address = address
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes, felt: Felt) -> None:
        """Send a request and note how it went."""
        began = time.perf_counter()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                status = await self._answer(request)
        except (OSError, EOFError, TimeoutError, asyncio.IncompleteReadError) as error:
            felt.problems[type(error).__name__] += 1
            self.close()
            return
        felt.seconds.append(time.perf_counter() - began)
        if status != 200:
            felt.problems[str(status)] += 1

    async def _answer(self, request: bytes) -> int:
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._server, local_addr=(self._address, 0))
        reader, writer = self._streams
        writer.write(request)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        length = next(int(line.partition(":")[2]) for line in lines if line.startswith("content-length:"))
        await reader.readexactly(length)
        if "connection: close" in lines:
            self.close()
        return int(lines[0].split()[1])

    def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _observe(url: str, seconds: float) -> dict[str, dict[str, object]]:
    """Let the good clients ask one request after the other, and `/healthz` fifty times a second."""
    end = time.perf_counter() + seconds
    good, health = Felt(), Felt()

    async def keep_asking(caller: Caller, request: bytes, felt: Felt, pause: float) -> None:
        with contextlib.closing(caller):
            while time.perf_counter() < end:
                await caller.ask(request, felt)
                await asyncio.sleep(pause)

    await asyncio.gather(
        *(keep_asking(Caller(url, GOOD_ADDRESS), _good_request(), good, 0) for _ in range(GOOD_CLIENTS)),
        keep_asking(Caller(url, WATCHING_ADDRESS), b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n", health, 0.02),
    )
    return {"good clients": good.figures(), "/healthz": health.figures()}


def _good_request() -> bytes:
    image = b64encode(DIGIT.read_bytes()).decode()
    body = orjson.dumps({"inputs": [{"image": image}], "sigma": 0.5, "votes": 20})
    return HEAD.format(PATH).encode() + f"content-length: {len(body)}\r\n\r\n".encode() + body


# ---------------------------------------------------------------- abuse
def huge_bodies() -> dict[str, tuple[str, bytes]]:
    """Path and body of the three that are sent at once: a million keys, empty lists, and valid pen points."""
    keys = b"{" + b",".join(b'"k%07d":1' % number for number in range(10**6)) + b"}"
    lists = b'{"inputs":[' + b"[]," * (16 * MIB // 3 - 10) + b"[]]}"
    points = np.round(np.random.default_rng(0).random((1_000_000, 2)), 4).tolist()
    valid = orjson.dumps({"inputs": [points], "votes": 1})
    assert max(map(len, (keys, lists, valid))) <= 16 * MIB
    return {"keys": (PATH, keys), "lists": (PATH, lists), "points": (POINTS, valid)}


def attack(url: str, plan: Plan, answers: "multiprocessing.Queue[dict[str, dict[str, int]]]") -> None:
    """A process: open what the plan says, send huge bodies one after another in three places, and end."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    answers.put(asyncio.run(_attack(url, plan)))


async def _attack(url: str, plan: Plan) -> dict[str, dict[str, int]]:
    bodies = huge_bodies()
    end = time.perf_counter() + plan.seconds
    half = HEAD.format(PATH).encode()[:-2]
    stalled = HEAD.format(PATH).encode() + b"content-length: %d\r\n\r\n" % (16 * MIB) + bytes(STALLED_SENT)
    kinds = [(plan.idle, b""), (plan.half_headers, half), (plan.stalled, stalled)]
    held = [asyncio.create_task(_hold(url, sent, end)) for count, sent in kinds for _ in range(count)]
    felt = {name: Counter[str]() for name in bodies}
    await asyncio.gather(*(_send_again(url, *bodies[name], end, felt[name]) for name in bodies))
    outcomes = Counter(await asyncio.gather(*held))
    return {"held": dict(outcomes), **{name: dict(counted) for name, counted in felt.items()}}


async def _hold(url: str, sent: bytes, end: float) -> str:
    """Open a connection, send a beginning, and wait until it is closed or the time is over."""
    parts = urlsplit(url)
    try:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    except OSError as error:
        return type(error).__name__
    with contextlib.closing(writer):
        try:
            writer.write(sent)
            async with asyncio.timeout(max(0.1, end - time.perf_counter())):
                line = await reader.readline()
            return line.decode().strip() or "closed"
        except TimeoutError:
            return "open"
        except OSError:
            return "closed"


async def _send_again(url: str, path: str, body: bytes, end: float, answers: Counter[str]) -> None:
    caller, head = Caller(url, "127.0.0.1"), HEAD.format(path).encode() + b"content-length: %d\r\n\r\n" % len(body)
    with contextlib.closing(caller):
        while time.perf_counter() < end:
            felt = Felt()
            await caller.ask(head + body, felt)
            answers[next(iter(felt.problems), "200")] += 1


# ---------------------------------------------------------------- memory
@contextmanager
def peak_memory(pid: int) -> Iterator[dict[str, float]]:
    """Largest resident MiB of a process alone and with all its children, looked at twenty times a second."""
    peak, over = {"server_mib": 0.0, "with_children_mib": 0.0}, threading.Event()

    def look() -> None:
        while not over.wait(0.05):
            alone = resident_mib(pid)
            peak["server_mib"] = round(max(peak["server_mib"], alone), 1)
            children = sum(map(resident_mib, children_of(pid)))
            peak["with_children_mib"] = round(max(peak["with_children_mib"], alone + children), 1)

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    try:
        yield peak
    finally:
        over.set()
        looking.join()


def children_of(pid: int) -> list[int]:
    """Process numbers of a process's children."""
    with contextlib.suppress(OSError):
        tasks = Path(f"/proc/{pid}/task").iterdir()
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    return []


# ---------------------------------------------------------------- the whole
def measure(url: str, pid: int, plan: Plan) -> dict[str, object]:
    """Without and then with abuse."""
    with peak_memory(pid) as memory:
        quiet: dict[str, object] = {**asyncio.run(_observe(url, plan.seconds)), "memory": memory}
    context = multiprocessing.get_context("spawn")
    answers: multiprocessing.Queue[dict[str, dict[str, int]]] = context.Queue()
    attacker = context.Process(target=attack, args=(url, plan, answers), daemon=True)
    with peak_memory(pid) as memory:
        attacker.start()
        abused: dict[str, object] = {**asyncio.run(_observe(url, plan.seconds + 2)), "memory": memory}
        abused["abuse"] = answers.get(timeout=2 * ANSWER_SECONDS)
    attacker.join(ANSWER_SECONDS)
    return {"plan": asdict(plan), "quiet": quiet, "abused": abused}


def table(figures: dict[str, object], before: dict[str, object] | None = None) -> list[str]:
    """Rows of figures, without and with abuse side by side, before and after where both were measured."""
    sides = [each[side] for each in (before, figures) if each for side in ("quiet", "abused")]
    heads = [f"{when}{side}" for when in (("before, ", "now, ") if before else ("",)) for side in ("quiet", "abused")]
    rows = [f"| figure | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
    for who, keys in (
        ("good clients", ("answers", "p50_ms", "p99_ms", "longest_ms", "problems")),
        ("/healthz", ("answers", "p99_ms", "longest_ms", "problems")),
        ("memory", ("server_mib", "with_children_mib")),
    ):
        for key in keys:
            values = [side[who][key] or 0 for side in sides]  # type: ignore[index]  # as `measure` makes them
            rows.append(f"| {who}: {key.replace('_', ' ')} | {' | '.join(map(str, values))} |")
    became = figures["abused"]["abuse"]  # type: ignore[index]  # the same
    outcomes = "; ".join(f"{what}: {_counted(counts)}" for what, counts in became.items())
    return [*rows, "", f"What became of the abuse{' now' if before else ''}: {outcomes}."]


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} × {outcome.removeprefix('HTTP/1.1 ')}" for outcome, count in counts.items())


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.abuse", description=__doc__)
    parser.add_argument("--model-store", type=Path, default=Path("model_store/models"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--each", type=int, default=1000, help="idle, half-header and stalled connections each")
    parser.add_argument("--seconds", type=float, default=20, help=f"of each side, at most {MOST_SECONDS}")
    parser.add_argument("--url", help="of a server that runs already")
    parser.add_argument("--pid", type=int, help="its process")
    parser.add_argument("--before", type=Path, help="record of an earlier run, to be shown beside this one")
    parser.add_argument("--out", type=Path, help="write OUT.json and OUT.md")
    options = parser.parse_args()
    each = min(options.each, 2000)
    plan = Plan(each, each, each, min(options.seconds, MOST_SECONDS))
    if options.url:
        figures, served = measure(options.url, options.pid, plan), served_model(options.url)
    else:
        with serving(options.threads, options.model_store) as (url, pid):
            figures, served = measure(url, pid, plan), served_model(url)
    before = orjson.loads(options.before.read_bytes())["figures"] if options.before else None
    rows = table(figures, before)
    print(*rows, sep="\n")
    if options.out:
        record = {"before": before, "now": figures} if before else figures
        write(options.out, record, rows, "Good clients beside abuse", served)


if __name__ == "__main__":
    main()
