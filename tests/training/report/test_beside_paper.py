"""Two tables beside the paper's figures."""

from typing import Any

from pydantic import JsonValue

from noisevote.training.report.beside_paper import ABOUT, tables
from noisevote.training.report.record import Record
from tests.training.report.test_report import AS_THEY_ARE, run


def trained(sigma_train: float, one_run: dict[float, float], began: Any = (), **given: JsonValue) -> Record:
    """A run with these accuracies, of the paper's recipe but for what is given."""
    made, changed = run(sigma_train, one_run), {**AS_THEY_ARE, **given}
    if "norm_sigma" in given:
        made = made.model_copy(update={"variant": f"{made.variant}-at-{given['norm_sigma']}"})
    return made.model_copy(update={"changed": changed, "began": began})


def of(*runs: Record, network: str = "mnist-cnn") -> list[str]:
    """The lines of both tables under multiplicative noise."""
    plain = [each for each in runs if each.calibrated_at is None]
    return list(tables(network, plain, [each for each in runs if each.calibrated_at is not None], "multiplicative"))


def between(lines: list[str]) -> tuple[list[str], list[str]]:
    """The lines of the paper's recipe, and those of the best one."""
    at = lines.index("### Best recipe")
    return lines[:at], lines[at:]


def test_each_cell_of_the_best_recipe_names_its_own() -> None:
    """The paper's table has runs of its recipe alone; the other one has whatever is best, calibrated ones too."""
    lines = of(
        trained(0.0, {0.2: 0.99, 1.0: 0.2}),
        trained(0.8, {0.2: 0.95, 1.0: 0.7}),
        trained(1.0, {0.2: 0.9, 1.0: 0.8}, loss_votes=3, output_votes=8),
        trained(0.8, {0.2: 0.1, 0.8: 0.75, 1.0: 0.9}, norm_sigma=1.0, flip=True),
    )
    papers, best = between(lines)
    assert "| best σ_train, one run | – | 99.00 | – | – | – | 70.00 |" in papers
    assert "| σ_train of these | – | 0.0 | – | – | – | 0.8 |" in papers
    assert "| best of all, one run | – | 99.00 | – | – | 75.00 | 90.00 |" in best
    theirs = "`mul-0.8-at-1.0`: augmented, calibrated"
    assert f"| recipe of these | – | `mul-0.0`: paper's recipe | – | – | {theirs} | {theirs} |" in best
    assert "| ours − paper | – | -0.50 | – | – | -11.10 | +12.30 |" in best
    assert "| noiseless training, one run | – | 99.00 | – | – | – | 20.00 |" in papers
    assert "| noiseless training, one run | – | 99.00 | – | – | – | 20.00 |" in best


def test_equal_tables_are_shown_once() -> None:
    """Where no other recipe is better anywhere there is one table, and a line says so."""
    kept = [trained(0.0, {0.2: 0.99}), trained(1.0, {1.0: 0.8})]
    lines = of(*kept, trained(1.0, {1.0: 0.7}, flip=True))
    assert lines[-1] == "No other recipe is better at any sigma: the table of the best recipe would be this one."
    assert "### Best recipe" not in lines
    assert sum(line.startswith("| best") for line in lines) == 2
    assert "### Best recipe" in of(*kept, trained(1.0, {1.0: 0.81}, flip=True))


def test_no_table_of_a_recipe_that_no_run_keeps_to() -> None:
    """A line says so; and what all runs have in common is said once, not in each cell."""
    papers, best = between(of(trained(0.6, {0.6: 0.9}, flip=True), trained(0.8, {0.8: 0.8}, flip=True, loss_votes=2)))
    assert papers == ["### Paper's recipe", "", "No run that was trained under this noise keeps to it.", ""]
    assert "True of all runs, and not said again: augmented." in best
    assert "| recipe of these | – | – | – | `mul-0.6` | `mul-0.8`: loss of 2 × 1 votes | – |" in best


def test_noiseless_training_alone_is_not_called_the_best() -> None:
    """Where only it keeps to the paper's recipe, it stands beside the paper's noiseless training and nothing else."""
    papers, _ = between(of(trained(0.0, {0.2: 0.9}), trained(0.2, {0.2: 0.95}, output_votes=16)))
    assert "| noiseless training, one run | – | 90.00 | – | – | – | – |" in papers
    assert not any(line.startswith("| best") for line in papers)
    assert "No run that was trained under this noise keeps to it." in papers


def test_weights_of_another_recipe_keep_a_run_out_of_the_papers_table() -> None:
    """What it started from was augmented, so its cell says so and the paper's table has none of it."""
    papers, best = between(of(trained(0.6, {0.6: 0.9}, began=({"flip": True, **AS_THEY_ARE},), seed=3)))
    assert not any(line.startswith("|") for line in papers)
    assert "True of all runs, and not said again: before: augmented." in best


def test_the_best_recipe_claims_nothing_of_the_papers() -> None:
    """The word "reproduced" stands in the definition of the paper's recipe, and in no table."""
    assert ABOUT.count("reproduced") == 1
    assert "reproduced" in ABOUT.split("- *Best recipe*")[0]
    both = of(trained(0.2, {0.2: 0.999}), trained(0.2, {0.2: 0.9999}, flip=True))
    assert not any("reproduc" in line for line in both)


def test_another_network_is_never_the_papers() -> None:
    """`cifar10-cnn` has no table of the paper's recipe, and its rows of the paper say whose they are."""
    ours = trained(0.6, {0.6: 0.9}, crop_pixels=0, flip=False, output_votes=1).model_copy(
        update={"network": "cifar10-cnn"}
    )
    papers, best = between(of(ours, network="cifar10-cnn"))
    assert not any(line.startswith("|") for line in papers)
    assert "True of all runs, and not said again: another network." in best
    assert sum(line.startswith("| paper (DenseNet-40) |") for line in best) == 3
