"""Calls of the functions, as a dashboard makes them."""

import json
from typing import Any

#: The functions that dashboards may call, with their columns as docs/http-api.md promises them.
FUNCTIONS = {
    "get_provider_request_stats": (
        "provider_id",
        "name",
        "slug",
        "models_with_requests",
        "total_requests",
    ),
    "get_models_with_requests": (
        "model_id",
        "model_identifier",
        "model_name",
        "provider_model_id",
        "provider",
        "stats",
    ),
    "get_models_with_requests_by_provider": (
        "model_id",
        "model_identifier",
        "model_name",
        "provider_model_id",
        "provider",
        "stats",
    ),
    "get_model_request_stats": (
        "total_requests",
        "total_input_tokens",
        "total_output_tokens",
        "total_tokens",
        "avg_processing_time_ms",
    ),
    "get_model_request_counts": (
        "model_id",
        "model_name",
        "model_identifier",
        "provider_name",
        "provider_slug",
        "request_count",
    ),
}

#: Those that take an id before the time range.
NARROWED = ("get_models_with_requests_by_provider", "get_model_request_stats")


async def rows_of(connection: Any, call: str, *args: Any) -> list[dict[str, Any]]:
    """Return the rows of a function as JSON shows them."""
    records = await connection.fetch(f"SELECT row_to_json(f)::text AS row FROM {call} AS f", *args)
    return [json.loads(record["row"]) for record in records]
