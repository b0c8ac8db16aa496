"""What the gate lets through, and what it refuses with number and place."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, helper, numpy_helper

from noisevote.evaluation.examples import Examples
from noisevote.evaluation.gate import Candidate, examine
from noisevote.evaluation.gate_report import GateError, GateReport
from noisevote.evaluation.source import OnnxSource
from noisevote.model_store.manifest import InputSpec
from noisevote.noise_op.onnx_injection import Options, inject
from noisevote.noise_op.onnx_versions import noise_nodes
from tests.evaluation.conftest import exported_by
from tests.support.foreign import CLASSES, SHAPE, network, softmax

SPEC = InputSpec(shape=SHAPE)
REAL = np.random.default_rng(1).random((40, *SHAPE)).astype(np.float32)
node = helper.make_node
Change = Callable[[ModelProto], None]


def candidate(
    foreign: ModelProto, options: Options | None = None, change: Change | None = None, **fields: Any
) -> Candidate:
    """The noisy file of a foreign model, changed afterwards."""
    injected = inject(foreign, options or Options())
    if change is not None:
        change(injected.model)
    known: dict[str, Any] = {
        "spec": SPEC,
        "classes": CLASSES,
        "source": OnnxSource(foreign.SerializeToString(), injected.ends),
        "digital": [each.layer for each in injected.products if each.site is None],
    }
    return Candidate(injected.model.SerializeToString(), **(known | fields))


def test_what_passes_is_described() -> None:
    """How far it is from its source, and the noise of each site, within 4 standard errors of what was asked."""
    report = examine(candidate(softmax(), Options(digital=("first",), sigma_scale={"head": 0.5})), REAL)
    assert (report.examples, report.given, report.products, report.digital) == (32, True, 3, ("stem",))
    assert report.error is not None
    assert report.error <= report.tolerance == pytest.approx(1e-4 * report.scale)
    assert [(site.layer, site.sigma_scale) for site in report.sites] == [("body", 1.0), ("head", 0.5)]
    assert all(site.ratio is not None and abs(site.ratio - 1) < 1.2 * site.error for site in report.sites)
    assert report.rows_per_run is None


def test_a_file_of_version_2_passes() -> None:
    """Its noise is held against version 2's reference, draw by draw."""
    report = examine(candidate(softmax(), Options(operator=2)), REAL)
    assert all(site.ratio is not None and abs(site.ratio - 1) < 1.2 * site.error for site in report.sites)


def test_nodes_of_two_versions_are_refused() -> None:
    """All noise of a file is of one version."""

    def mixed(model: ModelProto) -> None:
        del next(noise_nodes(model.graph)).attribute[-1]

    with pytest.raises(GateError, match=r"draws: nodes say \[1, 2\]"):
        examine(candidate(softmax(), Options(operator=2), mixed), REAL)


def test_random_inputs_stand_in_where_there_are_no_examples() -> None:
    """And the report says so."""
    assert not examine(candidate(softmax()), None).given
    assert examine(candidate(softmax()), REAL[:5]).examples == 5


@pytest.mark.parametrize("model", ["mnist-cnn/3/mul-0.8", "stroke-lstm/1/mul-0.8"])
def test_published_models_pass(model: str) -> None:
    """Exported from torch, a recurrent one among them, whose sites lie partly inside a loop."""
    content, spec, classes = exported_by(model)
    report: GateReport = examine(Candidate(content, spec, classes, None, digital=()), None)
    assert report.digital == ()
    assert any(site.ratio is not None for site in report.sites)


def scale_weights(model: ModelProto) -> None:
    for each in model.graph.initializer:
        if each.name == "matrix":
            each.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(each) * np.float32(1.01), each.name))


def bypass_noise(model: ModelProto) -> None:
    """The second site's noise leads nowhere."""
    sites = [each for each in model.graph.node if each.op_type == "GaussianNoise"]
    for each in model.graph.node:
        each.input[:] = [sites[1].input[0] if name == sites[1].output[0] else name for name in each.input]


def louder(model: ModelProto) -> None:
    """The last site draws with 1.02 sigma, and nothing in the file says so."""
    last = [each for each in model.graph.node if each.op_type == "GaussianNoise"][-1]
    model.graph.node.insert(0, node("Div", ["sigma", "inverse"], ["loud"]))
    model.graph.initializer.append(numpy_helper.from_array(np.array(1 / 1.02, np.float32), "inverse"))
    last.input[1] = "loud"


def mix_rows(model: ModelProto) -> None:
    """Each row's logits gain the mean of all rows'."""
    for each in model.graph.node:
        each.output[:] = ["unmixed" if name == "logits" else name for name in each.output]
    model.graph.initializer.append(numpy_helper.from_array(np.array([0]), "rows_axis"))
    model.graph.node.append(node("ReduceMean", ["unmixed", "rows_axis"], ["mean"]))
    model.graph.node.append(node("Sub", ["unmixed", "mean"], ["logits"]))


def share_seed(model: ModelProto) -> None:
    """Every row draws with the first row's seed."""
    model.graph.initializer.append(numpy_helper.from_array(np.array([0]), "first_row"))
    model.graph.node.insert(0, node("Gather", ["seed", "first_row"], ["one_seed"]))
    model.graph.node.insert(1, node("Shape", ["seed"], ["seeds"]))
    model.graph.node.insert(2, node("Expand", ["one_seed", "seeds"], ["same_seed"]))
    for each in model.graph.node:
        if each.op_type == "GaussianNoise":
            each.input[2] = "same_seed"


