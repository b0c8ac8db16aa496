import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from noisevote.evaluation.results import read
from noisevote.training.card import packing
from noisevote.training.card.__main__ import PLANS, main
from noisevote.training.card.densenet import DENSENET
from noisevote.training.card.packing import pack
from noisevote.training.card.run import Run, miniature
from noisevote.training.runs.run_folder import RunFolder


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_every_run_of_a_plan_has_a_recipe(plan: tuple[Run, ...]) -> None:
    """Each training run's fields make a valid recipe, whole and in miniature, and each set's source is trained."""
    trained = {run.name for run in plan if run.kind == "train"}
    assert len({run.name for run in plan}) == len(plan)
    for run in plan:
        if run.kind == "train":
            assert miniature(run.recipe()).network == run.network
        else:
            assert run.source in trained


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
        pytest.param(DENSENET[1], marks=pytest.mark.prove),
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
