"""Events: what is published reaches every client that listens, and costs nothing for each of them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import asyncpg
import httpx
import orjson
import pytest
from fastapi import FastAPI
from starlette.types import Message, Send

from chat_stats.service.cache import announcements
from chat_stats.service.cache.publication import Prepared
from chat_stats.service.http import event_streams
from chat_stats.service.settings import Settings
from tests.conftest import SettingsFactory
from tests.integration.conftest import Flow, OpenClient
from tests.integration.scrape import scrape

PATH = "/api/monitoring/events"
#: Seconds within which what must happen has happened, on a busy machine.
PATIENCE = 30


class Listener:
    """A client of the events, without a socket."""

    def __init__(self) -> None:
        self.head: Message = {}
        self.body = b""
        self.ended = False
        self.task: asyncio.Task[None] | None = None
        self.leave = asyncio.Event()
        self._heard = asyncio.Event()

    async def receive(self) -> Message:
        await self.leave.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.head = message
        else:
            self.body += message.get("body", b"")
            self.ended = not message.get("more_body", False)
        self._heard.set()

    @property
    def events(self) -> list[dict[str, Any]]:
        return self.of("generation")

    def of(self, kind: str) -> list[dict[str, Any]]:
        """What the events of a kind say; each has the id of its generation."""
        found = []
        for block in self.body.decode().split("\n\n")[:-1]:
            fields = dict(line.split(": ", 1) for line in block.splitlines())
            if fields.get("event") == kind:
                found.append(orjson.loads(fields["data"]))
                assert found[-1]["generation"] == fields["id"]
        return found

    async def until(self, condition: Callable[["Listener"], object]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition(self):
                self._heard.clear()
                await self._heard.wait()


Listen = Callable[..., Awaitable[Listener]]


@asynccontextmanager
async def listening(app: FastAPI) -> AsyncIterator[Listen]:
    """Yield a function that begins to listen."""
    async with AsyncExitStack() as stack:

        async def listen(*, method: str = "GET", send: Send | None = None, **headers: str) -> Listener:
            listener = Listener()
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            scope: dict[str, Any] = {
                "type": "http",
                "http_version": "1.1",
                "method": method,
                "path": PATH,
                "raw_path": b"",
                "query_string": b"",
                "root_path": "",
                "scheme": "http",
                "client": ("test", 1),
                "server": ("test", 80),
                "asgi": {"version": "3.0"},
                "headers": [(name.encode(), value.encode()) for name, value in named.items()],
            }
            listener.task = task = asyncio.create_task(app(scope, listener.receive, send or listener.send))

            async def end() -> None:
                listener.leave.set()
                await asyncio.wait_for(task, PATIENCE)

            stack.push_async_callback(end)
            return listener

        yield listen


def app_of(client: httpx.AsyncClient) -> FastAPI:
    app: FastAPI = client._transport.app  # type: ignore[attr-defined]
    return app


@pytest.fixture
async def listen(client: httpx.AsyncClient, gateway: asyncpg.Connection) -> AsyncIterator[Listen]:
    async with listening(app_of(client)) as listen:
        yield listen


@pytest.fixture
async def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No heartbeat, and no look at the pointer after the first, unless a message is lost."""
    monkeypatch.setattr(event_streams, "HEARTBEAT_SECONDS", 3600)
    monkeypatch.setattr(announcements, "LOOK_SECONDS", 3600)