def add_half_of_the_row_number(model: ModelProto) -> None:
    """Rows depend on their place."""
    for each in model.graph.node:
        each.output[:] = ["unplaced" if name == "logits" else name for name in each.output]
    model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "column_axis"))
    model.graph.node.append(node("Cast", ["noisevote_identity"], ["place"], to=onnx.TensorProto.FLOAT))
    model.graph.node.append(node("Unsqueeze", ["place", "column_axis"], ["places"]))
    model.graph.node.append(node("Add", ["unplaced", "places"], ["logits"]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (scale_weights, r"equal to its source at sigma 0: example \d+, class \d: .* instead of"),
        (bypass_noise, r"noise: 1 of 3 products have no noise and are not named digital: body"),
        (louder, r"noise: site 2 \(head\): \d of 5 values under multiplicative noise are not the operator's"),
        (mix_rows, r"equal to its source at sigma 0"),
        (share_seed, r"rows in company: example \d+ .*: its logits differ by"),
    ],
)
def test_what_is_silently_wrong_is_refused(change: Change, message: str) -> None:
    """Other weights, a product without noise, another sigma, rows that mix."""
    with pytest.raises(GateError, match=message):
        examine(candidate(softmax(), change=change), REAL)


@pytest.mark.parametrize("change", [mix_rows, share_seed, add_half_of_the_row_number])
def test_rows_depend_on_themselves_alone(change: Change) -> None:
    """Whatever a source says."""
    with pytest.raises(GateError, match="rows in company: example"):
        examine(candidate(softmax(), change=change, source=None), REAL)


class Fake:
    """A source of given answers, one after another."""

    def __init__(self, answers: Sequence[NDArray[np.float32]], exact: NDArray[np.float64] | None = None) -> None:
        self._answers = list(answers)
        self._exact = exact

    def logits(self, _: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._answers.pop(0)

    def exact_logits(self, _: NDArray[np.float32]) -> NDArray[np.float64] | None:
        return self._exact


def test_a_source_that_answers_twice_differently_is_randomised() -> None:
    """Dropout that is on, for one."""
    found = candidate(softmax())
    assert found.source is not None
    once = found.source.logits(REAL[:32])
    with pytest.raises(GateError, match=r"two runs on the same inputs differ by up to 0\.5"):
        examine(replace(found, source=Fake([once, once + np.float32(0.5)])), REAL)


def test_a_source_that_rounds_badly_itself_may_be_further_away() -> None:
    """10 times its own distance from float64; half of it is refused."""
    found = candidate(softmax())
    assert found.source is not None
    once = found.source.logits(REAL[:32])
    away = once.copy()
    away[0, 0] += 0.01 * np.abs(once).max()
    exact = away.astype(np.float64)
    exact[1, 1] += 0.0011 * np.abs(once).max()
    report = examine(replace(found, source=Fake([away, away], exact)), REAL)
    assert report.error == pytest.approx(0.01 * np.abs(once).max(), rel=1e-3)
    exact[1, 1] = away[1, 1] + 0.0005 * np.abs(once).max()
    with pytest.raises(GateError, match="equal to its source at sigma 0: example 0, class 0"):
        examine(replace(found, source=Fake([away, away], exact)), REAL)


def test_the_reference_in_float64_is_near_the_source() -> None:
    """So that the source's own rounding error is known."""
    source = candidate(softmax()).source
    assert source is not None
    exact = source.exact_logits(REAL[:4])
    assert exact is not None
    assert 0 < np.abs(exact - source.logits(REAL[:4])).max() < 1e-5


@pytest.mark.parametrize(
    ("fields", "examples", "message"),
    [
        ({"classes": 3}, REAL, "classes: 5 outputs, but 3 classes are named"),
        ({}, 255 * REAL, r"value range: \d+ of 6144 values are outside 0\.0 … 1\.0, the first is .* at \[0, 0"),
        (
            {"spec": InputSpec(shape=SHAPE, value_range=(0, 255))},
            REAL,
            r"value range: the examples span 0\.999\d* of 0",
        ),
        ({"spec": InputSpec(shape=SHAPE, integers=True)}, REAL, "the model takes whole numbers"),
        ({}, REAL[:, :, :4], r"input: examples have shape \[3, 4, 8\], the model takes \[3, 8, 8\]"),
        ({}, REAL[:0], "examples: none are given"),
    ],
)
def test_misfits_are_refused(fields: dict[str, Any], examples: NDArray[np.float32], message: str) -> None:
    """Classes, value range and shape, with the numbers."""
    with pytest.raises(GateError, match=message):
        examine(candidate(softmax(), **fields), examples)


@pytest.mark.parametrize(("operator", "message"), [("Softmax", "probabilities already"), ("Sigmoid", "several labels")])
def test_a_softmax_in_disguise_is_refused(operator: str, message: str) -> None:
    """Its probabilities would be softmaxed twice; sigmoids of several labels are no classes."""

    def end_in_it(model: ModelProto) -> None:
        for each in model.graph.node:
            each.output[:] = ["before" if name == "logits" else name for name in each.output]
        model.graph.node.append(node(operator, ["before"], ["logits"]))

    with pytest.raises(GateError, match=message):
        examine(candidate(network(), change=end_in_it), REAL)


def test_examples_are_more_than_pixels(digits: Examples) -> None:
    """Real digits pass as the random ones do."""
    content, spec, classes = exported_by("mnist-cnn/3/mul-0.8")
    assert examine(Candidate(content, spec, classes, None), digits.values(slice(None))).given
