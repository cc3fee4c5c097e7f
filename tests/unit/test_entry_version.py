"""The version of cached entries changes with the fields of the answers."""

import hashlib
from typing import Any

from service.cache.entry import VERSION
from service.catalogue.aggregations import AGGREGATIONS

#: The version, and a digest of the fields of each aggregation's `data` in that version.
KNOWN = (2, "d822635ef220")


def test_changed_fields_need_another_version() -> None:
    """Otherwise the new code would serve an old entry without the new fields."""
    fields = sorted(
        f"{name}: {field}"
        for name, aggregation in AGGREGATIONS.items()
        for field in _data_fields(aggregation.answer.model_json_schema())
    )
    digest = hashlib.sha256("\n".join(fields).encode()).hexdigest()[:12]
    assert (VERSION, digest) == KNOWN, "raise service.cache.entry.VERSION, and write both down here"


def _data_fields(schema: dict[str, Any]) -> list[str]:
    """Return the names of the fields of `data`, nested ones included."""
    definitions = schema["$defs"]
    found, left = set(), [schema["properties"]["data"]]
    while left:
        part = left.pop()
        if "$ref" in part:
            part = definitions[part["$ref"].rpartition("/")[2]]
        found |= set(part.get("properties", {}))
        left += [*part.get("properties", {}).values(), *part.get("anyOf", ())]
        left += [part["items"]] if "items" in part else []
    return sorted(found)
