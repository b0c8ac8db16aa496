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
from noisevote.training.publish.twins import Twin

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
    """At no point of its table, of all test images, by more than 0.1 points, or by chance of other draws."""
    assert twin.provenance is not None
    differences = Twin(manifest, original(manifest, twin), twin.provenance, Path()).differences(twin)
    assert len(differences) == len(twin.accuracy)
    assert {each.twin.images for each in differences} == {10_000}
    assert all(each.room >= -1e-9 for each in differences)


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
