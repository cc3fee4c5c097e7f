"""Connections on which the protocol answers hits: slow and vanished clients, idle ones, keys, counts."""

import asyncio
import io
import logging
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from chat_stats.service.catalogue.aggregations import Query
from chat_stats.service.http import hits, protocol
from chat_stats.service.http.fast_path import PART_BYTES
from chat_stats.service.http.protocol import BoundedHttpProtocol
from chat_stats.service.observability import metrics
from tests.integration.conftest import OpenPorts
from tests.integration.wire import API, KNOWN, Connection, Ports, request

HIT = request(KNOWN[0])


async def seconds_until_closed(connection: Connection, patience: float) -> float | None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    while loop.time() < began + patience:
        connection.receive()
        if connection.is_closed:
            return loop.time() - began
        await asyncio.sleep(0.01)
    return None


def put(ports: Ports, name: str, body: bytes, *, older: timedelta = timedelta(0)) -> None:
    """Give an aggregation's local copy another body, and have it be older."""
    local = ports.app.state.services.stats._local
    key = Query(name).key()
    entry = local._copies[key].entry
    local._copies[key].entry = replace(entry, body=body, computed_at=entry.computed_at - older)


async def test_what_waits_for_a_client_that_does_not_read_is_bounded_and_comes_in_order(
    ports: Ports, answered: list[bytes]
) -> None:
    put(ports, "counts", b'"' + b"c" * 30_000 + b'"')
    put(ports, "summary", b'"' + b"s" * 30_000 + b'"')
    connection = await ports.connect()
    sent, most = 0, 0
    for number in range(2000):
        try:
            connection.client.send(request(KNOWN[0] if number % 3 else KNOWN[2]))
        except BlockingIOError:
            break  # the server has stopped reading
        sent += 1
        for _ in range(5):
            await asyncio.sleep(0)
        most = max(most, connection.protocol.transport.get_write_buffer_size())
    assert 10 < sent < 2000
    assert len(answered) > 5
    assert most < 64 * 1024 + 2 * 31_000  # the mark at which writing pauses, what went over it, and one more
    received = await connection.rest()
    letters = [part[9:10] for part in received.split(b'"data":')[1:]]
    assert received.count(b"HTTP/1.1 200 OK") == len(letters) == sent
    assert letters == [b"c" if number % 3 else b"s" for number in range(sent)]
    assert await connection.send(HIT)


async def test_a_client_that_vanishes_leaves_nothing_behind(
    ports: Ports, answered: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    put(ports, "counts", b'"' + b"c" * 200_000 + b'"')
    troubles: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: troubles.append(context))
    for sent in (HIT, HIT[:20], HIT + HIT, HIT + HIT[:20], request(f"{API}/models/1") + HIT):
        for turns in range(4):
            connection = await ports.connect()
            connection.client.send(sent)
            for _ in range(turns):
                await asyncio.sleep(0)
            connection.client.close()
    assert len(answered) > 2
    for _ in range(20):
        await asyncio.sleep(0.01)
    assert troubles == []
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
    assert ports.state.connections == set()


async def test_while_it_drains_an_answer_says_that_the_connection_closes(
    ports: Ports, answered: list[bytes]
) -> None:
    opened = [await ports.connect(hits=hits_too) for hits_too in (True, False)]
    for connection in opened:
        assert b"connection: close" not in await connection.send(HIT)
    ports.state.default_headers = [*ports.state.default_headers, (b"connection", b"close")]
    ours, uvicorns = [await connection.send(HIT) for connection in opened]
    assert ours == uvicorns
    assert b"\r\nconnection: close\r\n" in ours
    assert all(connection.is_closed for connection in opened)
    assert len(answered) == 1


async def test_a_connection_is_closed_when_it_lies_idle_and_not_before(ports: Ports) -> None:
    busy, idle, never = [await ports.connect() for _ in range(3)]
    for connection in (busy, idle):
        connection.protocol.timeout_keep_alive = 0.6  # type: ignore[assignment]
        await connection.send(HIT)
    closing = asyncio.create_task(seconds_until_closed(idle, 5))
    for _ in range(12):
        assert b"200 OK" in await busy.send(HIT)
        await asyncio.sleep(0.1)
    seconds = await closing
    assert seconds is not None
    assert 0.4 < seconds < 1.2
    assert not busy.is_closed
    assert not never.is_closed  # it has the time for its first head
    assert await seconds_until_closed(busy, 5) is not None


