"""The recipes behind the weights that a run started from."""

from pathlib import Path

from pydantic import ValidationError

from noisevote.model_store.manifest import Manifest
from noisevote.training.runs.recipe import Recipe
from noisevote.training.runs.run_folder import RunFolder


def starts(recipe: Recipe) -> list[Recipe]:
    """Recipes of the runs whose weights it started from, the last one first, as far as they can be read.

    Read are run folders, and manifests beside published files; a place that is no longer there ends the list.
    """
    found: list[Recipe] = []
    before = _start(recipe)
    while before is not None and before not in found:  # a folder that was put where its own start had been
        found.append(before)
        before = _start(before)
    return found


def _start(recipe: Recipe) -> Recipe | None:
    if recipe.init is None:
        return None
    place = Path(recipe.init)
    if place.suffix != ".onnx":
        folder = RunFolder(place)
        return folder.read_recipe() if folder.recipe.exists() else None
    manifest = place.with_name("manifest.json")
    return _published(manifest, place.name) if manifest.exists() else None


def _published(manifest: Path, file: str) -> Recipe | None:
    try:
        read = Manifest.model_validate_json(manifest.read_text())
        variant = next((variant for variant in read.variants if variant.file == file), None)
        return Recipe.model_validate(variant.recipe) if variant else None
    except ValidationError:  # trained elsewhere, by no recipe of ours
        return None
