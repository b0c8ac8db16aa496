import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from noisevote.evaluation.results import read
from noisevote.model_store.store import ModelStore
from noisevote.training.card import packing
from noisevote.training.card.__main__ import PLANS, STORE, main
from noisevote.training.card.densenet import DENSENET, PAPERS
from noisevote.training.card.packing import pack
from noisevote.training.card.run import Run, miniature
from noisevote.training.report.departures import departures_of
from noisevote.training.runs.recipe import Recipe
from noisevote.training.runs.run_folder import RunFolder


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_every_run_of_a_plan_has_a_recipe(plan: tuple[Run, ...]) -> None:
    """Training runs have valid recipes, whole and in miniature; each set's source is trained, and files are there."""
    trained = {run.name for run in plan if run.kind == "train"}
    assert len({run.name for run in plan}) == len(plan)
    for run in plan:
        if run.kind == "train":
            assert miniature(run.recipe()).network == run.network
        elif run.kind == "craft":
            assert run.source in trained
        if run.init is not None:
            assert list((STORE / run.init[0]).glob(f"*/{run.init[1]}.onnx"))


def test_only_runs_from_scratch_are_of_the_papers_recipe() -> None:
    """All of `densenet-paper` keep to it; of `densenet`, which starts from weights that left it, none can."""
    assert all(departures_of(run.recipe()) == () and run.init is None and not run.calibrated for run in PAPERS)
    store = ModelStore(STORE)
    for run in DENSENET:
        assert run.init is not None
        variant = store.manifest(run.init[0]).variant(run.init[1])
        assert variant is not None
        assert departures_of(Recipe.model_validate(variant.recipe)) == ("loss of 1 × 16 votes",)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "variant"),
    [("mnist-cnn", "mul-0.6"), pytest.param("cifar10-densenet40", "mul-0.6", marks=pytest.mark.prove)],
)
def test_a_published_network_is_calibrated_and_measured(
    model: str, variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In miniature it is made a run folder and measured, then calibrated and measured there, and both are packed."""
    run = Run("published", "calibrate", 0.6, model, init=(model, variant), sigmas=(0.4,), calibrated=(0.8,))
    monkeypatch.setitem(PLANS, "densenet", (run,))
    only = ["--plan", "densenet", "--miniature", "--synthetic", "--device", "cpu", "--seconds", "300"]
    assert main(["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out"), *only]) == 0
    names = ("published", "published-at-0.8")
    folders = [RunFolder(tmp_path / "runs" / name) for name in names]
    for folder, sigma in zip(folders, (0.4, 0.8), strict=True):
        (cell,) = read(folder.evaluation_by("torch")).cells
        assert (cell.sigma, cell.passes) == (sigma, 2)
    assert [folder.read_recipe().norm_batches for folder in folders] == [200, 2]
    with zipfile.ZipFile(tmp_path / "out" / "part-1.zip") as packed:
        assert packed.namelist() == [f"{name}/weights.safetensors" for name in names]


def test_archives_stay_below_their_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes first is packed first, no archive grows beyond its size, and what does not fit is named."""
    monkeypatch.setattr(packing, "LARGEST", 10_000)
    monkeypatch.setattr(packing, "ARCHIVES", 1)
    for name, size in (("first", 6000), ("second", 6000), ("third", 1000)):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "part.npy", np.zeros(size, np.uint8))
        (tmp_path / name / "part.npy").rename(tmp_path / name / "from-00000.npz")
    out = tmp_path / "out"
    out.mkdir()
    left_out = pack([(tmp_path / name, False) for name in ("first", "second", "third")], out, [])
    assert left_out == ["second/from-00000.npz"]
    with zipfile.ZipFile(out / "part-1.zip") as packed:
        assert packed.namelist() == ["first/from-00000.npz", "third/from-00000.npz"]
    assert (out / "part-1.zip").stat().st_size <= 10_000


@pytest.mark.slow
def test_miniature_ends_with_weights_and_measurements(tmp_path: Path) -> None:
    """On a processor and random images the whole script trains, measures and packs a run by itself."""
    only = ["--only", "mnist-madry-natural", "--miniature", "--synthetic", "--device", "cpu", "--seconds", "100"]
    assert main(["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out"), *only]) == 0
    run = tmp_path / "runs" / "mnist-madry-natural"
    assert (run / "weights.safetensors").exists()
    assert {"natural", "pgd-20", "pgd-100-first-1000"} == set(json.loads((run / "measured.json").read_text()))
    with zipfile.ZipFile(tmp_path / "out" / "part-1.zip") as packed:
        assert packed.namelist() == ["mnist-madry-natural/half-weights.safetensors"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "run",
    [
        Run("small", "train", 0.6, "mnist-cnn", {"sigma_train": 0.4}, init=("mnist-cnn", "mul-0.6"), calibrated=(0.6,)),
        pytest.param(DENSENET[2], marks=pytest.mark.prove),
    ],
    ids=lambda run: run.network,
)
def test_a_run_goes_on_from_published_weights(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In miniature it trains from the published file, measures, calibrates, measures that, and packs both."""
    monkeypatch.setitem(PLANS, "densenet", (replace(run, sigmas=(0.4,)),))
    only = ["--plan", "densenet", "--miniature", "--synthetic", "--device", "cpu", "--seconds", "300"]
    assert main(["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out"), *only]) == 0
    names = [run.name, f"{run.name}-at-0.6"]
    for name, sigma in zip(names, (0.4, 0.6), strict=True):
        (cell,) = read(RunFolder(tmp_path / "runs" / name).evaluation_by("torch")).cells
        assert (cell.sigma, cell.passes) == (sigma, 2)
    assert RunFolder(tmp_path / "runs" / names[0]).read_recipe().init is not None
    with zipfile.ZipFile(tmp_path / "out" / "part-1.zip") as packed:
        assert packed.namelist() == [f"{name}/weights.safetensors" for name in names]
