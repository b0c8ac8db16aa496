"""Whether the noise of each site is what was asked, measured on what the site takes and makes."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from noisevote.engine.feeds import Feeds
from noisevote.engine.session import session_options
from noisevote.evaluation.gate_report import GateError, SiteFound
from noisevote.noise_op import onnx_probes
from noisevote.noise_op.contract import NOISE_KINDS, NoiseKind, OperatorVersion, sigma_row
from noisevote.noise_op.library import Kernel
from noisevote.noise_op.onnx_probes import Model, Site
from noisevote.noise_op.onnx_versions import MixedDrawsError, operator_version
from noisevote.noise_op.reference import normals

ROWS: Final = 8
MORE_ROWS: Final = 32  # for a site that seemed to be wrong: once in 16,000 times a right one does
SIGMA: Final = 0.3
AT_ONCE: Final = 6  # sites whose tensors are held at a time
STANDARD_ERRORS: Final = 4.0
COMPARED: Final = 4096  # values of a site that are held against the reference's draws
DRAW_ERROR: Final = 1e-3
SEED: Final = 77

Normals = NDArray[np.float64]


def measured_sites(model: Model, inputs: NDArray[np.float32], kernel: Kernel | None) -> tuple[SiteFound, ...]:
    """The noise at every site, under both kinds.

    Raises:
        GateError: at a site it is further from what was asked than 4 standard errors, also with other draws.
    """
    sites = onnx_probes.sites_of(model)
    found: dict[int, SiteFound] = {}
    for start in range(0, len(sites), AT_ONCE):
        chosen = sites[start : start + AT_ONCE]
        for site, drawn in _drawn(model, chosen, inputs[:ROWS], kernel, SEED):
            found[site.number] = _found(site, drawn)
            if _is_wrong(drawn):
                again = list(_drawn(model, [site], inputs[:MORE_ROWS], kernel, SEED + 1))
                _refuse_wrong(site, again[0][1])
                found[site.number] = _found(site, again[0][1])
    unseen = {site.number: SiteFound(site.number, site.layer, site.sigma_scale, None, 0.0, 0) for site in sites}
    return tuple((unseen | found).values())


def _drawn(
    model: Model,
    sites: Sequence[Site],
    inputs: NDArray[np.float32],
    kernel: Kernel | None,
    seed: int,
) -> Iterator[tuple[Site, dict[NoiseKind, Normals]]]:
    """What each site drew, divided by what was asked: standard normals, if all is right."""
    content, shown = onnx_probes.exposed(model, [site.number for site in sites])
    if not shown:
        return
    session = onnxruntime.InferenceSession(content, session_options(kernel, 1), providers=["CPUExecutionProvider"])
    names = list(dict.fromkeys(name for _, *pair in shown for name in pair))
    fanned_out = onnx_probes.fan_out_sites(model)
    version = _version(model)
    drawn: dict[int, dict[NoiseKind, Normals]] = {site.number: {} for site in sites}
    row = np.arange(len(inputs), dtype=np.int64)
    for kind in NOISE_KINDS:
        sigma = np.tile(np.array(sigma_row(kind, SIGMA), np.float32), (len(row), 1))
        found = session.run(names, Feeds(inputs, sigma, row + seed, row, row).as_dict())
        tensors = dict(zip(names, found, strict=True))
        for number, before, after in shown:
            x, y = tensors[before].astype(np.float64), tensors[after].astype(np.float64)
            x = x[row] if number in fanned_out else x
            site = next(site for site in sites if site.number == number)
            asked = SIGMA * site.sigma_scale
            _refuse_other_draws(site, kind, _expected(x[0], kind, asked, (seed, 0, number, 0), version), y[0])
            drawn[number][kind] = _normals(x, y, asked, kind)
    yield from ((site, drawn[site.number]) for site in sites if drawn[site.number])


def _version(model: Model) -> OperatorVersion:
    try:
        return operator_version(model)
    except MixedDrawsError as error:
        raise GateError("noise", str(error)) from error


def _expected(
    x: Normals, kind: NoiseKind, asked: float, where: tuple[int, int, int, int], version: OperatorVersion
) -> Normals:
    """The first elements of the signal with the noise as the operator is defined, by its plain reference.

    `where` is seed, vote, site and step.
    """
    first = x.reshape(-1)[:COMPARED]
    z = normals(*where, len(first), version)
    return np.asarray(first + (np.abs(first) if kind == "multiplicative" else 1) * asked * z)


def _refuse_other_draws(site: Site, kind: NoiseKind, expected: Normals, found: Normals) -> None:
    """Few draws say little about a standard deviation; but each draw is known."""
    first = found.reshape(-1)[:COMPARED]
    off = np.abs(first - expected) > DRAW_ERROR * (1 + np.abs(expected))
    if off.any():
        place = int(off.argmax())
        raise GateError(
            "noise",
            f"site {site.number} ({site.layer}): {off.sum()} of {off.size} values under {kind} noise are not the "
            f"operator's, such as {first[place]:.6g} instead of {expected[place]:.6g}",
        )


def _normals(x: Normals, y: Normals, asked: float, kind: NoiseKind) -> Normals:
    """(y − x) ÷ (sigma·x) or ÷ sigma; signals so near 0 that float32 has no room for their noise are left out."""
    if kind == "additive":
        fine = np.abs(x) < 1e4 * asked
        return np.asarray((y - x)[fine] / asked)
    fine = np.abs(x) > 1e-30
    return np.asarray((y - x)[fine] / (asked * np.abs(x[fine])))


def _is_wrong(drawn: dict[NoiseKind, Normals]) -> bool:
    return any(_departure(z) > STANDARD_ERRORS for z in drawn.values())


def _departure(z: Normals) -> float:
    """By how many standard errors mean and root mean square are away from 0 and 1; the larger one."""
    if z.size == 0:
        return 0.0
    spread = abs(float(np.sqrt(np.mean(z**2))) - 1) * np.sqrt(2 * z.size)
    return float(max(spread, abs(float(np.mean(z))) * np.sqrt(z.size)))


def _refuse_wrong(site: Site, drawn: dict[NoiseKind, Normals]) -> None:
    for kind, z in drawn.items():
        if _departure(z) > STANDARD_ERRORS:
            raise GateError(
                "noise",
                f"site {site.number} ({site.layer}): {kind} noise is {np.sqrt(np.mean(z**2)):.4g} times what was "
                f"asked, mean {np.mean(z):.3g}, over {z.size} draws: {_departure(z):.1f} standard errors off",
            )


def _found(site: Site, drawn: dict[NoiseKind, Normals]) -> SiteFound:
    z = np.concatenate(list(drawn.values()))
    if z.size == 0:
        return SiteFound(site.number, site.layer, site.sigma_scale, None, 0.0, 0)
    error = STANDARD_ERRORS / float(np.sqrt(2 * z.size))
    return SiteFound(site.number, site.layer, site.sigma_scale, float(np.sqrt(np.mean(z**2))), error, int(z.size))
