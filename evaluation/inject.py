"""`noisevote inject model.onnx -o noisy.onnx`: noise after every product of an ONNX classifier."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from noisevote.evaluation import injection_record
from noisevote.evaluation.injection_record import InjectionRecord
from noisevote.model_store.files import replace_file
from noisevote.noise_op.contract import NOISE_KINDS, OP_VERSION, OP_VERSIONS
from noisevote.noise_op.errors import UninjectableError
from noisevote.noise_op.onnx_injection import Injected, Options, inject
from noisevote.noise_op.onnx_preparation import load

DONE, FAILED, UNUSABLE = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Inject. Returns 0, 1 where the model cannot be given noise, 2 where it cannot be asked so."""
    asked = command_parser().parse_args(arguments)
    try:
        record = inject_file(asked.model, asked.output, options_of(asked))
    except UninjectableError as error:
        print(f"noisevote inject: {asked.model}: {error}", file=sys.stderr)
        return FAILED
    except OSError as error:
        print(f"noisevote inject: {error}", file=sys.stderr)
        return UNUSABLE
    print(record.model_dump_json(indent=1) if asked.json else table(record, asked.output))
    return DONE


def inject_file(source: Path, noisy: Path, options: Options) -> InjectionRecord:
    """Write the noisy file of a model, and its record beside it.

    Raises:
        UninjectableError: the model cannot be given noise.
        OSError: the files cannot be written.
    """
    injected: Injected = inject(load(source), options)
    record = InjectionRecord.of(injected, source, options.noise)
    replace_file(noisy, injected.model.SerializeToString(deterministic=True))
    injection_record.write(record, noisy)
    return record


def table(record: InjectionRecord, noisy: Path) -> str:
    """The products, those with noise and those without, for people."""
    sites = [each for each in record.products if each.site is not None]
    rows = [("site", "layer", "operator", "sigma", "")]
    rows += [
        ("–" if each.site is None else str(each.site), each.layer, each.operator,
         "0" if each.site is None else f"× {each.sigma_scale:g}", each.reason and f"digital: {each.reason}")
        for each in record.products
    ]  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    head = "" if record.head == "none" else f" The final {record.head.replace('_', ' ')} is cut off."
    turned = " Images come with channels first." if record.channels_last else ""
    shape = "×".join(map(str, record.shape))
    signals = any(each.reason == "product of two signals" for each in record.products)
    said = " Products of two signals are digital; --analog makes them noisy." if signals else ""
    lines.append(
        f"\n{noisy}: {len(sites)} of {len(record.products)} products have noise; "
        f"an input is {shape}.{head}{turned}{said}"
    )
    return "\n".join(lines)


def options_of(asked: argparse.Namespace) -> Options:
    """The options that were given as flags."""
    return Options(
        noise=asked.noise,
        digital=tuple(asked.digital),
        analog=tuple(asked.analog),
        sigma_scale=dict(asked.sigma_scale),
        shape=asked.shape,
        output=asked.output_name,
        operator=asked.operator,
    )


def shape(text: str) -> tuple[int, ...]:
    """Sizes with x between them."""
    try:
        sizes = tuple(int(part) for part in text.lower().split("x"))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not like 3x224x224")
    return sizes


def scale(text: str) -> tuple[str, float]:
    """A pattern and a factor, with = between them."""
    pattern, _, factor = text.rpartition("=")
    try:
        value = float(factor)
    except ValueError:
        value = -1.0
    if not pattern or not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not like PATTERN=0.5; a layer without noise is --digital")
    return pattern, value


def add_options(parser: argparse.ArgumentParser) -> None:
    """The flags that say what is analog."""
    repeated: dict[str, Any] = {"action": "append", "default": [], "metavar": "PATTERN"}
    parser.add_argument(
        "--noise", choices=NOISE_KINDS, default="multiplicative", help="kind that the file is meant for"
    )
    parser.add_argument("--digital", **repeated, help="layers without noise: a name, a pattern with *, first or last")
    parser.add_argument("--analog", **repeated, help="products of two signals that get noise; by default none does")
    parser.add_argument("--sigma-scale", action="append", default=[], type=scale, metavar="PATTERN=FACTOR",
                        help="factor of sigma at some layers")  # fmt: skip
    parser.add_argument("--shape", type=shape, help="sizes of one input as the model takes it, such as "
                        "3x224x224, where the file leaves them open")  # fmt: skip
    parser.add_argument("--operator", type=int, choices=OP_VERSIONS, default=OP_VERSION, help="version of the noise "
                        "operator: how noise is drawn; 2 is faster, and certifies nothing (default: 1)")  # fmt: skip
    parser.add_argument("--output-name", help="the output that holds the classes, where there are several")


def command_parser() -> argparse.ArgumentParser:
    """The command's flags."""
    parser = argparse.ArgumentParser(
        prog="noisevote inject",
        description="Put noise after every product of an ONNX classifier.",
        epilog="Exit status: 0 done, 1 the model cannot be given noise, 2 a file cannot be used.",
        allow_abbrev=False,
    )
    parser.add_argument("model", type=Path, help="an ONNX file")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the noisy file; beside it comes a record")
    add_options(parser)
    parser.add_argument("--json", action="store_true", help="for programs: the record")
    return parser


if __name__ == "__main__":
    sys.exit(main())
