"""Time of a hit in chat-stats' own code: the application alone, without server, network and kernel."""

import asyncio
import time
from typing import Any

from asgi_lifespan import LifespanManager

from bench.servers import settings_for
from chat_stats.service.app import create_app

CALLS = 20_000
ROUNDS = 5


def microseconds_of_a_hit(database_url: str, redis_url: str, path: str) -> float:
    """Call the application as a server does, with a no-op `send`; return the best round's mean."""
    return asyncio.run(_measure(database_url, redis_url, path))


async def _measure(database_url: str, redis_url: str, path: str) -> float:
    app = create_app(settings_for(database_url, redis_url))
    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1:8000")],
        "http_version": "1.1",
        "scheme": "http",
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }
    statuses = set()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.add(message["status"])

    best = float("inf")
    async with LifespanManager(app):
        await app(dict(scope), receive, send)  # registers the target with the fast path
        for _ in range(ROUNDS):
            started = time.perf_counter()
            for _ in range(CALLS):
                await app(scope, receive, send)
            best = min(best, (time.perf_counter() - started) / CALLS)
    assert statuses == {200}
    return best * 1e6
