"""Time of a hit in Python: the protocol and the application, without network and kernel."""

import asyncio
import time
from typing import Any, cast

import uvicorn
from asgi_lifespan import LifespanManager
from uvicorn.server import ServerState

from bench.servers import settings_for
from chat_stats.service.app import create_app
from chat_stats.service.http.protocol import BoundedHttpProtocol

CALLS = 20_000
ROUNDS = 5


class _Nowhere(asyncio.Transport):
    """Drops what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0
        self.last = b""

    def write(self, data: Any) -> None:
        self.writes += 1
        self.last = data

    def writelines(self, list_of_data: Any) -> None:
        self.writes += 1
        self.last = next(iter(list_of_data))

    def close(self) -> None:
        pass

    def is_closing(self) -> bool:
        return False


def microseconds_of_a_hit(
    database_url: str, redis_url: str, path: str, headers: tuple[str, ...] = ()
) -> tuple[float, float]:
    """Return the best rounds' means: of a request that came before to the byte, and of one that is parsed."""
    return asyncio.run(_measure(database_url, redis_url, path, headers))


async def _measure(
    database_url: str, redis_url: str, path: str, headers: tuple[str, ...]
) -> tuple[float, float]:
    settings = settings_for(database_url, redis_url)
    app = create_app(settings.model_copy(update={"local_cache_seconds": 60}))  # no read of Redis in between
    lines = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1:8000", *headers, "", ""]
    request = "\r\n".join(lines).encode()
    async with LifespanManager(app):
        config = uvicorn.Config(app, lifespan="off", access_log=False, log_config=None)
        config.load()
        protocol = BoundedHttpProtocol(config, ServerState(), {})
        transport = _Nowhere()
        protocol.connection_made(cast("asyncio.Transport", transport))
        for _ in range(2):  # by the ordinary route, and by the ASGI layer or the protocol
            protocol.data_received(request)
            await asyncio.gather(*protocol.server_state.tasks)
        remembered = _best(protocol, request, lambda: None)
        parsed = _best(protocol, request, protocol._hits._remembered.clear)  # type: ignore[union-attr]
        assert transport.last.startswith(b"HTTP/1.1 200 ")
        protocol.connection_lost(None)
    return remembered, parsed


def _best(protocol: BoundedHttpProtocol, request: bytes, before_each: Any) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.process_time()
        for _ in range(CALLS):
            before_each()
            protocol.data_received(request)
        best = min(best, (time.process_time() - started) / CALLS)
    return best * 1e6