@pytest.mark.usefixtures("quiet")
async def test_a_published_generation_is_an_event_and_one_that_is_behind_gets_it_at_once(
    flow: Flow, listen: Listen
) -> None:
    first = await flow.refresh()
    listener = await listen()
    await listener.until(lambda it: it.events)
    assert listener.head["status"] == 200
    headers = dict(listener.head["headers"])
    assert headers[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert headers[b"cache-control"] == b"no-store, no-transform"
    assert headers[b"x-accel-buffering"] == b"no"
    assert b"content-encoding" not in headers
    assert b"content-length" not in headers
    assert listener.body.startswith(b"retry: ")

    up_to_date = await listen(last_event_id=first.generation, accept_encoding="gzip, zstd")
    behind = await listen(last_event_id="20200101T000000.000000Z-abcdef")
    foreign = await listen(last_event_id="x")
    for each in (behind, foreign):
        await each.until(lambda it: it.events)

    second = await flow.refresh(["counts"], ["24h"])  # not of everything: it is published all the same
    ids = [report.generation for report in (first, second)]
    for each in (listener, behind, foreign):
        await each.until(lambda it: len(it.events) == 2)
        assert [event["generation"] for event in each.events] == ids
    await up_to_date.until(lambda it: it.events)
    assert up_to_date.events == listener.events[1:]
    assert listener.events[1]["computed_at"] == second.computed_at.isoformat().replace("+00:00", "Z")


async def test_an_event_costs_no_query_and_no_command_of_redis_for_each_client(
    flow: Flow, listen: Listen, client: httpx.AsyncClient, quiet: None
) -> None:
    listeners = [await listen() for _ in range(200)]
    await flow.refresh()
    for listener in listeners:
        await listener.until(lambda it: it.events)
    assert (await scrape(client)).value("event_streams") == 200
    app_of(client).state.services.database.snapshot = None  # any query fails from now on
    before = (await flow.cache.redis.info("commandstats"))["cmdstat_get"]["calls"]
    published = await flow.refresh(["counts"], ["24h"])
    for listener in listeners:
        await listener.until(lambda it: it.events[-1]["generation"] == published.generation)
    after = (await flow.cache.redis.info("commandstats"))["cmdstat_get"]["calls"]
    assert after - before < 10


async def test_no_answer_from_memory_is_older_than_the_event(
    flow: Flow, client_of: OpenClient, settings: Settings, gateway: asyncpg.Connection, quiet: None
) -> None:
    await flow.refresh()
    client = await client_of(settings.model_copy(update={"local_cache_seconds": 60.0}))
    counted = (await client.get("/chat-requests/counts")).json()["metadata"]["total_requests"]
    async with listening(app_of(client)) as listen:
        listener = await listen()
        await gateway.execute("INSERT INTO chat_completion_requests (model_id, created_at) VALUES (1, now())")
        published = await flow.refresh()
        await listener.until(lambda it: it.events and it.events[-1]["generation"] == published.generation)
        answer = (await client.get("/chat-requests/counts")).json()
        assert answer["metadata"]["total_requests"] == counted + 1
        assert answer["metadata"]["generation"] == published.generation


async def test_events_go_on_when_redis_drops_the_subscription_and_when_a_message_is_lost(
    flow: Flow,
    client_of: OpenClient,
    settings: Settings,
    gateway: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(announcements, "LOOK_SECONDS", 0.5)
    async with listening(app_of(await client_of(settings))) as listen:
        listener = await listen()
        await flow.refresh()
        await listener.until(lambda it: it.events)
        await flow.cache.redis.client_kill_filter(_type="pubsub")
        await flow.refresh()
        await listener.until(lambda it: len(it.events) == 2)

        async def lose(*_: object) -> None:
            pass

        monkeypatch.setattr(Prepared, "_announce", lose)
        lost = await flow.refresh()
        await listener.until(lambda it: len(it.events) == 3)
        assert listener.events[-1]["generation"] == lost.generation


async def test_heartbeats_come_without_events_and_a_stream_ends_in_time(
    listen: Listen, monkeypatch: pytest.MonkeyPatch, client_of: OpenClient, settings: Settings
) -> None:
    monkeypatch.setattr(event_streams, "HEARTBEAT_SECONDS", 0.05)
    async with listening(app_of(await client_of(settings))) as listen:
        listener = await listen()
        await listener.until(lambda it: it.body.count(b": still here\n\n") >= 3)
        monkeypatch.setattr(event_streams, "LIFETIME_SECONDS", 0.0)
        brief = await listen()
        await brief.until(lambda it: it.ended)
        assert not listener.ended


async def test_a_client_that_does_not_read_is_dropped_and_delays_no_other(
    flow: Flow, listen: Listen, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, quiet: None
) -> None:
    monkeypatch.setattr(event_streams, "SEND_SECONDS", 0.2)
    before = (await scrape(client)).value("event_streams_dropped_total") or 0

    async def never_read(message: Message) -> None:
        """As servers do when a client's connection takes no more."""
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    deaf = await listen(send=never_read)
    other = await listen()
    await flow.refresh()
    await other.until(lambda it: it.events)
    assert deaf.task is not None
    await asyncio.wait_for(asyncio.shield(deaf.task), PATIENCE)
    assert (await scrape(client)).value("event_streams_dropped_total") == before + 1
    assert (await scrape(client)).value("event_streams") == 1


async def test_listening_needs_a_key_counts_as_a_call_and_has_a_limit(
    client_of: OpenClient, settings_with: SettingsFactory, gateway: asyncpg.Connection
) -> None:
    client = await client_of(
        settings_with(api_keys="let-me-in", max_event_streams=1, rate_limit_requests="3/minute")
    )
    refused = await client.get("/events")
    assert refused.status_code == 401
    head = await client.head("/events", headers={"X-API-Key": "let-me-in"})
    assert (head.status_code, head.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    async with listening(app_of(client)) as listen:
        listener = await listen(x_api_key="let-me-in")
        await listener.until(lambda it: it.body)
        full = await client.get("/events", headers={"X-API-Key": "let-me-in"})
        assert (full.status_code, full.json()["title"]) == (503, "Too many streams")
        assert full.headers["retry-after"] == "60"
        limited = await client.get("/events", headers={"X-API-Key": "let-me-in"})
        assert limited.status_code == 429
    measured = await scrape(client)
    assert measured.value("requests_total", endpoint="events", status="200") is not None
    assert measured.value("event_streams") == 0
