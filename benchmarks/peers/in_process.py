"""The same votes without a server: as many threads side by side as the server has lanes, each with batches of its own.

Torch is there as one who knows it writes it: channels-last, noise drawn in memory order, the layers before the first
noise once an input, one thread a batch.
"""

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import torch
from torch import nn

from benchmarks.graphs import feeds, noiseless, running, session_of, with_noise_fed, with_random_normal_like
from benchmarks.peers.contenders import SIGMA, Precision
from benchmarks.quantized import eager
from noisevote.noise_op.library import Kernel, load_kernel

IN_PROCESS: Final = "in process"
ROWS: Final = 20
LARGE_ROWS: Final = 96
SECONDS: Final = 1.5
NETWORK: Final = "mnist-cnn"
ENGINE, ENGINE_BYTES, SILENT = "our engine, float32", "our engine, int8", "the float32 graph without noise"
RANDOM, RANDOM_BYTES, FED = "RandomNormalLike, float32", "RandomNormalLike, int8", "noise of NumPy, fed"
TORCH, TORCH_LARGE, COMPILED = "torch, batches of 20", "torch, batches of 96", "torch.compile, batches of 20"

Batch = Callable[[], object]


class Alone:
    """Contenders in this process, each made when it is first asked for."""

    def __init__(self, files: Mapping[Precision, bytes], lanes: int) -> None:
        kernel = load_kernel()
        if kernel is None:
            raise SystemExit("benchmarks.peers: need the native kernel; install a C++ compiler and run make again")
        floats, eight_bits = files["float32"], files["int8"]
        self._make: dict[str, tuple[int, Callable[[], Callable[[], Batch]]]] = {
            ENGINE: (ROWS, lambda: _session(floats, kernel)),
            ENGINE_BYTES: (ROWS, lambda: _session(eight_bits, kernel)),
            SILENT: (ROWS, lambda: _session(noiseless(floats))),
            RANDOM: (ROWS, lambda: _session(with_random_normal_like(floats, SIGMA))),
            RANDOM_BYTES: (ROWS, lambda: _session(with_random_normal_like(eight_bits, SIGMA))),
            FED: (ROWS, lambda: _fed(floats)),
            TORCH: (ROWS, lambda: _torch(ROWS)),
            TORCH_LARGE: (LARGE_ROWS, lambda: _torch(LARGE_ROWS)),
            COMPILED: (ROWS, lambda: _torch(ROWS, _compiled)),
        }
        self._made: dict[str, Callable[[], Batch]] = {}
        self._lanes = lanes
        self._threads = ThreadPoolExecutor(lanes, initializer=torch.set_num_threads, initargs=(1,))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown()

    def window(self, name: str) -> dict[str, Any]:
        """Votes a second of all threads together, after a batch of each that is not counted."""
        rows, make = self._make[name]
        if name not in self._made:
            self._made[name] = make()
        together = threading.Barrier(self._lanes)

        def lane(_: int) -> float:
            batch, batches = self._made[name](), 0
            batch()
            together.wait()
            began = time.perf_counter()
            while time.perf_counter() < began + SECONDS:
                batch()
                batches += 1
            return rows * batches / (time.perf_counter() - began)

        return {"votes_per_second": round(sum(self._threads.map(lane, range(self._lanes))), 1)}


NAMES: Final = (ENGINE, ENGINE_BYTES, SILENT, RANDOM, RANDOM_BYTES, FED, TORCH, TORCH_LARGE, COMPILED)


def _session(file: bytes, kernel: Kernel | None = None) -> Callable[[], Batch]:
    session = session_of(file, 1, kernel)
    batch = feeds(session, 1, ROWS)
    return lambda: running(session, batch)


def _fed(file: bytes) -> Callable[[], Batch]:
    changed, shapes = with_noise_fed(file)
    session = session_of(changed, 1)
    fixed = {name: value for name, value in feeds(session, 1, ROWS).items() if name in ("input", "row")}

    def lane() -> Batch:
        draws = np.random.Generator(np.random.SFC64())
        noise = {name: np.empty((ROWS, *shape), np.float32) for name, shape in shapes.items()}

        def batch() -> object:
            for each in noise.values():
                draws.standard_normal(dtype=np.float32, out=each)
                np.multiply(each, np.float32(SIGMA), out=each)
            return session.run(["logits"], fixed | noise)

        return batch

    return lane


def _torch(rows: int, change: Callable[[nn.Module], nn.Module] = lambda network: network) -> Callable[[], Batch]:
    image = {"input": np.random.default_rng(0).random((1, 1, 28, 28), dtype=np.float32)}
    batch = eager(NETWORK, image, rows, change)
    torch.set_num_threads(1)  # as on the lanes, or each would compile it anew
    batch()  # compiled on this thread, whose settings others would not see
    return lambda: batch


def _compiled(network: nn.Module) -> nn.Module:
    from torch._inductor import config as inductor  # noqa: PLC0415  # two seconds, where anything is compiled

    inductor.fallback_random = True  # draws by torch's own kernels, without which it is a fifth as fast
    network.compile()
    return network
