"""The KServe manifests are valid by KServe's own schemas, fit together, and fit the image."""

import json
from copy import deepcopy
from typing import Any

import jsonschema
import pytest

from tests.support import deploy_manifests as manifests

FOLDER = manifests.ROOT / "deploy" / "kserve"
FILES = sorted(FOLDER.glob("*.yaml"))
SCHEMAS: dict[str, Any] = json.loads((manifests.ROOT / "tests" / "deploy" / "kserve_schemas.json").read_text())
RUNTIME = manifests.read(FOLDER / "serving-runtime.yaml")
SERVICE = manifests.read(FOLDER / "inference-service.yaml")


def strict(schema: Any) -> Any:
    """The schema, which then refuses keys that it does not know, as the server does for strict clients."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items()}
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object" and not open_ended:
        made["additionalProperties"] = False
    return made


def problems(resource: dict[str, Any]) -> list[str]:
    """What is wrong with a resource. The server's own schema knows its metadata, KServe's leaves it open."""
    schema = strict(SCHEMAS[resource["kind"]])
    schema["properties"]["metadata"] = {"type": "object", "required": ["name"]}
    return [error.message for error in jsonschema.Draft7Validator(schema).iter_errors(resource)]


@pytest.mark.parametrize("resource", [RUNTIME, SERVICE], ids=lambda resource: str(resource["kind"]))
def test_a_manifest_is_valid(resource: dict[str, Any]) -> None:
    """By the schema of KServe's own CustomResourceDefinition; every key in it would be missed if misspelt."""
    assert problems(resource) == []
    for wrong in misspelt(resource["spec"]):
        assert problems(resource | {"spec": wrong})


def misspelt(value: Any) -> list[Any]:
    """The value with one key wrong, for every key in it whose names the schema fixes."""
    if isinstance(value, list):
        return [[*value[:i], wrong, *value[i + 1 :]] for i, each in enumerate(value) for wrong in misspelt(each)]
    if not isinstance(value, dict):
        return []
    found = []
    for key, each in value.items():
        rest = {name: deepcopy(other) for name, other in value.items() if name != key}
        if key not in {"cpu", "memory"}:  # names of resources are free
            found.append(rest | {f"{key}X": each})
        found += [{**rest, key: wrong} for wrong in misspelt(each)]
    return found


def test_there_is_a_schema_for_every_file() -> None:
    """No file goes unchecked."""
    assert [manifests.read(path)["kind"] for path in FILES] == [SERVICE["kind"], RUNTIME["kind"]]


def test_the_runtime_runs_the_image_as_it_is_meant() -> None:
    """Port, user, rights and probes; the models are where KServe puts them."""
    (container,) = RUNTIME["spec"]["containers"]
    assert container["name"] == "kserve-container"  # which KServe completes
    manifests.is_the_image(container)
    manifests.runs_as_the_user(container["securityContext"])
    manifests.asks_for_keys(RUNTIME["spec"], container)
    manifests.is_probed(container)
    assert {"name": "NOISEVOTE_MODEL_STORE", "value": "/mnt/models"} in container["env"]


def test_the_service_runs_on_the_runtime() -> None:
    """It names the runtime and a format of its, and its pods end in time and have only variables that are settings."""
    predictor = SERVICE["spec"]["predictor"]
    assert predictor["model"]["runtime"] == RUNTIME["metadata"]["name"]
    formats = [(each["name"], each["version"]) for each in RUNTIME["spec"]["supportedModelFormats"]]
    wanted = predictor["model"]["modelFormat"]
    assert (wanted["name"], wanted["version"]) in formats
    manifests.ends_in_time(predictor)
    manifests.is_spared_of_service_links(predictor)