async def test_a_connection_whose_answer_takes_longer_is_not_idle(
    ports: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    stats = ports.app.state.services.stats
    read = stats.read

    async def slow(*arguments: Any, **named: Any) -> Any:
        await asyncio.sleep(1)
        return await read(*arguments, **named)

    monkeypatch.setattr(stats, "read", slow)
    connection = await ports.connect()
    connection.protocol.timeout_keep_alive = 0.3  # type: ignore[assignment]
    assert b"200 OK" in await connection.send(HIT)
    monkeypatch.setattr(stats._local, "_recent_seconds", 0)
    assert b"200 OK" in await connection.send(HIT)


async def test_a_head_that_is_not_finished_after_a_hit_is_cut_off(
    ports: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.5)
    first, quiet, half = [await ports.connect() for _ in range(3)]
    await first.send(HIT)  # remembered from now on
    for connection in (quiet, half):
        assert b"200 OK" in await connection.send(HIT)
    await half.send(HIT[:20])
    assert await seconds_until_closed(half, 3) is not None
    assert not quiet.is_closed
    assert b"200 OK" in await quiet.send(HIT)


async def test_a_hit_is_counted_and_logged_with_its_id(
    open_ports: OpenPorts, answered: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    ports = await open_ports(access_log=True)
    connection, uvicorns = await ports.connect(), await ports.connect(hits=False)

    def counted() -> dict[metrics.Labels, float]:
        return {
            labels: value
            for labels, value in metrics.counts().counters[metrics.REQUESTS.name].items()
            if labels[0] == "counts"
        }

    lines: list[dict[str, Any]] = []
    for asked in (connection, connection, uvicorns):
        before = counted()
        caplog.clear()
        with caplog.at_level(logging.INFO):
            answer = await asked.send(request(f"{KNOWN[0]}", 'If-None-Match: "other"'))
        changed = {labels: value - before.get(labels, 0) for labels, value in counted().items()}
        assert {labels for labels, more in changed.items() if more} == {("counts", "hit", "rpc", "200")}
        (record,) = [record for record in caplog.records if record.name.endswith("access_log")]
        lines.append({**vars(record), "answer": answer})
    assert len(answered) == 2
    same = ("client", "http_method", "target", "status", "cache", "method")
    assert len({tuple(line[name] for name in same) for line in lines}) == 1
    assert [line["target"] for line in lines] == [KNOWN[0]] * 3


async def test_the_log_line_of_a_hit_has_the_id_of_its_answer(
    open_ports: OpenPorts, answered: list[bytes]
) -> None:
    from chat_stats.service.observability.logs import configure_logging

    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    ports = await open_ports(access_log=True, log_format="json")
    root.handlers[:] = []
    configure_logging(ports.app.state.services.settings)
    written = io.StringIO()
    root.handlers[0].setStream(written)  # type: ignore[attr-defined]
    try:
        connection = await ports.connect()
        answers = [await connection.send(HIT) for _ in range(2)]
        answers.append(await connection.send(request(KNOWN[0], "X-Request-ID: mine")))
    finally:
        root.handlers[:], root.level = before
    ids = [answer.partition(b"x-request-id: ")[2].partition(b"\r\n")[0].decode() for answer in answers]
    assert len(answered) == len(set(ids)) == 3
    assert ids[2] == "mine"
    for line, identity in zip(written.getvalue().splitlines(), ids, strict=True):
        assert f'"request_id":"{identity}"' in line.replace(": ", ":")


async def test_with_an_access_log_a_proxy_s_client_is_found_by_uvicorn(
    open_ports: OpenPorts, answered: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    ports = await open_ports(access_log=True)
    connection = await ports.connect()
    connection.protocol.client = ("127.0.0.1", 1)
    caplog.clear()
    with caplog.at_level(logging.INFO):
        await connection.send(request(KNOWN[0], "X-Forwarded-For: 192.0.2.1"))
    (record,) = [record for record in caplog.records if record.name.endswith("access_log")]
    assert vars(record)["client"] == "192.0.2.1"
    assert answered == []


async def test_a_request_with_another_key_is_not_the_one_that_was_answered(
    open_ports: OpenPorts, answered: list[bytes]
) -> None:
    ports = await open_ports(api_keys="first,second")
    connection = await ports.connect()
    for _ in range(2):
        for key, status in (("first", 200), ("firsT", 401), ("second", 200), ("", 401), ("first", 200)):
            answer = await connection.send(request(KNOWN[0], f"X-API-Key: {key}"))
            assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert (await connection.send(HIT)).startswith(b"HTTP/1.1 401 ")
    assert len(answered) == 6


async def test_the_requests_that_are_remembered_are_bounded(
    ports: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hits, "REMEMBERED", 5)
    monkeypatch.setattr(hits, "REMEMBERED_BYTES", 1000)
    connection = await ports.connect()
    remembered = ports.app.hits._remembered  # type: ignore[attr-defined]
    for number in range(9):
        await connection.send(request(KNOWN[0], f"X-Number: {number}"))
    assert list(remembered) == [request(KNOWN[0], f"X-Number: {number}") for number in range(4, 9)]
    await connection.send(request(KNOWN[0], "X-Long: " + "x" * 700))
    assert sum(len(data) for data in remembered) == ports.app.hits._remembered_bytes <= 1000  # type: ignore[attr-defined]
    assert 1 < len(remembered) < 5
    for headers in (("X-Request-ID: mine",), ("X-Long: " + "x" * hits.LONGEST_REMEMBERED,)):
        await connection.send(request(KNOWN[0], *headers))
        assert request(KNOWN[0], *headers) not in remembered


async def test_a_request_is_forgotten_with_its_target(
    ports: Ports, answered: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chat_stats.service.http.fast_path.CAPACITY", 4)
    connection = await ports.connect()
    await connection.send(HIT)
    await connection.send(HIT)
    assert len(answered) == 2
    for number in range(4):  # others take the target's place
        await connection.send(request(f"{API}/providers?limit={number + 1}"))
    await connection.send(HIT)  # by the route, which learns it again
    assert len(answered) == 2
    assert HIT not in ports.app.hits._remembered  # type: ignore[attr-defined]
    await connection.send(HIT)
    assert len(answered) == 3
    await ports.app.state.services.fast_path.close()
    assert b"200 OK" in await connection.send(HIT)
    assert len(answered) == 3


async def test_a_newer_answer_is_served_at_once(ports: Ports, answered: list[bytes]) -> None:
    connection = await ports.connect()
    await connection.send(HIT)
    put(ports, "counts", b'"newer"')
    assert b'"data":"newer"' in await connection.send(HIT)
    assert len(answered) == 2


async def test_a_stale_answer_is_served_from_the_memory_and_recomputed(
    ports: Ports, answered: list[bytes]
) -> None:
    opened = [await ports.connect(hits=hits_too) for hits_too in (True, False)]
    stats = ports.app.state.services.stats
    put(ports, "counts", b'"old"', older=timedelta(hours=3))
    ours, uvicorns = [await connection.send(HIT) for connection in opened]
    assert ours == uvicorns
    assert b'"cache":"stale"' in ours
    assert len(answered) == 1
    computation = stats._computations._flights.under_way(Query("counts").key())
    if computation is not None:  # else it is done already
        await asyncio.wait({computation}, timeout=30)
    for connection in opened:
        assert b'"cache":"hit"' in await connection.send(HIT)


async def test_a_large_body_is_sent_in_parts_and_small_ones_between_them(
    ports: Ports, answered: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(ports, "summary", b'"' + b"s" * 1_500_000 + b'"')
    large, small = await ports.connect(), await ports.connect()
    large.client.send(request(KNOWN[2]))
    for _ in range(3):  # to the route, to its first part
        await asyncio.sleep(0)
    large.receive()
    before = len(large.answers)
    assert 0 < before < 4 * PART_BYTES
    assert b"200 OK" in await small.send(HIT)
    received = await large.rest()
    assert len(received) > 1_500_000
    assert received.count(b"s") > 1_500_000
    assert len(answered) == 1  # the small one


async def test_requests_that_are_counted_take_the_ordinary_way(
    open_ports: OpenPorts, answered: list[bytes]
) -> None:
    ports = await open_ports(rate_limit_requests="20/minute")
    connection = await ports.connect()
    statuses = [(await connection.send(HIT))[9:12] for _ in range(30)]
    assert statuses[0] == b"200"
    assert statuses[-1] == b"429"
    assert answered == []


async def test_where_another_layer_has_its_part_in_each_answer_the_protocol_answers_none(
    open_ports: OpenPorts, answered: list[bytes]
) -> None:
    with_origins = await open_ports(cors_origins="https://dashboard.example")
    connection = await with_origins.connect()
    for _ in range(2):
        assert b"vary: Accept-Encoding, Origin" in await connection.send(HIT)
    ports = await open_ports()

    async def around(scope: Scope, receive: Receive, send: Send) -> None:
        await ports.app(scope, receive, send)

    for options in (
        {"app": around},
        {"app": ports.app, "limit_concurrency": 100},
        {"app": ports.app, "access_log": True},
    ):
        config = uvicorn.Config(**{"access_log": False, **options}, lifespan="off", log_config=None)  # type: ignore[arg-type]
        config.load()
        assert BoundedHttpProtocol(config, ServerState(), {})._hits is None
    assert answered == []
