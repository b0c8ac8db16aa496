from itertools import product

import pytest
from pydantic import ValidationError

from noisevote.training.runs.recipe import Purpose, Recipe, derived_seed


@pytest.mark.parametrize(
    ("given", "name"),
    [({}, "mul-0.8"), ({"noise": "additive", "sigma_train": "0.6"}, "add-0.6"), ({"sigma_train": "0"}, "mul-0.0")],
)
def test_variant_is_named_after_its_noise(given: dict[str, str], name: str) -> None:
    """The variant's name states noise kind and sigma_train, however the number was written."""
    assert Recipe.model_validate(given).variant == name


@pytest.mark.parametrize(
    ("share", "sigma", "name"),
    [(1.0, 0.0, "robust"), (0.5, 0.0, "mix"), (1.0, 0.3, "robust-mul-0.3"), (0.5, 0.2, "mix-mul-0.2")],
)
def test_adversarial_training_makes_a_model_of_its_own(share: float, sigma: float, name: str) -> None:
    """Its variants are named after what they learn from, and belong to the network's `-robust` model."""
    recipe = Recipe(adversarial_share=share, sigma_train=sigma)
    assert (recipe.model, recipe.variant) == ("mnist-cnn-robust", name)
    assert Recipe().model == "mnist-cnn"


@pytest.mark.parametrize(
    ("given", "key"),
    [({"sigmatrain": 1}, "sigmatrain"), ({"sigma_train": -0.1}, "sigma_train"), ({"noise": "pink"}, "noise"),
     ({"precision": "float16"}, "precision"), ({"sigma_train": "nan"}, "sigma_train"), ({"lr": "inf"}, "lr")],
)  # fmt: skip
def test_wrong_recipe_is_refused_by_key(given: dict[str, object], key: str) -> None:
    """An unknown key or an impossible value never becomes a silent default."""
    with pytest.raises(ValidationError, match=key):
        Recipe.model_validate(given)


def test_random_streams_never_share_a_seed() -> None:
    """Root seed, purpose and epoch each change the derived seed, and the same three give the same one."""
    seeds = [derived_seed(seed, purpose, epoch) for seed, purpose, epoch in product((0, 1), Purpose, range(50))]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derived_seed(1, Purpose.ORDER, 3) == derived_seed(1, Purpose.ORDER, 3)
