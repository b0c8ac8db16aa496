"""Votes of bytes against votes of floats, in process: a variant, its int8 twin, both without noise, and torch.

Run: python -m benchmarks.quantized --out docs/results/quantized

Other networks stand below, with int8 twins made here, of random inputs, to be timed; or with why there is none.

The noiseless int8 graph is the same file with each product quantised straight to what the next one reads. Torch runs
the network as one writes it there: eager, channels-last, the part before the first noise once an input, noise drawn by
`torch.randn` in memory order, in the larger or the smaller of two batches, whichever is faster.
"""

import argparse
import copy
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import torch
from onnx import NodeProto, helper, numpy_helper
from torch import Tensor, nn

from benchmarks.graphs import SIGMA, Arrays, feeds, noiseless, running, session_of
from benchmarks.older_processor import CannotLookOlderError, run
from benchmarks.report import machine, write
from benchmarks.resnet18 import published_file
from benchmarks.timing import Contender, Timings, in_turns
from noisevote.evaluation.examples import Examples
from noisevote.model_store.store import ModelStore
from noisevote.noise_op.contract import DOMAIN, OP_TYPE, QUANTIZED_OP_TYPE
from noisevote.noise_op.library import Kernel, load_kernel
from noisevote.noise_op.onnx_versions import draw_with
from noisevote.noise_op.torch_twin import GaussianNoise
from noisevote.training.networks.layers import fold
from noisevote.training.networks.registry import build
from noisevote.training.publish.quantize import UnquantizableError, quantized

ROWS: Final = 16  # of a batch of ours
RANDOM_INPUTS: Final = 16
IMAGE_AXES: Final = 3
VOTES: Final = 96  # of a round
TORCH_ROWS: Final = (16, 96)
ROUNDS: Final = 9
FLOAT, FLOAT_SILENT, BYTES, BYTES_SILENT, TORCH = (
    "float32 with noise", "float32 without", "int8 with noise", "int8 without", "torch with noise",
)  # fmt: skip
FLOAT_2, BYTES_2 = (f"{name}, version 2" for name in (FLOAT, BYTES))
RESNET18: Final = "resnet18"
OTHERS: Final = ("stroke-lstm", "cifar10-cnn", "cifar10-densenet40", RESNET18)
NO_TWIN: Final = "int8"
WITHOUT: Final = " without VNNI"
AIMS: Final = {
    "float32 with noise ÷ float32 without": "≤ 1.15",
    "float32 with noise, version 2 ÷ float32 without": "≤ 1.15",
    "int8 with noise ÷ int8 without": "≤ 1.3",
    "int8 with noise, version 2 ÷ int8 without": "≤ 1.3",
    "float32 without ÷ int8 with noise, version 2": "≥ 1.4",
    "torch with noise ÷ int8 with noise, version 2": "≥ 3",
    "float32 without ÷ int8 with noise": "≥ 1.4",
    "torch with noise ÷ int8 with noise": "≥ 3",
    "float32 with noise ÷ int8 with noise": "≥ 1.2",
    "float32 with noise, version 2 ÷ int8 with noise, version 2": "≥ 1.2",
}


def measure(floats: bytes, eight_bits: bytes, network: str, kernel: Kernel, threads: int) -> dict[str, float]:
    """Votes a second of each contender, so many threads side by side, and the ratios of their times."""
    graphs = of_floats(floats) | {
        BYTES: eight_bits,
        BYTES_2: of_version_2(eight_bits),
        BYTES_SILENT: noiseless_bytes(eight_bits),
    }
    return measured(graphs, network, kernel, threads, VOTES)


def of_floats(content: bytes) -> dict[str, bytes]:
    """A float32 file with the noise of either version, and without."""
    return {FLOAT: content, FLOAT_2: of_version_2(content), FLOAT_SILENT: noiseless(content)}


