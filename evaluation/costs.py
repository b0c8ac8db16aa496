"""What one vote of a published file costs, counted by running it once."""

import math
from dataclasses import dataclass

import numpy as np
import onnxruntime

from noisevote.engine.feeds import Feeds
from noisevote.engine.session import session_options
from noisevote.model_store.manifest import InputSpec
from noisevote.noise_op import onnx_probes
from noisevote.noise_op.library import load_kernel
from noisevote.noise_op.onnx_probes import Model


@dataclass(frozen=True)
class FileCosts:
    """Weights and biases; multiply-accumulates and noise samples of one vote; noise sites, the paper's L."""

    parameters: int
    macs: int
    samples: int
    layers: int


def costs_of(model: Model, spec: InputSpec) -> FileCosts:
    """Count them. Products inside loops, and those of two signals beyond two dimensions, count by their shapes."""
    content, probes = onnx_probes.with_product_ends(model)
    names = list(dict.fromkeys(name for probe in probes for name in (probe.left, probe.right, probe.result)))
    sites_content, shown = onnx_probes.exposed(model, [site.number for site in onnx_probes.sites_of(model)])
    products = dict(zip(names, _run(content, names, spec), strict=True))
    signals = _run(sites_content, [after for _, _, after in shown], spec)
    macs = sum(
        probe.accumulations(products[probe.left].shape, products[probe.right].shape, products[probe.result].shape)
        for probe in probes
    )
    return FileCosts(
        parameters=max(1, onnx_probes.parameters_of(model)),
        macs=max(1, macs),
        samples=max(1, sum(math.prod(signal.shape[1:]) for signal in signals)),
        layers=len(shown),
    )


def _run(content: bytes, names: list[str], spec: InputSpec) -> list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    session = onnxruntime.InferenceSession(
        content, session_options(load_kernel(), 1), providers=["CPUExecutionProvider"]
    )
    zero = np.zeros(1, np.int64)
    example = np.full((1, *spec.shape), spec.value_range[0], np.float32)
    feeds = Feeds(example, np.zeros((1, 2), np.float32), zero, zero, zero)
    return list(session.run(names, feeds.as_dict()))
