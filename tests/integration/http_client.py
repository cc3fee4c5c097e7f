"""What tests ask the API for."""

from typing import Any

import httpx

STATISTICS = [
    "/chat-requests/providers",
    "/chat-requests/models",
    "/chat-requests/models?provider_id=1",
    "/chat-requests/models/1",
    "/chat-requests/counts",
    "/chat-requests/summary",
    "/chat-requests/timeseries?bucket=1mo&group_by=model&timezone=Asia/Kathmandu",
]


async def get(client: httpx.AsyncClient, path: str) -> dict[str, Any]:
    response = await client.get(path)
    assert response.status_code == 200, response.text
    return response.json()
