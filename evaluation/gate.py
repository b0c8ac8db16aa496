"""The gate of publishing: what a file must show on examples before it is published, for torch and ONNX alike.

Without noise it equals its source. Every row depends on nothing but itself. Each product has noise or is named
digital, and the noise of each site is what was asked. Its outputs fit the classes, its inputs the value range. What
fails is refused with the number and the place.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from noisevote.engine.errors import BadModelError
from noisevote.engine.feeds import Feeds
from noisevote.engine.session import Session, load_session
from noisevote.evaluation.gate_report import GateError, GateReport
from noisevote.evaluation.gate_sites import measured_sites
from noisevote.evaluation.source import Source
from noisevote.model_store.manifest import InputSpec
from noisevote.noise_op import onnx_probes
from noisevote.noise_op.library import Kernel, load_kernel

EXAMPLES: Final = 32
COMPANY: Final = (1, 2, 3, 8, 32)
PADDED: Final = (
    4,
    8,
    32,
)  # sizes to which batches are padded where a row's bits depend on its company, the least first
RELATIVE: Final = 1e-4  # of the largest |logit|, how far the source may be
ROUNDING: Final = 10.0  # times the source's own rounding error, which may be larger
NOISE: Final = 0.3
SEED: Final = 20260101

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Candidate:
    """A file that is to be published.

    Attributes:
        content: its bytes.
        spec: what it takes.
        classes: how many it tells apart.
        source: what it was made of; None: nothing to compare with is left.
        digital: names of the products that have no noise and are said to have none; None: products of torch modules
            were counted when noise was put in, and are not looked for here.
    """

    content: bytes
    spec: InputSpec
    classes: int
    source: Source | None
    digital: Collection[str] | None = None


def examine(candidate: Candidate, examples: Array | None) -> GateReport:
    """What was found of a file that may be published.

    Args:
        candidate: the file.
        examples: real inputs [n, *shape]; the first 32 are used, fewer more than once. None: random ones.

    Raises:
        GateError: it may not.
    """
    inputs = random_inputs(candidate.spec) if examples is None else _of_any_number(examples[:EXAMPLES])
    _refuse_misfits(candidate.spec, inputs, given=examples is not None)
    kernel = load_kernel()
    session = _session(candidate.content, kernel)
    logits = _quiet_logits(session, inputs)
    _refuse_other_classes(logits, candidate.classes)
    error, tolerance = _compared(candidate.source, inputs, logits)
    rows_per_run = _company(candidate.content, kernel, session, inputs)
    model = onnx_probes.read(candidate.content)
    digital = _refuse_quiet_products(model, candidate.digital)
    return GateReport(
        examples=len(inputs) if examples is None else min(len(examples), EXAMPLES),
        given=examples is not None,
        error=error,
        scale=float(np.abs(logits).max()),
        tolerance=tolerance,
        rows_per_run=rows_per_run,
        products=onnx_probes.products_of(model),
        digital=digital,
        sites=measured_sites(model, inputs, kernel),
    )


def random_inputs(spec: InputSpec) -> Array:
    """Inputs spread evenly over the value range; whole numbers where the network takes such."""
    rng, (low, high) = np.random.default_rng(SEED), spec.value_range
    if spec.integers:
        return rng.integers(int(low), int(high), (EXAMPLES, *spec.shape), endpoint=True).astype(np.float32)
    return rng.uniform(low, high, (EXAMPLES, *spec.shape)).astype(np.float32)


def _of_any_number(examples: Array) -> Array:
    if len(examples) == 0:
        raise GateError("examples", "none are given")
    return np.resize(examples, (EXAMPLES, *examples.shape[1:])) if len(examples) < EXAMPLES else examples


def _session(content: bytes, kernel: Kernel | None, rows_per_run: int | None = None) -> Session:
    try:
        return load_session(content, kernel, rows_per_run=rows_per_run)
    except BadModelError as error:
        raise GateError("file", f"{error} ({error.detail})") from error


def _refuse_misfits(spec: InputSpec, inputs: Array, *, given: bool) -> None:
    if inputs.shape[1:] != spec.shape:
        raise GateError("input", f"examples have shape {list(inputs.shape[1:])}, the model takes {list(spec.shape)}")
    low, high = spec.value_range
    outside = ~((inputs >= low) & (inputs <= high))
    if outside.any():
        place = tuple(int(i[0]) for i in np.nonzero(outside))
        raise GateError(
            "value range", f"{outside.sum()} of {inputs.size} values are outside {low} … {high}, the first "
            f"is {inputs[place]:g} at {list(place)}"
        )  # fmt: skip
    if spec.integers and not np.array_equal(inputs, np.rint(inputs)):
        raise GateError("input", "the model takes whole numbers, the examples hold others")
    reach = float(np.ptp(inputs))
    if given and reach < 0.02 * (high - low):
        raise GateError("value range", f"the examples span {reach:g} of {low} … {high}; is the range another one?")


def _feeds(inputs: Array, row: NDArray[np.int64], sigma: Array, offset: int = 0) -> Feeds:
    """Row r is vote r + offset of input row[r], with seed 1000 + r + offset."""
    numbers = np.arange(len(row), dtype=np.int64) + offset
    return Feeds(inputs, sigma, numbers + 1000, numbers, row)


def _quiet_logits(session: Session, inputs: Array) -> Array:
    row = np.arange(len(inputs), dtype=np.int64)
    logits = _run(session, _feeds(inputs, row, np.zeros((len(row), 2), np.float32)))
    if logits.ndim != 2 or len(logits) != len(inputs):
        raise GateError("outputs", f"{len(inputs)} rows give logits of shape {list(logits.shape)}")
    bad = np.nonzero(~np.isfinite(logits).all(axis=1))[0]
    if len(bad):
        raise GateError("outputs", f"the logits of {len(bad)} of {len(logits)} examples are no numbers, first {bad[0]}")
    return logits


def _run(session: Session, feeds: Feeds) -> Array:
    try:
        return session.run(feeds)
    except Exception as error:  # onnxruntime's exceptions share no base but this
        raise GateError("rows", f"a run of {len(feeds.row)} rows fails ({error})") from error


def _refuse_other_classes(logits: Array, classes: int) -> None:
    if logits.shape[1] == 1:
        raise GateError("outputs", "one value for each input is a regression; only classifiers are served")
    if logits.shape[1] != classes:
        raise GateError("classes", f"{logits.shape[1]} outputs, but {classes} classes are named")
    sums = logits.sum(axis=1, dtype=np.float64)
    if (logits >= 0).all() and (logits <= 1).all():
        if np.abs(sums - 1).max() < 1e-3:
            raise GateError("outputs", "they are probabilities already (all ≥ 0, each row's sum is 1); give the logits")
        raise GateError(
            "outputs", "all lie in [0, 1] but do not add up to 1: sigmoids of several labels; one class is decided"
        )


def _compared(source: Source | None, inputs: Array, logits: Array) -> tuple[float | None, float]:
    """Largest difference from the source, and how large it might be."""
    scale = float(np.abs(logits).max())
    if source is None:
        return None, RELATIVE * scale
    first, second = source.logits(inputs), source.logits(inputs)
    if first.shape != logits.shape:
        raise GateError("source", f"gives {list(first.shape)} logits, the file {list(logits.shape)}")
    if not np.array_equal(first, second):
        raise GateError("source", f"two runs on the same inputs differ by up to {np.abs(first - second).max():.3g}: it "
                        "is randomised, or in training mode")  # fmt: skip
    tolerance = RELATIVE * float(np.abs(first).max())
    found = float(np.abs(logits - first).max())
    if found > tolerance:
        exact = source.exact_logits(inputs)
        own = 0.0 if exact is None else float(np.abs(first - exact).max())
        tolerance = max(tolerance, ROUNDING * own)
    if not found <= tolerance:
        worst = np.unravel_index(int(np.abs(logits - first).argmax()), first.shape)
        raise GateError(
            "equal to its source at sigma 0",
            f"example {worst[0]}, class {worst[1]}: {logits[worst]:.6g} instead of {first[worst]:.6g}; "
            f"up to {tolerance:.3g} is rounding",
        )
    _refuse_other_argmax(first, logits, tolerance)
    return found, tolerance


def _refuse_other_argmax(source: Array, logits: Array, tolerance: float) -> None:
    ours, theirs = logits.argmax(axis=1), source.argmax(axis=1)
    for place in np.nonzero(ours != theirs)[0]:
        gap = source[place, theirs[place]] - source[place, ours[place]]
        if gap > 2 * tolerance:
            raise GateError("equal to its source at sigma 0", f"example {place}: class {ours[place]} instead of "
                            f"{theirs[place]}, which leads by {gap:.3g}")  # fmt: skip


def _company(content: bytes, kernel: Kernel | None, session: Session, inputs: Array) -> int | None:
    """To how many rows batches are padded, so that a row's bits do not depend on its company; None: they never do."""
    problem, rounding = _dependence(session, inputs)
    if problem is None:
        return None
    if not rounding:
        raise GateError("rows in company", problem)
    for size in PADDED:
        if _dependence(_session(content, kernel, size), inputs)[0] is None:
            return size
    raise GateError("rows in company", f"{problem}, also in batches padded to {PADDED[-1]} rows")


