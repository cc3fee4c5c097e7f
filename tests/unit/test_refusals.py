"""What a refused connection is reported as; real connections to ports where nothing listens."""

import socket
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from redis.asyncio import Redis

from chat_stats.service.cache.errors import TROUBLE, trouble_of
from chat_stats.service.connecting import refusals
from chat_stats.service.database.errors import unreachable
from chat_stats.worker.local_servers import free_port

HINT = "in a container, localhost is the container"


@pytest.fixture(params=[("127.0.0.1",), ("::1", "127.0.0.1")], ids=["one address", "two addresses"])
def port(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """A port where nothing listens; localhost has these addresses."""

    def addresses(host: str, port: int, *_rest: Any, **_options: Any) -> list[Any]:
        families = {":": socket.AF_INET6, ".": socket.AF_INET}
        return [
            (families[":" if ":" in address else "."], socket.SOCK_STREAM, 6, "", (address, port))
            for address in request.param
        ]

    monkeypatch.setattr(socket, "getaddrinfo", addresses)
    return free_port()


@pytest.fixture(params=[True, False], ids=["in a container", "on a host"])
def in_container(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    file = tmp_path / "dockerenv"
    if request.param:
        file.touch()
    monkeypatch.setattr(refusals, "CONTAINER_FILES", (file,))
    return bool(request.param)


async def test_postgres_that_does_not_listen(port: int, in_container: bool) -> None:
    with pytest.raises(OSError, match="Connect call failed") as raised:
        await asyncpg.connect(f"postgresql://user@localhost:{port}/x", timeout=5)
    said = str(unreachable(raised.value))
    assert "the database cannot be reached: nothing listens there" in said
    assert (HINT in said) == in_container


async def test_redis_that_does_not_listen(port: int, in_container: bool) -> None:
    with pytest.raises(TROUBLE) as raised:
        await Redis.from_url(f"redis://localhost:{port}/0").ping()
    said = trouble_of(raised.value)
    assert said.startswith("does not answer: nothing listens there")
    assert (HINT in said) == in_container


async def test_another_failure_is_no_refusal() -> None:
    assert refusals.refusal(OSError("Multiple exceptions: [Errno 111] x ('::1', 1), [Errno 113] y")) is None
    assert refusals.refusal(OSError(113, "No route to host")) is None
    assert refusals.refusal(TimeoutError()) is None
