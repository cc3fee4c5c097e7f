"""The OpenAPI document as code generators see it: named types, and keys only where they are needed."""

from collections.abc import Iterator
from typing import Any

import pytest

from chat_stats.service.app import create_app
from chat_stats.service.http.named_enums import variable_name
from chat_stats.service.settings import Settings

DIMENSIONS = "user_id, team=tags->>team"


def document_of(**settings: Any) -> dict[str, Any]:
    return create_app(
        Settings(database_url="postgresql://x@localhost/x", _env_file=None, **settings)
    ).openapi()


def enumerations(part: Any) -> Iterator[list[str]]:
    if isinstance(part, dict):
        if "enum" in part:
            yield part["enum"]
        for each in part.values():
            yield from enumerations(each)
    elif isinstance(part, list):
        for each in part:
            yield from enumerations(each)


@pytest.mark.parametrize("dimensions", ["", DIMENSIONS])
def test_each_enumeration_is_a_named_schema_with_names_for_its_values(dimensions: str) -> None:
    document = document_of(dimensions=dimensions)
    schemas = document["components"]["schemas"]
    named = {name: schema for name, schema in schemas.items() if "enum" in schema}
    assert {"Window", "Bucket", "CacheState", "Method", "Format"} < set(named)
    assert len(list(enumerations(document))) == len(named)
    for schema in named.values():
        names = schema["x-enum-varnames"]
        assert len(set(names)) == len(schema["enum"])
        assert all(name.isidentifier() and name == name.upper() for name in names)
    parameters = document["paths"]["/api/monitoring/chat-requests/summary"]["get"]["parameters"]
    [window] = [each for each in parameters if each["name"] == "window"]
    assert window["schema"] == {"$ref": "#/components/schemas/Window"}
    assert window["description"]
    assert schemas["Metadata"]["properties"]["cache"]["$ref"] == "#/components/schemas/CacheState"


def test_values_have_names_that_say_what_they_are() -> None:
    names = [
        variable_name(value) for value in ("1h", "15m", "1mo", "all", "-total_requests", "total_requests")
    ]
    assert names == [
        "HOURS_1",
        "MINUTES_15",
        "MONTHS_1",
        "ALL",
        "TOTAL_REQUESTS_DESCENDING",
        "TOTAL_REQUESTS",
    ]


@pytest.mark.parametrize(
    ("settings", "needed"), [({}, False), ({"api_keys": "one"}, True), ({"require_key": True}, True)]
)
def test_the_document_wants_a_key_where_reading_does(settings: dict[str, Any], needed: bool) -> None:
    for path, operations in document_of(**settings)["paths"].items():
        for method, operation in operations.items():
            tag = operation["tags"][0]
            wanted = {"administration": True, "health": path == "/metrics/usage" and needed}.get(tag, needed)
            assert ("security" in operation) is wanted, (method, path)
