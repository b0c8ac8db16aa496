"""What /openapi.json says of `/v1` is what clients meet."""

from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

pytestmark = pytest.mark.slow

PREDICT = "/v1/models/{name}/predict"


@pytest.fixture
async def described(client: httpx.AsyncClient) -> dict[str, Any]:
    """The description."""
    return dict((await client.get("/openapi.json")).json())


def operations(described: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Method with path, and description, of each operation of /v1."""
    return [
        (f"{method} {path}", operation)
        for path, methods in described["paths"].items()
        if path.startswith("/v1/")
        for method, operation in methods.items()
    ]


async def test_refusals_are_json_everywhere(described: dict[str, Any]) -> None:
    """Also of the route whose success is a stream of events."""
    for name, operation in operations(described):
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                (kind,) = response["content"]
                reference = response["content"][kind]["schema"]["$ref"]
                assert (kind, reference) == ("application/json", "#/components/schemas/ErrorResponse"), name
    stream = described["paths"][f"{PREDICT}/stream"]["post"]["responses"]
    assert list(stream["200"]["content"]) == ["text/event-stream"]


async def test_whatever_may_happen_is_described(described: dict[str, Any]) -> None:
    """A redirection, a defect and a server that is not ready, of every operation; 404 of those that name a model."""
    for name, operation in operations(described):
        assert {"200", "307", "500", "503"} <= set(operation["responses"]), name
        assert ("404" in operation["responses"]) == ("{name}" in name), name
        assert ("422" in operation["responses"]) == name.startswith("post"), name


async def test_references_lead_somewhere(described: dict[str, Any]) -> None:
    """And nothing of FastAPI's own refusals is left, which nobody gets."""
    schemas = described["components"]["schemas"]
    text = str(described)
    references = {part.partition("'")[0] for part in text.split("#/components/schemas/")[1:]}
    assert references <= set(schemas)
    assert "HTTPValidationError" not in text


async def test_seeds_are_of_64_bits(described: dict[str, Any]) -> None:
    """So that generated clients do not take them for 32."""
    schemas = described["components"]["schemas"]
    asked, *_ = schemas["PredictRequest"]["properties"]["seed"]["anyOf"]
    assert asked["format"] == schemas["PredictResponse"]["properties"]["seed"]["format"] == "uint64"
    assert schemas["AccuracyPoint"]["properties"]["seed"]["format"] == "uint64"


@pytest.mark.parametrize(
    ("body", "valid"),
    [
        ({}, True),
        ({"votes": 20.0}, True),
        ({"votes": 2.5}, False),
        ({"votes": None, "stop": None, "noise": None, "variant": None, "seed": None, "deadline_ms": None}, True),
        ({"stop": {"rule": "confidence", "delta": None}}, True),
        ({"sigma": 0.5}, True),
        ({"sigma": None}, False),
        ({"snr_db": None}, False),
        ({"sigmas": None}, False),
    ],
    ids=str,
)
async def test_the_schema_says_what_is_read(
    client: httpx.AsyncClient, described: dict[str, Any], body: dict[str, Any], valid: bool
) -> None:
    """Integral numbers, and null where it means that a key is not given: accepted where the schema accepts them."""
    body = {"inputs": [{"b64": "A" * 48, "dtype": "uint8"}]} | body
    schema = {"$ref": "#/components/schemas/PredictRequest", "components": described["components"]}
    assert Draft202012Validator(schema).is_valid(body) == valid
    response = await client.post(PREDICT.format(name="tiny"), json=body)
    assert response.status_code == (200 if valid else 422), response.text
