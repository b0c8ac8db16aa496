"""Published int8 variants beside the float32 variants that they were made of."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from noisevote.evaluation.examples import Examples
from noisevote.evaluation.onnx_runtime import OnnxRuntime
from noisevote.evaluation.plan import Plan
from noisevote.evaluation.votes import cast_votes
from noisevote.model_store.manifest import Manifest, Variant
from noisevote.model_store.store import ModelStore
from noisevote.noise_op.contract import OP_VERSION, OperatorVersion
from noisevote.noise_op.onnx_versions import draw_with, operator_version
from noisevote.service.settings import Settings
from noisevote.training.publish.differences import differences
from noisevote.training.publish.twin_record import read_all

RECORDS = Path(__file__).parents[3] / "docs" / "results" / "twins"
STORE = ModelStore(Settings.model_fields["model_store"].default)
TWINS = [
    (manifest, variant)
    for name in STORE.names()
    for manifest in [STORE.manifest(name)]
    for variant in manifest.variants
    if variant.twin is not None
]
EACH = pytest.mark.parametrize(
    ("manifest", "twin"), TWINS, ids=[f"{manifest.name}-{variant.name}" for manifest, variant in TWINS]
)


def original(manifest: Manifest, twin: Variant) -> Variant:
    """The float32 variant."""
    found = manifest.variant(twin.twin or "")
    assert found is not None
    return found


@EACH
def test_it_is_no_less_accurate_wherever_both_were_measured(manifest: Manifest, twin: Variant) -> None:
    """At no point of its table, of all test images, by more than 0.1 points, with the same draws.

    What was measured of a float32 variant with draws of another version than its own stands in the twin's record.
    """
    variant = original(manifest, twin)
    theirs = variant.accuracy
    if manifest.operator_version(twin) != manifest.operator_version(variant):
        (noted,) = [each for each in read_all(RECORDS) if each.sha256 == twin.sha256]
        assert (noted.model, noted.version, noted.twin, noted.variant) == (
            manifest.name, manifest.version, twin.name, variant.name
        )  # fmt: skip
        theirs = tuple(noted.point(place) for place in noted.places)
    compared = differences(theirs, twin.accuracy)
    assert len(compared) == len(twin.accuracy)
    assert {each.twin.images for each in compared} == {10_000}
    assert not [str(each) for each in compared if each.too_low]


@EACH
def test_it_casts_the_votes_of_its_original(
    manifest: Manifest, twin: Variant, examples: dict[str, Examples], tmp_path: Path
) -> None:
    """Of the same draws, on the examples kept here, nearly every vote is the same; and the file says what it is."""
    assert twin.provenance is not None
    images = examples[twin.provenance.data_set]
    plan = Plan((twin.noise,), (0.5,), votes=5, seed=0)
    votes = []
    drawn: OperatorVersion = OP_VERSION
    for variant in (twin, original(manifest, twin)):
        file = tmp_path / variant.file
        model = onnx.load_from_string(STORE.read(manifest, variant))
        if variant is twin:
            drawn = operator_version(model)
        draw_with(model, drawn)
        onnx.save(model, file)
        votes.append(cast_votes(OnnxRuntime(file), images, (twin.noise, 0.5), plan))
    assert float(np.mean(votes[0] != votes[1])) < 0.03
    assert drawn == manifest.operator_version(twin)
    about = {entry.key: entry.value for entry in onnx.load(tmp_path / twin.file).metadata_props}
    assert (about["variant"], about["precision"], about["twin"]) == (twin.name, "int8", twin.twin)
