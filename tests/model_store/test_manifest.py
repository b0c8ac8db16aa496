import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from noisevote.model_store.manifest import Manifest
from noisevote.model_store.store import ModelStore
from tests.support.manifests import manifest, point, variant

STORE = Path(__file__).parents[2] / "model_store" / "models"
FILES = {"mul-0.0": b"zero", "mul-0.8": b"eight"}


def changed(**fields: Any) -> dict[str, Any]:
    """A valid manifest as JSON values with top-level fields replaced."""
    return dict(json.loads(manifest(FILES).model_dump_json())) | fields


def test_a_manifest_survives_its_json() -> None:
    """What is written is what is read."""
    original = manifest(FILES, variants=(variant(accuracy=[point(0.5, 0.9, spread=0.01)]),))
    assert Manifest.model_validate_json(original.model_dump_json()) == original


def test_inputs_fit_exactly_unless_a_rule_of_padding_is_given() -> None:
    """A manifest written before there were such rules has none; an unknown rule is refused."""
    values = changed()
    del values["input"]["padding"]
    assert Manifest.model_validate(values).input.padding is None
    assert Manifest.model_validate(changed(input={"shape": [5, 2], "padding": "repeat_last"})).input.padding
    with pytest.raises(ValidationError, match="padding"):
        Manifest.model_validate(changed(input={"shape": [5, 2], "padding": "zeros"}))


def test_what_measured_is_read_by_its_former_name() -> None:
    """Manifests of before `measured_by` called it `engine`; new ones are written under the new name alone."""
    values = changed()
    del values["variants"][0]["measured_by"]
    assert Manifest.model_validate(values).variants[0].measured_by == "onnxruntime"
    values["variants"][0]["engine"] = "torch"
    former = Manifest.model_validate_json(json.dumps(values))
    assert former.variants[0].measured_by == "torch"
    written = json.loads(former.model_dump_json())["variants"][0]
    assert written["measured_by"] == "torch"
    assert "engine" not in written
    values["variants"][0]["measured_by"] = "torch"
    with pytest.raises(ValidationError, match="engine"):
        Manifest.model_validate(values)


def test_published_manifests_say_what_measured() -> None:
    """Those in the repository, written under the former name, say by which engines their tables were measured."""
    store = ModelStore(STORE)
    for name, version in (("mnist-cnn", "3"), ("cifar10-cnn", "3"), ("cifar10-densenet40", "4")):
        written = json.loads((STORE / name / version / "manifest.json").read_text())
        expected = [variant.get("engine") or variant["measured_by"] for variant in written["variants"]]
        assert [variant.measured_by for variant in store.manifest(name, version).variants] == expected


def test_a_manifest_is_frozen() -> None:
    """Nobody changes a published model in memory."""
    with pytest.raises(ValidationError, match="frozen"):
        manifest(FILES).name = "other"  # type: ignore[misc]  # that this is refused is the claim


@pytest.mark.parametrize("name", ["..", "../other", "a/b", "", ".hidden", "Big", "a\\b", "a\n", "x" * 65])
def test_names_are_single_harmless_path_components(name: str) -> None:
    """A model or variant name cannot lead out of its folder."""
    with pytest.raises(ValidationError, match="name"):
        Manifest.model_validate(changed(name=name))


@pytest.mark.parametrize("version", ["0", "01", "-1", "1.0", "latest", "../1", "1\n", ""])
def test_versions_are_positive_numbers(version: str) -> None:
    """Versions have an order, and one spelling each."""
    with pytest.raises(ValidationError, match="version"):
        Manifest.model_validate(changed(version=version))


@pytest.mark.parametrize("file", ["../mul.onnx", "mul.bin", "/mul.onnx", "a/b.onnx", ".onnx"])
def test_files_lie_beside_the_manifest(file: str) -> None:
    """A variant's file is an ONNX file of the version's own folder."""
    values = changed()
    values["variants"][0]["file"] = file
    with pytest.raises(ValidationError, match="file"):
        Manifest.model_validate(values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"surprise": 1}, "surprise"),
        ({"format": 2}, "format"),
        ({"classes": ["a"]}, "classes"),
        ({"classes": ["a", "a"]}, "'a' occurs twice"),
        ({"variants": []}, "variants"),
        ({"input": {"shape": [1, 0], "value_range": [0, 1]}}, "shape"),
        ({"input": {"shape": [1], "value_range": [1, 0]}}, "below"),
    ],
)
def test_bad_manifests_are_refused(change: dict[str, Any], message: str) -> None:
    """Unknown keys and contradictions do not pass."""
    with pytest.raises(ValidationError, match=message):
        Manifest.model_validate(changed(**change))


def test_variants_have_their_own_names_and_files() -> None:
    """Two variants never share a name, and none is called like the automatic choice."""
    with pytest.raises(ValidationError, match=r"'mul-0\.8' occurs twice"):
        manifest(FILES, variants=(variant("mul-0.8"), variant("mul-0.8")))
    with pytest.raises(ValidationError, match="'auto' is reserved"):
        manifest(FILES, variants=(variant("auto"),))


def test_a_point_is_measured_once() -> None:
    """A table with two accuracies for one setting is refused."""
    with pytest.raises(ValidationError, match="occurs twice"):
        variant(accuracy=[point(0.5, 0.9), point(0.5, 0.8)])


def test_an_int8_variant_names_its_float32_twin() -> None:
    """A twin is there, is float32 and has one twin for each operator version; older manifests are float32."""
    assert variant().precision == "float32"
    original, twin = variant("mul-0.8"), variant("mul-0.8-int8", precision="int8", twin="mul-0.8")
    newer = variant("mul-0.8-int8-op2", precision="int8", twin="mul-0.8", operator_version=2)
    assert manifest({}, variants=(original, twin, newer)).variant("mul-0.8-int8") == twin
    for variants, message in (
        ((twin,), "'mul-0.8' is no float32 variant"),
        ((original, twin, variant("other", precision="int8", twin="mul-0.8")), "'mul-0.8, operator version 1' occ"),
        ((original, twin, variant("other", precision="int8", twin="mul-0.8-int8")), "is no float32 variant"),
    ):
        with pytest.raises(ValidationError, match=message):
            manifest({}, variants=variants)
    for fields in ({"precision": "int8"}, {"twin": "mul-0.8"}, {"precision": "int8", "twin": "x", "certifies": 0.5}):
        with pytest.raises(ValidationError):
            variant(**fields)
