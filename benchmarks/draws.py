"""Nanoseconds a normal: the kernel's two versions against NumPy's SFC64 and torch.randn, one thread each."""

import numpy as np
import torch

from benchmarks.timing import Contender, in_turns
from noisevote.noise_op.contract import OP_VERSIONS, PER_BLOCK, OperatorVersion
from noisevote.noise_op.library import Blocks, Kernel

COUNT = 1 << 20
CHUNK = 1 << 16  # of the kernel, which adds noise while it is in a cache
ROUNDS = 25


def measure(kernel: Kernel) -> dict[str, float]:
    """Median ns a normal of each source, and how many times faster the kernel is."""
    sfc64 = np.random.Generator(np.random.SFC64(1))
    doubles, singles = np.empty(COUNT), np.empty(COUNT, np.float32)
    tensor = torch.empty(COUNT)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    contenders = {
        _name(isa, version): _drawing(kernel, isa, version) for isa in kernel.isas() for version in OP_VERSIONS
    }
    contenders |= {
        "numpy SFC64 float64": lambda: sfc64.standard_normal(out=doubles),
        "numpy SFC64 float32": lambda: sfc64.standard_normal(out=singles, dtype=np.float32),
        "torch.randn": lambda: torch.randn(COUNT, out=tensor),
    }
    timings = in_turns(contenders, ROUNDS)
    torch.set_num_threads(threads)
    best = f"kernel {kernel.isa}"
    figures = {f"{name} (ns)": timings.median(name) / COUNT * 1e9 for name in contenders}
    rivals = [name for name in contenders if not name.startswith("kernel")]
    versions = [(_name(isa, 1), _name(isa, 2)) for isa in kernel.isas()]
    pairs = [*((name, best) for name in rivals), *versions]
    return figures | {f"{name} ÷ {base}": timings.ratio(name, base) for name, base in pairs}


def _name(isa: str, version: OperatorVersion) -> str:
    return f"kernel {isa}" if version == 1 else f"kernel {isa}, version {version}"


def _drawing(kernel: Kernel, isa: str, version: OperatorVersion) -> Contender:
    blocks, out = CHUNK // PER_BLOCK[version], np.empty(CHUNK, np.float32)

    def draw() -> None:
        for first in range(0, COUNT // CHUNK):
            kernel.normals(Blocks(1, 0, 0, 0, first * blocks, blocks), isa=isa, version=version, out=out)

    return draw
