"""Requests without a model that exists, in the statistics and among single requests."""

import asyncpg
import httpx
import pytest

from tests.integration.test_filters_http import RANGES, get


@pytest.mark.parametrize("range_", RANGES)
async def test_requests_without_a_model_that_exists_are_a_filter_too(
    client: httpx.AsyncClient, gateway: asyncpg.Connection, range_: str
) -> None:
    await gateway.execute(
        "INSERT INTO chat_completion_requests (model_id, input_tokens, status, created_at) VALUES "
        "(NULL, 1, 'failed', now()), (99, 2, 'failed', now()), (99, 4, 'completed', now())"
    )
    everything = await get(client, f"/summary?{range_}")
    unresolved = await get(client, f"/summary?model_id=unresolved&{range_}")
    models = await get(client, f"/models?{range_}")
    assert everything["data"]["total_requests"] == 9
    assert (unresolved["data"]["total_requests"], unresolved["data"]["failed_requests"]) == (3, 2)
    assert unresolved["data"]["total_input_tokens"] == 7
    metadata = models["metadata"]
    assert (metadata["unresolved_requests"], metadata["unresolved_failed_requests"]) == (3, 2)
    assert (await get(client, f"/models?model_id=unresolved&{range_}"))["data"] == []
    assert (await get(client, f"/summary?model_id=unresolved&provider_id=1&{range_}"))["data"][
        "total_requests"
    ] == 0
    listed = await get(client, f"?model_id=unresolved&{range_}")
    assert listed["metadata"]["total_count"] == 3