def _dependence(session: Session, inputs: Array) -> tuple[str | None, bool]:
    """How rows depend on their company, in words, and whether it is rounding alone; None: they do not."""
    count = len(inputs)
    row, sigma = np.arange(count, dtype=np.int64), np.zeros((count, 2), np.float32)
    sigma[1::2, 0] = NOISE  # the others are quiet
    whole = _feeds(inputs, row, sigma)
    expected = _run(session, whole)
    scale = float(np.abs(expected[::2]).max())
    tries: list[tuple[str, NDArray[np.int64], Feeds]] = []
    for size in COMPANY:
        for start in range(0, min(count, 2 * size), size):
            chosen = row[start : start + size]
            tries.append((f"in batches of {size}", chosen, _alone(whole, chosen)))
    shuffled = np.random.default_rng(SEED).permutation(count)
    tries.append(("in another order", shuffled, whole.rows(shuffled)))
    tries.append(("beside other noise", row[:: count // 2], _beside_others(whole, row[:: count // 2])))
    worst: tuple[float, str] = (0.0, "")
    for place, chosen, feeds in tries:
        found = _run(session, feeds)
        found = found[chosen] if len(found) != len(chosen) else found
        difference = np.abs(found - expected[chosen]).max(axis=1)
        if (found != expected[chosen]).any():
            example = int(chosen[int(difference.argmax())])
            worst = max(worst, (float(difference.max()), f"example {example} {place}"))
    if not worst[1]:
        return None, True
    return f"{worst[1]}: its logits differ by {worst[0]:.3g}", worst[0] <= RELATIVE * scale


def _alone(whole: Feeds, chosen: NDArray[np.int64]) -> Feeds:
    """Some rows, with their own inputs and no others."""
    part = whole.rows(chosen)
    return Feeds(whole.input[part.row], part.sigma, part.seed, part.vote, np.arange(len(chosen), dtype=np.int64))


def _beside_others(whole: Feeds, kept: NDArray[np.int64]) -> Feeds:
    """All rows, of which all but the kept ones have another sigma, seed and vote."""
    changed: dict[str, Any] = {}
    for name, other in (("sigma", 0.7), ("seed", 5), ("vote", 9)):
        values = getattr(whole, name) + np.array(other, getattr(whole, name).dtype)
        values[kept] = getattr(whole, name)[kept]
        changed[name] = values
    return Feeds(whole.input, changed["sigma"], changed["seed"], changed["vote"], whole.row)


def _refuse_quiet_products(model: onnx_probes.Model, digital: Collection[str] | None) -> tuple[str, ...]:
    quiet = onnx_probes.quiet_products(model)
    if digital is not None:
        unnamed = [name for name in quiet if name not in digital]
        if unnamed:
            count = onnx_probes.products_of(model)
            raise GateError("noise", f"{len(unnamed)} of {count} products have no noise and are not named digital: "
                            f"{', '.join(unnamed[:5])}")  # fmt: skip
    if not onnx_probes.sites_of(model):
        raise GateError("noise", "the file has no site")
    return tuple(quiet)
