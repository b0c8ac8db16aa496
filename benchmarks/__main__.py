"""`make bench`: every comparison in one run, printed beside its aim and written as JSON.

Run it on an idle machine. Only ratios compare; absolute times are this machine's on this day. Those of earlier runs on
the same instruction set are on record: what is worse by more than they differ is named, and the exit status is 1.
"""

import argparse
import sys
from pathlib import Path

import torch

from benchmarks import draws, graphs, guard, lanes, large_network, quantized, training_step
from benchmarks.report import write
from noisevote.model_store.store import ModelStore
from noisevote.noise_op.library import load_kernel

AIMS = {
    "numpy SFC64 float64 ÷ kernel": "≥ 8",
    "kernel avx512, version 2 (ns)": "≤ 0.4",
    "kernel avx2, version 2 (ns)": "≤ 0.7",
    "our noise, kernel ÷ no noise": "≤ 1.3",
    "RandomNormalLike ÷ our noise, kernel": "≥ 3",
    "our noise ÷ no noise, float32": "≤ 1.15",
    **quantized.AIMS,
}
HEADER = "| part | figure | measured | aim |"
RULE = "|---|---|---|---|"
PARTS = ("draws", "graph", "graph, all threads", "lanes", "int8", "resnet18", "training")
# Those that measure a published model.
PUBLISHED = {"graph", "graph, all threads", "lanes", "int8"}


def main() -> None:
    """Run the chosen parts (default: all) and print their figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=[], help=f"default: {' '.join(PARTS)}")
    parser.add_argument("--model-store", type=Path, default=Path("model_store/models"))
    parser.add_argument("--model", default="mnist-cnn")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, help="also write the figures to OUT.json and the table to OUT.md")
    parser.add_argument("--ratios", type=Path, default=guard.RECORD, help="those on record")
    parser.add_argument("--record", action="store_true", help="add this run's ratios to those on record")
    options = parser.parse_args()
    figures = {part: _measure(part, options) for part in options.parts or PARTS}
    table = [HEADER, RULE, *(row for part, measured in figures.items() for row in _rows(part, measured))]
    print(*table, sep="\n")
    if options.out:
        served = None
        if PUBLISHED & set(figures):
            served = f"{options.model} {ModelStore(options.model_store).manifest(options.model).version}"
        write(options.out, figures, table, "Benchmarks", served)
    if options.record:
        guard.keep(options.ratios, figures, AIMS)
    else:
        _compare(figures, guard.kept(options.ratios))


def _compare(figures: guard.Figures, recorded: guard.Runs) -> None:
    """End with status 1 if a ratio is worse than on record."""
    if not recorded:
        print(f"no ratios are on record for {guard.instruction_set()}: nothing to compare with", file=sys.stderr)
        return
    fallen = guard.fallen(figures, recorded, AIMS)
    for said in fallen:
        print(f"worse than on record: {said}", file=sys.stderr)
    if fallen:
        sys.exit(1)


def _rows(part: str, measured: dict[str, float]) -> list[str]:
    aims = {name: aim for name in measured for key, aim in AIMS.items() if name.startswith(key)}
    return [f"| {part} | {name} | {value:.4g} | {aims.get(name, '')} |" for name, value in measured.items()]


def _measure(part: str, options: argparse.Namespace) -> dict[str, float]:
    kernel = load_kernel()
    if kernel is None:
        raise SystemExit("benchmarks: need the native kernel; install a C++ compiler and run make again")
    match part:
        case "draws":
            return draws.measure(kernel)
        case "graph" | "graph, all threads":
            inputs, votes, threads = (1, 8, 1) if part == "graph" else (2, 20, options.threads)
            return graphs.measure(_noisiest(options), kernel, inputs, votes, threads)
        case "lanes":
            return lanes.measure(_noisiest(options), kernel, options.threads)
        case "int8":
            return quantized.measure(*quantized.published_pair(options.model_store, options.model), kernel, threads=1)
        case "resnet18":
            return large_network.measure(kernel)
    return training_step.measure()


def _noisiest(options: argparse.Namespace) -> bytes:
    """File of the published variant with the largest σ_train."""
    store = ModelStore(options.model_store)
    manifest = store.manifest(options.model)
    floats = [variant for variant in manifest.variants if variant.precision == "float32"]
    return store.read(manifest, max(floats, key=lambda variant: variant.sigma_train))


if __name__ == "__main__":
    main()