def measured(
    graphs: Mapping[str, bytes], network: str | None, kernel: Kernel, threads: int, votes: int
) -> dict[str, float]:
    """Votes a second of each graph in turns, and of the network in torch if it is named; and ratios of their times."""
    sessions = {name: session_of(content, 1, kernel) for name, content in graphs.items()}
    batch = feeds(sessions[FLOAT], 1, ROWS)
    once = {name: _times(running(session, batch), votes // ROWS) for name, session in sessions.items()}
    if network is not None:
        sizes = [rows for rows in TORCH_ROWS if rows <= votes]
        once |= {f"torch, {rows}": _times(eager(network, batch, rows), votes // rows) for rows in sizes}
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as lanes:
        timings = in_turns({name: _side_by_side(lanes, threads, each) for name, each in once.items()}, ROUNDS)
    if network is not None:
        timings = _best_of_torch(timings)
    figures = {f"{name} (votes/s)": threads * votes / timings.median(name) for name in timings.seconds}
    ratios = [(FLOAT, FLOAT_SILENT), (FLOAT_2, FLOAT_SILENT), (BYTES, BYTES_SILENT), (BYTES_2, BYTES_SILENT),
              (FLOAT, BYTES), (FLOAT_2, BYTES_2), (FLOAT_SILENT, BYTES), (FLOAT_SILENT, BYTES_2), (BYTES, BYTES_2),
              (TORCH, FLOAT), (TORCH, BYTES), (TORCH, BYTES_2)]  # fmt: skip
    there = [(name, base) for name, base in ratios if {name, base} <= timings.seconds.keys()]
    return figures | {f"{name} ÷ {base}": timings.ratio(name, base) for name, base in there}


def of_version_2(content: bytes) -> bytes:
    """The same file, its noise drawn with version 2 of the operator."""
    model = onnx.load_from_string(content)
    draw_with(model, 2)
    return bytes(model.SerializeToString())


def other_network(root: Path, name: str, kernel: Kernel) -> dict[str, float | str]:
    """Figures of another network on one thread: of int8 too, or why it cannot have it.

    Torch runs those that are no loop over time and are written in this repository. ResNet-18 has random weights, of
    which no twin is made.
    """
    if name == RESNET18:
        return {**measured(of_floats(published_file()), None, kernel, threads=1, votes=ROWS)}
    store = ModelStore(root)
    manifest = store.manifest(name)
    variant = max((each for each in manifest.variants if each.precision == "float32"), key=lambda one: one.sigma_train)
    content, shape = store.read(manifest, variant), tuple(manifest.input.shape)
    numbers = np.random.default_rng(0).integers(0, 256, (RANDOM_INPUTS, *shape), np.uint8)
    examples = Examples(numbers, np.zeros(RANDOM_INPUTS, np.int64))
    graphs, refused = of_floats(content), {}
    try:
        twin = quantized(content, examples, "multiplicative", (SIGMA,), {}).SerializeToString()
        graphs |= {BYTES: twin, BYTES_2: of_version_2(twin), BYTES_SILENT: noiseless_bytes(twin)}
    except UnquantizableError as error:
        refused = {NO_TWIN: f"refused: {error}"}
    network = variant.network if len(shape) == IMAGE_AXES else None
    return {**measured(graphs, network, kernel, threads=1, votes=ROWS), **refused}


def published_pair(root: Path, model: str) -> tuple[bytes, bytes, str]:
    """Files of the first published int8 variant's float32 twin and of itself, and the network's name."""
    store = ModelStore(root)
    manifest = store.manifest(model)
    for twin in manifest.variants:
        if twin.twin is not None and (variant := manifest.variant(twin.twin)) is not None:
            return store.read(manifest, variant), store.read(manifest, twin), variant.network
    raise SystemExit(f"benchmarks: {model} has no int8 variant")


def noiseless_bytes(content: bytes) -> bytes:
    """An int8 file without its noise: each product writes the bytes that the next one reads; votes still fan out."""
    model = onnx.load_from_string(content)
    makers = {name: node for node in model.graph.node for name in node.output}
    nodes: list[NodeProto] = []
    fanned = False
    for node in model.graph.node:
        if (node.domain, node.op_type) == (DOMAIN, QUANTIZED_OP_TYPE):
            product = makers[node.input[0]]
            _write_steps_of(node, product, model.graph)
            if fanned:
                product.output[0] = node.output[0]
            else:
                nodes.append(helper.make_node("Gather", [node.input[0], "row"], list(node.output), axis=0))
                fanned = True
        elif (node.domain, node.op_type) == (DOMAIN, OP_TYPE):
            nodes.append(helper.make_node("Identity", [node.input[0]], list(node.output)))
        else:
            nodes.append(node)
    del model.graph.node[:], model.functions[:]
    model.graph.node.extend(nodes)
    return bytes(model.SerializeToString())


def _write_steps_of(noise: NodeProto, product: NodeProto, graph: onnx.GraphProto) -> None:
    """Give a product the scale and zero point that its noise writes in, which also cut where the ReLU does."""
    numbers = {attribute.name: helper.get_attribute_value(attribute) for attribute in noise.attribute}
    place = 6 if product.op_type == "QLinearConv" else 7
    written = {
        product.input[place]: np.float32(1 / numbers["rate"]),
        product.input[place + 1]: np.uint8(numbers["y_zero_point"]),
    }
    for constant in graph.initializer:
        if constant.name in written:
            constant.CopyFrom(numpy_helper.from_array(np.asarray(written[constant.name]), constant.name))


class _Randn(nn.Module):
    """Multiplicative noise at sigma 1 as one writes it in eager torch; votes fan out at the first."""

    def __init__(self, site: GaussianNoise, votes: int) -> None:
        super().__init__()
        self.relu = site.activation == "relu"
        self.votes = votes if site.fan_out else 1

    def forward(self, x: Tensor, _: Tensor | None = None) -> Tensor:
        if self.votes > 1:
            x = x.expand(self.votes, *x.shape[1:]).contiguous(memory_format=torch.channels_last)
        y = torch.addcmul(x, x, _drawn_as_it_lies(x))
        return y.relu_() if self.relu else y


def _drawn_as_it_lies(x: Tensor) -> Tensor:
    """Normals of x's shape and layout; `randn_like` takes eight times as long where that is channels-last."""
    if x.dim() != 4:
        return torch.randn_like(x)
    return torch.randn(x.permute(0, 2, 3, 1).shape).permute(0, 3, 1, 2)


def eager(
    network: str, batch: Arrays, votes: int, change: Callable[[nn.Module], nn.Module] = lambda it: it
) -> Contender:
    """So many votes of one input in torch; `change` may compile the network."""
    folded = fold(build(network, "multiplicative")).eval()
    for module in list(folded.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, GaussianNoise):
                setattr(module, name, _Randn(child, votes))
    written = copy.deepcopy(folded).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # an overload torch leaves out
    run = change(written)
    image = torch.from_numpy(batch["input"]).contiguous(memory_format=torch.channels_last)

    def votes_of_one_input() -> None:
        with torch.inference_mode():
            run(image)

    return votes_of_one_input


def _times(contender: Contender, count: int) -> Contender:
    return lambda: [contender() for _ in range(count)]


def _side_by_side(lanes: ThreadPoolExecutor, threads: int, contender: Contender) -> Callable[[], object]:
    return lambda: list(lanes.map(lambda _: contender(), range(threads)))


def _best_of_torch(timings: Timings) -> Timings:
    """One contender for torch's batch sizes: the one of the smaller median."""
    candidates = [name for name in timings.seconds if name.startswith("torch")]
    best = min(candidates, key=timings.median)
    others = {name: seconds for name, seconds in timings.seconds.items() if name not in candidates}
    return Timings(others | {TORCH: timings.seconds[best]})


def main() -> None:
    """Measure on one thread and on several, and on an older processor where this one can look like it."""
    options = _options()
    store = ModelStore(options.model_store)
    manifest = store.manifest(options.model)
    variant = manifest.variant(options.variant)
    twin = manifest.variant(f"{options.variant}-int8")
    kernel = load_kernel()
    if variant is None or kernel is None or (twin is None and options.int8 is None):
        raise SystemExit(f"benchmarks: {options.model} has no {options.variant} and twin, or there is no native kernel")
    content = options.int8.read_bytes() if options.int8 else store.read(manifest, twin)  # type: ignore[arg-type]  # one is there
    files = (store.read(manifest, variant), content, variant.network)
    figures = {f"{n} thread{'s' * (n > 1)}": measure(*files, kernel, n) for n in sorted({1, options.threads})}
    if options.json:
        print(json.dumps(figures))
        return
    here = kernel.isa if machine()["vnni"] == "yes" else f"{kernel.isa}{WITHOUT}"
    parts = {f"{here}, {name}": {**each} for name, each in figures.items()} | _older()
    for name in options.others:
        parts[f"{name}, {here}, 1 thread"] = other_network(options.model_store, name, kernel)
    table = ["| processor, threads | figure | measured | aim |", "|---|---|---|---|", *_rows(parts)]
    print(*table, sep="\n")
    if options.out:
        write(options.out, parts, table, "Votes of bytes", f"{options.model} {manifest.version} {options.variant}")


def _older() -> dict[str, dict[str, float | str]]:
    """The same figures with AVX2 and without VNNI; none where it cannot be told."""
    try:
        told = json.loads(run(["-m", "benchmarks.quantized", "--json", *sys.argv[1:]]))
    except (CannotLookOlderError, subprocess.CalledProcessError) as why:
        print(f"without AVX-512: not measured, {why}", file=sys.stderr)
        return {}
    return {f"avx2{WITHOUT}, {name}": figures for name, figures in told.items()}


def _rows(parts: Mapping[str, Mapping[str, float | str]]) -> list[str]:
    return [
        f"| {part} | {name} | {value if isinstance(value, str) else f'{value:.4g}'} | {AIMS.get(name, '')} |"
        for part, figures in parts.items()
        for name, value in figures.items()
    ]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quantized", description=__doc__)
    parser.add_argument("--model-store", type=Path, default=Path("model_store/models"))
    parser.add_argument("--model", default="mnist-cnn")
    parser.add_argument("--variant", default="mul-0.9")
    parser.add_argument("--int8", type=Path, help="file of the twin (default: the published one)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--others", nargs="*", default=OTHERS, help=f"other models (default: {' '.join(OTHERS)})")
    parser.add_argument("--json", action="store_true", help="print the figures alone, and only of this processor")
    parser.add_argument("--out", type=Path, help="also write the figures to OUT.json and the table to OUT.md")
    return parser.parse_args()


if __name__ == "__main__":
    main()
