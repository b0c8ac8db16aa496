from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from noisevote.evaluation import accuracy as evaluate
from noisevote.evaluation.accuracy import EvaluationError, Plan, Probabilities, Votes
from noisevote.evaluation.examples import Examples
from noisevote.noise_op.contract import NoiseKind
from noisevote.training.fit.quick_eval import one_vote_accuracy
from noisevote.training.measure.engines import OnnxRuntime, TorchTwin, open_session
from noisevote.training.publish import export
from noisevote.training.runs.run_folder import RunFolder

PLAN = Plan(kinds=("multiplicative", "additive"), sigmas=(0.0, 0.7), votes=4, seed=11)


@pytest.fixture(scope="module")
def exported(trained: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained run's ONNX file."""
    path = tmp_path_factory.mktemp("evaluated") / "variant.onnx"
    export.write(export.export(trained.read_network(), trained.read_recipe()), path)
    return path


def slow_decision(votes: list[int], probabilities: list[list[float]]) -> int:
    """The decision rule word by word: mode, then larger mean probability, then lower index."""
    histogram = Counter(votes)
    best: tuple[int, float, int] | None = None
    for label in range(len(probabilities[0])):
        mean = float(np.mean(np.array([row[label] for row in probabilities], np.float32), dtype=np.float32))
        candidate = (histogram[label], mean, -label)
        best = candidate if best is None else max(best, candidate)
    assert best is not None
    return -best[2]


@st.composite
def ballots(draw: st.DrawFn) -> tuple[Votes, Probabilities]:
    """Votes and probabilities with many ties: few classes, few distinct (binary, exactly averaged) probabilities."""
    images, votes, classes = draw(st.integers(1, 4)), draw(st.integers(1, 8)), draw(st.integers(2, 4))
    label = st.integers(0, classes - 1)
    share = st.sampled_from([0.0, 0.25, 0.5, 1.0])
    cast = [[draw(label) for _ in range(votes)] for _ in range(images)]
    shares = [[[draw(share) for _ in range(classes)] for _ in range(votes)] for _ in range(images)]
    return np.array(cast, np.uint8), np.array(shares, np.float32)


@given(ballots())
def test_decisions_follow_the_rule(ballot: tuple[Votes, Probabilities]) -> None:
    """The fast decision equals the rule written out, ties in votes and in mean probability included."""
    votes, probabilities = ballot
    expected = [slow_decision(list(v), p.tolist()) for v, p in zip(votes, probabilities, strict=True)]
    assert evaluate.decide(votes, probabilities).tolist() == expected


def test_accuracies_are_means_over_disjoint_groups() -> None:
    """Four votes give four single runs, two pairs and one group of three, each with its mean and deviation."""
    votes = np.array([[0, 1, 1, 1], [1, 0, 1, 1]], np.uint8)  # both labels are 1
    probabilities = np.eye(2, dtype=np.float32)[votes]
    measured = {m.votes: m for m in evaluate.measure(votes, probabilities, np.array([1, 1], np.uint8))}
    assert {count: (m.accuracy, m.groups) for count, m in measured.items()} == {1: (0.75, 4), 2: (0.5, 2), 3: (1.0, 1)}
    assert measured[1].spread == pytest.approx(np.std([0.5, 0.5, 1, 1], ddof=1))
    assert measured[3].spread is None


def test_soft_decisions_are_those_of_the_mean_probability() -> None:
    """Two unsure votes against one that is sure: the mode has the two, the mean probability the one."""
    probabilities = np.array([[[0.6, 0.4], [0.6, 0.4], [0.0, 1.0]]], np.float32)
    votes = probabilities.argmax(axis=2).astype(np.uint8)
    measured = {m.votes: m for m in evaluate.measure(votes, probabilities, np.array([1], np.uint8))}
    assert (measured[3].accuracy, measured[3].soft_accuracy) == (0.0, 1.0)
    assert measured[1].soft_accuracy == measured[1].accuracy == pytest.approx(1 / 3)


def test_noiseless_accuracy_is_that_of_the_network(
    exported: Path, trained: RunFolder, digits: Examples, tmp_path: Path
) -> None:
    """At sigma 0 the file scores exactly what the torch network scores, from one vote an image."""
    evaluation = evaluate.evaluate(OnnxRuntime(exported, 1), tmp_path / "results.json", digits, PLAN)
    cell = evaluation.cell("multiplicative", 0.0)
    assert cell is not None
    assert cell.passes == 1
    expected = one_vote_accuracy(trained.read_network(), trained.read_recipe(), digits, 0.0)
    assert cell.measured[0].accuracy == expected
    assert evaluation.cell("additive", 0.0) is None  # the same thing, measured once


def test_any_vote_can_be_cast_again_alone(exported: Path, digits: Examples) -> None:
    """Vote v of image i depends on seed + i and v alone: one row by itself gives the vote of the whole evaluation."""
    votes, _ = evaluate.cast_votes(OnnxRuntime(exported, 1), digits, ("multiplicative", 0.7), PLAN)
    session = open_session(exported, threads=1)
    assert votes.shape == (64, 4)
    for image, vote in ((0, 0), (17, 3), (63, 1)):
        feed = {
            "input": digits.values(slice(image, image + 1)),
            "sigma": np.array([[0.7, 0.0]], np.float32),
            "seed": np.array([PLAN.seed + image]),
            "vote": np.array([vote]),
            "row": np.array([0]),
        }
        assert session.run(None, feed)[0].argmax() == votes[image, vote]


@pytest.mark.parametrize("noise", ["multiplicative", "additive"])
def test_both_engines_cast_the_same_votes(
    exported: Path, trained: RunFolder, digits: Examples, noise: NoiseKind
) -> None:
    """The torch twin and ONNX Runtime cast the same 20 votes for each of 64 digits, and are as sure of them."""
    plan = Plan((noise,), (0.7,), 20, seed=5)
    votes, probabilities = evaluate.cast_votes(OnnxRuntime(exported, 1), digits, (noise, 0.7), plan)
    twin = TorchTwin(trained, torch.device("cpu"))
    votes_of_twin, probabilities_of_twin = evaluate.cast_votes(twin, digits, (noise, 0.7), plan)
    np.testing.assert_array_equal(votes, votes_of_twin)
    np.testing.assert_allclose(probabilities, probabilities_of_twin, atol=1e-4)


def test_measurements_of_another_engine_are_not_mixed(
    exported: Path, trained: RunFolder, digits: Examples, tmp_path: Path
) -> None:
    """What ONNX Runtime measured of the exported file is dropped when the twin measures the weights."""
    results, plan = tmp_path / "results.json", Plan(("multiplicative",), (0.7,), 2, 11)
    first = evaluate.evaluate(OnnxRuntime(exported, 1), results, digits, plan)
    twin = TorchTwin(trained, torch.device("cpu"))
    second = evaluate.evaluate(twin, results, digits, Plan(("multiplicative",), (0.3,), 2, 11))
    assert (first.engine, first.sha256) == ("onnxruntime", evaluate.sha256_of(exported))
    assert (second.engine, second.sha256) == ("torch", evaluate.sha256_of(trained.weights))
    assert [cell.sigma for cell in second.cells] == [0.3]


def test_cells_of_another_device_say_so(exported: Path, digits: Examples, tmp_path: Path) -> None:
    """What goes on from another device's measurements on the processor is marked, and what was there is not."""
    results, engine = tmp_path / "results.json", OnnxRuntime(exported, 1)
    first = evaluate.evaluate(engine, results, digits.first(4), Plan(("multiplicative",), (0.3,), 1, 11))
    on_card = first.model_copy(update={"versions": first.versions | {"device": "Some Card"}})
    results.write_text(on_card.model_dump_json())
    second = evaluate.evaluate(engine, results, digits.first(4), Plan(("multiplicative",), (0.7,), 1, 11))
    assert [(cell.sigma, cell.device) for cell in second.cells] == [(0.3, None), (0.7, "CPU")]


def test_measured_cells_are_not_measured_again(exported: Path, digits: Examples, tmp_path: Path) -> None:
    """A second evaluation keeps the cells that it finds, and measures those that are missing or had fewer votes."""
    results = tmp_path / "results.json"
    few = digits.first(6)
    first = evaluate.evaluate(OnnxRuntime(exported, 1), results, few, Plan(("multiplicative",), (0.7,), 2, 11))
    marked = first.model_copy(update={"cells": (first.cells[0].model_copy(update={"seconds": -1.0}),)})
    results.write_text(marked.model_dump_json())
    second = evaluate.evaluate(OnnxRuntime(exported, 1), results, few, Plan(("multiplicative",), (0.3, 0.7), 2, 11))
    assert [(cell.sigma, cell.seconds < 0) for cell in second.cells] == [(0.3, False), (0.7, True)]
    third = evaluate.evaluate(OnnxRuntime(exported, 1), results, few, Plan(("multiplicative",), (0.7,), 3, 11))
    assert [(cell.sigma, cell.passes) for cell in third.cells] == [(0.3, 2), (0.7, 3)]
    assert evaluate.read(results) == third


def test_results_of_another_file_or_seed_are_not_mixed(exported: Path, digits: Examples, tmp_path: Path) -> None:
    """Measurements of other bytes, or with another seed, are dropped rather than continued."""
    results = tmp_path / "results.json"
    few = digits.first(6)
    evaluate.evaluate(OnnxRuntime(exported, 1), results, few, Plan(("multiplicative",), (0.0,), 1, 11))
    other = evaluate.evaluate(OnnxRuntime(exported, 1), results, few, Plan(("multiplicative",), (0.5,), 1, 12))
    assert [cell.sigma for cell in other.cells] == [0.5]
    results.write_text(other.model_copy(update={"sha256": "0" * 64}).model_dump_json())
    again = evaluate.evaluate(OnnxRuntime(exported, 1), results, few, Plan(("multiplicative",), (0.0,), 1, 12))
    assert [cell.sigma for cell in again.cells] == [0.0]


def test_damaged_results_are_refused_by_name(tmp_path: Path) -> None:
    """A file that is not a file of results is named, never overwritten silently."""
    path = tmp_path / "results.json"
    path.write_text("{}")
    with pytest.raises(EvaluationError, match=r"results\.json"):
        evaluate.read(path)
