"""What the OpenAPI document says of all operations alike: errors, the bounds of the protocol, headers."""

from typing import Any

from chat_stats.service.catalogue.schemas import PROBLEM, Problem, Schema, problem
from chat_stats.service.http.named_enums import name_enums
from chat_stats.service.http.protocol import MAX_BODY_BYTES, MAX_HEAD_BYTES
from chat_stats.service.settings import Settings

_PROTOCOL = {
    "413": problem(f"The body is longer than {MAX_BODY_BYTES} bytes; no operation takes one."),
    "431": problem(f"The request line and headers are longer than {MAX_HEAD_BYTES} bytes together."),
}

_HEADERS: dict[str, dict[str, Any]] = {
    "Age": {"description": "Age of the numbers in seconds.", "schema": {"type": "integer", "minimum": 0}},
    "Cache-Control": {"description": "How long caches may use the answer.", "schema": {"type": "string"}},
    "Cache-Status": {
        "description": "Where the answer comes from (RFC 9211).",
        "schema": {"type": "string"},
    },
    "ETag": {
        "description": "Changes only when the data do; for If-None-Match.",
        "schema": {"type": "string"},
    },
    "Retry-After": {
        "description": "Seconds after which it is worth asking again.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "WWW-Authenticate": {"description": "How to send a key.", "schema": {"type": "string"}},
    "X-Request-ID": {
        "description": "Names this answer in the service's log; that of the request, if it brought one.",
        "schema": {"type": "string"},
    },
}

#: Headers of the data, by tag, and of the errors.
_OF_DATA = {
    "statistics": ("ETag", "Age", "Cache-Control", "Cache-Status"),
    "requests": ("ETag", "Cache-Control"),
}
_OF_ERRORS = {"401": ("WWW-Authenticate",), "429": ("Retry-After",), "503": ("Retry-After",)}


def complete(document: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Add to FastAPI's document what holds for all operations."""
    components = document.setdefault("components", {})
    components["headers"] = _HEADERS
    schemas = components.setdefault("schemas", {})
    schemas[PROBLEM] = Problem.model_json_schema()
    for model in Schema.__subclasses__():
        extra = model.model_config.get("json_schema_extra")
        if isinstance(extra, dict) and model.__name__ in schemas:
            schemas[model.__name__] |= extra  # FastAPI leaves out what is null, in examples too
    for path in document["paths"].values():
        for operation in path.values():
            responses: dict[str, dict[str, Any]] = operation["responses"]
            for status, response in responses.items():
                names = _OF_DATA.get(operation["tags"][0], ()) if status in ("200", "304") else ()
                if "application/problem+json" in response.get("content", {}):
                    names = _OF_ERRORS.get(status, ())
                response["headers"] = {
                    name: {"$ref": f"#/components/headers/{name}"} for name in (*names, "X-Request-ID")
                }
            if operation["tags"][0] in _OF_DATA and not settings.needs_key:
                del operation["security"]
            operation["responses"] = dict(sorted({**responses, **_PROTOCOL}.items()))
    name_enums(document, settings.known_dimensions)
    return document
