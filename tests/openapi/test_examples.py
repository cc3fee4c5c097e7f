"""Every example in the OpenAPI document is valid, and has the shape of real answers."""

from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema_rs
import pytest

#: Parameters with which a request gets a 200 that has the example's fields.
PATH_PARAMETERS = {"model_id": "1"}
QUERIES = {
    "get_timeseries": {"window": "7d", "bucket": "1d", "group_by": "model", "timezone": "Europe/Berlin"},
    "get_query": {"group_by": "status", "measures": "total_requests,total_cost_usd", "limit": "1"},
}


def resolve(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in schema:
        return schema
    found: Any = document
    for part in schema["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return found


def is_valid(document: dict[str, Any], schema: dict[str, Any], value: Any) -> bool:
    whole = {**schema, "components": document["components"]}
    return jsonschema_rs.validator_for(whole, validate_formats=True).is_valid(value)


def examples_of(document: dict[str, Any], content: dict[str, Any]) -> list[Any]:
    """Return the examples of a parameter or of a body, from either place where they may stand."""
    named = [example["value"] for example in content.get("examples", {}).values()]
    alone = [content["example"]] if "example" in content else []
    return [*named, *alone, *resolve(document, content["schema"]).get("examples", [])]


def contents(document: dict[str, Any]) -> Iterator[tuple[str, str, str, str, dict[str, Any]]]:
    """Yield (method, path, status, media type, content) of all answers."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for status, response in operation["responses"].items():
                for media_type, content in response.get("content", {}).items():
                    yield method, path, status, media_type, content


def shape(value: Any) -> Any:
    """Return the keys and the types of values; of a list, those of its first element."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    if isinstance(value, bool) or value is None:
        return type(value).__name__
    return "number" if isinstance(value, int | float) else type(value).__name__


def alike(shown: Any, real: Any) -> bool:
    """Return whether the shapes are equal; null and empty match anything."""
    if "NoneType" in (shown, real) or [] in (shown, real):
        return True
    if isinstance(shown, dict) and isinstance(real, dict):
        return shown.keys() == real.keys() and all(alike(shown[key], real[key]) for key in shown)
    if isinstance(shown, list) and isinstance(real, list):
        return alike(shown[0], real[0])
    return bool(shown == real)


def test_every_example_of_a_parameter_is_valid(document: dict[str, Any]) -> None:
    parameters = [
        (operation["operationId"], parameter)
        for path in document["paths"].values()
        for operation in path.values()
        for parameter in operation.get("parameters", [])
    ]
    found = [
        (operation, parameter["name"], is_valid(document, parameter["schema"], example))
        for operation, parameter in parameters
        for example in examples_of(document, parameter)
    ]
    assert len(found) >= 15
    assert [each for each in found if not each[2]] == []


def test_every_answer_with_a_schema_has_a_valid_example(document: dict[str, Any]) -> None:
    for method, path, status, media_type, content in contents(document):
        examples = examples_of(document, content)
        binary = content["schema"].get("format") == "binary"
        assert examples or binary or path.startswith("/metrics"), (method, path, status, media_type)
        assert all(is_valid(document, content["schema"], each) for each in examples), (method, path, status)


def test_examples_have_the_shape_of_real_answers(service: httpx.Client, document: dict[str, Any]) -> None:
    compared = 0
    for method, path, status, media_type, content in contents(document):
        if status != "200" or media_type != "application/json":
            continue
        operation = document["paths"][path][method]["operationId"]
        response = service.request(
            method,
            path.format(**PATH_PARAMETERS),
            params={"wait": "true"} if operation == "refresh" else QUERIES.get(operation, {}),
        )
        assert response.status_code == 200, response.text
        real = response.json()
        assert is_valid(document, content["schema"], real), path
        for example in examples_of(document, content):
            assert alike(shape(example), shape(real)), (path, shape(example), shape(real))
            compared += 1
    assert compared >= 10


@pytest.mark.parametrize(
    ("query", "headers", "status"), [("window=1y", {}, 422), ("", {"Authorization": "Bearer no"}, 401)]
)
def test_the_example_of_an_error_has_the_shape_of_a_real_one(
    service: httpx.Client, document: dict[str, Any], query: str, headers: dict[str, str], status: int
) -> None:
    response = service.get(f"/api/monitoring/chat-requests/counts?{query}", headers=headers)
    assert response.status_code == status
    schema = document["components"]["schemas"]["Problem"]
    assert is_valid(document, schema, response.json())
    shown = {
        key: value for key, value in schema["examples"][0].items() if status == 422 or key != "parameter"
    }
    assert shape(shown) == shape(response.json())
