"""Requests that wait for one answer: the protocol gives them the bytes that uvicorn's way gives."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from chat_stats.service.errors import StillComputing, TooManyRequests, Unavailable
from chat_stats.service.observability import metrics
from tests.integration.conftest import OpenPorts
from tests.integration.test_hit_connections import put
from tests.integration.wire import API, KNOWN, Connection, Ports, request

WAIT = request(KNOWN[0])
OTHER = request("/health")
#: Sent at once, each on a connection of its own, of which the first takes the ordinary way.
VARIOUS = [
    *(WAIT, WAIT, request(KNOWN[0], "Accept-Encoding: gzip"), request(KNOWN[0], "Accept-Encoding: zstd")),
    *(request(KNOWN[0], method="HEAD"), request(KNOWN[0], "X-Request-ID: mine")),
    *(request(KNOWN[0], "If-None-Match: *"), request(KNOWN[0], 'If-None-Match: "other"')),
    *(request(KNOWN[0], "Content-Length: 5") + b"hello", request(KNOWN[0], "Expect: 100-continue")),
    *(request(KNOWN[0], "Connection: close"), request(KNOWN[0], method="POST"), WAIT + OTHER, WAIT + WAIT),
    *(WAIT.replace(b"1.1", b"1.0"), request(f"{KNOWN[0]}?"), request(f"{API}/co%75nts")),
]


class Reads:
    """Holds the reads of an application until they are let through, or has them fail."""

    def __init__(self, ports: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
        stats = ports.app.state.services.stats
        self._read = stats.read
        self._gate = asyncio.Event()
        self._error: Exception | None = None
        self.count = 0
        monkeypatch.setattr(stats, "read", self.read)
        self._local = stats._local
        self.hold()

    async def read(self, *arguments: Any, **named: Any) -> Any:
        self.count += 1
        await self._gate.wait()
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        return await self._read(*arguments, **named)

    def hold(self) -> None:
        self._gate.clear()
        self._local._recent_seconds = 0  # for local copies

    def go_on(self, error: Exception | None = None) -> None:
        """Let the reads through; with an error, the first of them fails with it."""
        self._error = error
        self._gate.set()
        self._local._recent_seconds = 7200


@pytest.fixture
def reads(ports: Ports, monkeypatch: pytest.MonkeyPatch) -> Reads:
    return Reads(ports, monkeypatch)


async def turns(count: int = 12) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@asynccontextmanager
async def waiting(
    ports: Ports, requests: list[bytes], *, hits: bool = True
) -> AsyncIterator[list[Connection]]:
    """Send the requests at once, each on a connection of its own, and have them read."""
    connections = [await ports.connect(hits=hits) for _ in requests]
    for connection, sent in zip(connections, requests, strict=True):
        connection.client.send(sent)
    await turns()
    yield connections


async def answers(
    ports: Ports, reads: Reads, requests: list[bytes], *, hits: bool = True, error: Exception | None = None
) -> list[bytes]:
    reads.hold()
    async with waiting(ports, requests, hits=hits) as connections:
        assert not any(connection.receive() for connection in connections[:2])
        reads.go_on(error)
        return [await connection.rest() for connection in connections]


async def test_those_that_wait_get_what_uvicorn_s_way_gives(
    ports: Ports, reads: Reads, waited: list[str]
) -> None:
    put(ports, "counts", b'"' + b"c" * 20_000 + b'"')
    for requests in (VARIOUS, VARIOUS[1:] + VARIOUS[:1], [WAIT] * 50, [WAIT[:30], *[WAIT] * 3]):
        ours = await answers(ports, reads, requests)
        assert ours == await answers(ports, reads, requests, hits=False)
        assert ours[1].startswith(b"HTTP/1.1 200 OK")
    assert len(waited) > 70


async def test_many_that_wait_have_one_task_and_one_read(
    ports: Ports, reads: Reads, waited: list[str]
) -> None:
    before = len(asyncio.all_tasks())
    async with waiting(ports, [WAIT] * 100) as connections:
        assert len(asyncio.all_tasks()) - before <= 4
        reads.go_on()
        assert {(await connection.rest())[:15] for connection in connections} == {b"HTTP/1.1 200 OK"}
    assert (reads.count, len(waited)) == (1, 99)
    assert len({connection.protocol for connection in connections} & ports.state.connections) == 100


async def test_those_that_come_one_by_one_wait_for_the_read_under_way(
    ports: Ports, reads: Reads, waited: list[str]
) -> None:
    connections = []
    for _ in range(10):
        async with waiting(ports, [WAIT]) as (connection,):
            connections.append(connection)
    reads.go_on()
    for connection in connections:
        assert b"200 OK" in await connection.rest()
    assert (reads.count, len(waited)) == (1, 9)


async def test_of_many_for_a_new_target_the_first_checks_it_and_the_others_wait(
    ports: Ports, reads: Reads, waited: list[str]
) -> None:
    new = request(f"{API}/counts?start_date=2020-01-02")
    for sent, status in ((new, b"200"), (request(f"{API}/counts?window=1y"), b"422"), (OTHER, b"200")):
        async with waiting(ports, [sent] * 20) as connections:
            reads.go_on()
            received = [await connection.rest() for connection in connections]
        assert {answer[9:12] for answer in received} == {status}
        assert {answer.count(b"HTTP/1.1 ") for answer in received} == {1}
        reads.hold()
    assert len(waited) == 18  # the second starts the read that others share


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Unavailable("nothing is known"), b"503"),
        (ZeroDivisionError(), b"500"),
        # Those are about the first alone.
        (TooManyRequests("too often", retry_after=9), b"200"),
        (StillComputing("it takes long"), b"200"),
    ],
)
async def test_a_read_that_fails_is_answered_as_on_uvicorn_s_way(
    ports: Ports, reads: Reads, error: Exception, status: bytes
) -> None:
    requests = [WAIT] * 8
    ours = await answers(ports, reads, requests, error=error)
    assert ours == await answers(ports, reads, requests, hits=False, error=error)
    assert {answer[9:12] for answer in ours[1:]} == {status}


async def test_one_without_an_accepted_key_is_refused_at_once(
    open_ports: OpenPorts, monkeypatch: pytest.MonkeyPatch, waited: list[str]
) -> None:
    ports = await open_ports(api_keys="first,second")
    reads = Reads(ports, monkeypatch)
    sent = [request(KNOWN[0], f"X-API-Key: {key}") for key in ("first", "second", "third", "", "first")]
    for requests in (sent, sent[2:] + sent[:2]):
        async with waiting(ports, requests) as connections:
            late = await ports.connect()
            assert (await late.send(sent[2]))[9:12] == b"401"
            early = [connection for connection in connections if connection.receive()]
            assert [connection.answers[9:12] for connection in early] == [b"401"] * 2
            reads.go_on()
            statuses = {(await each.rest())[9:12] for each in connections if each not in early}
        assert statuses == {b"200"}
        reads.hold()
    assert len(waited) == 4


def close(connection: Connection) -> None:
    connection.client.close()


def abort(connection: Connection) -> None:
    connection.protocol.transport.abort()


def pause_writing(connection: Connection) -> None:
    connection.protocol.pause_writing()
    asyncio.get_running_loop().call_later(0.05, connection.protocol.resume_writing)


@pytest.mark.parametrize("trouble", [close, abort, pause_writing])
async def test_a_client_that_leaves_or_does_not_read_keeps_no_other_from_its_answer(
    ports: Ports, reads: Reads, caplog: pytest.LogCaptureFixture, trouble: Callable[[Connection], None]
) -> None:
    troubles: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: troubles.append(context))
    async with waiting(ports, [WAIT] * 6) as connections:
        trouble(connections[2])
        await turns(3)
        reads.go_on()
        for connection in connections[:2] + connections[3:]:
            assert b"200 OK" in await connection.rest()
        if trouble is pause_writing:
            assert b"200 OK" in await connections[2].rest()
    await turns()
    assert troubles == []
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
    gone = trouble is not pause_writing
    assert (connections[2].protocol in ports.state.connections) is not gone


async def test_one_that_waits_while_the_server_drains_is_answered_before_it_closes(
    ports: Ports, reads: Reads
) -> None:
    async with waiting(ports, [WAIT] * 4) as connections:
        ports.state.default_headers = [*ports.state.default_headers, (b"connection", b"close")]
        connections[2].protocol.shutdown()
        reads.go_on()
        received = [await connection.rest() for connection in connections]
    assert all(answer.startswith(b"HTTP/1.1 200 OK") for answer in received)
    assert b"\r\nconnection: close\r\n" in received[2]
    assert connections[2].is_closed


async def test_those_that_wait_are_counted_and_logged_each_with_its_id(
    open_ports: OpenPorts,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    waited: list[str],
) -> None:
    ports = await open_ports(access_log=True)
    reads = Reads(ports, monkeypatch)

    def counted() -> float:
        return metrics.counts().counters[metrics.REQUESTS.name].get(("counts", "hit", "rpc", "200"), 0)

    before = counted()
    forwarded = request(KNOWN[0], "X-Forwarded-For: 192.0.2.1")  # uvicorn finds the client
    sent = [*(request(KNOWN[0], f"X-Request-ID: id-{number}") for number in range(5)), forwarded]
    with caplog.at_level(logging.INFO):
        async with waiting(ports, sent) as connections:
            await asyncio.sleep(0.02)
            reads.go_on()
            received = [await connection.rest() for connection in connections]
    assert counted() - before == 6
    assert [f"id-{number}".encode() in answer for number, answer in enumerate(received)] == [True] * 5 + [
        False
    ]
    records = [vars(record) for record in caplog.records if record.name.endswith("access_log")]
    assert [(each["target"], each["cache"], each["status"]) for each in records] == [
        (KNOWN[0], "hit", 200)
    ] * 6
    assert all(each["duration_ms"] >= 15 for each in records)
    assert len(waited) == 4


async def test_a_large_answer_and_one_to_be_compressed_first_are_not_read_again(
    ports: Ports, reads: Reads, waited: list[str]
) -> None:
    put(ports, "counts", b'"' + b"c" * 600_000 + b'"')
    received = await answers(ports, reads, [WAIT] * 3 + [request(KNOWN[0], "Accept-Encoding: gzip")] * 3)
    assert [len(answer) > 600_000 for answer in received] == [True] * 3 + [False] * 3
    assert (reads.count, waited) == (1, [])


async def test_the_count_of_one_computation_is_that_of_the_first_client(
    open_ports: OpenPorts, gateway: asyncpg.Connection, waited: list[str]
) -> None:
    ports = await open_ports(rate_limit_misses="5/hour")
    ours = []
    for day in range(1, 8):
        async with waiting(ports, [request(f"{API}/summary?start_date=2020-01-0{day}")] * 10) as connections:
            ours += [(await connection.rest())[9:12] for connection in connections]
    assert set(ours[:10]) == {b"200"}
    assert set(ours[-10:]) == {b"429"}
    assert len(waited) == 5 * 8
