"""Hits answered by the protocol: the bytes that uvicorn's way gives, whatever comes and however it comes."""

import asyncio
import random
from itertools import pairwise

import pytest

from tests.integration.wire import API, KNOWN, Connection, Ports, request

#: Random heads of each run; the slow test has 100,000.
HEADS = 2000


class Pair:
    """Two connections: on one the protocol answers hits, on the other all requests take uvicorn's way."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._connections: list[Connection] = []

    async def same(self, *parts: bytes) -> bytes:
        """Send the parts on both; return what both answered."""
        if not self._connections:
            self._connections = [await self._ports.connect(hits=hits) for hits in (True, False)]
        ours, uvicorns = [await connection.send(*parts) for connection in self._connections]
        if b"fwd=miss" in ours:  # only the first of two can be one
            self.reconnect()
            return await self.same(*parts)
        assert ours == uvicorns, parts
        closed = {connection.is_closed for connection in self._connections}
        assert len(closed) == 1, (parts, ours, closed)
        if closed == {True}:
            self.reconnect()
        return ours

    def reconnect(self) -> None:
        for connection in self._connections:
            connection.client.close()
        self._connections = []


async def test_a_hit_is_answered_by_one_write_and_without_a_task(
    ports: Ports, answered: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = await ports.connect()
    for headers in ((), ("Accept-Encoding: gzip",)):
        for _ in range(2):
            before = len(asyncio.all_tasks())
            connection.client.send(request(KNOWN[0], *headers))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert len(asyncio.all_tasks()) == before
            assert (await connection.rest()).startswith(b"HTTP/1.1 200 OK\r\ndate: ")
    assert len(answered) == 4


async def test_a_request_is_answered_alike_however_its_bytes_are_split(
    ports: Ports, answered: list[bytes]
) -> None:
    pair = Pair(ports)
    whole = request(KNOWN[0], "Accept-Encoding: gzip", 'If-None-Match: "other"')
    expected = await pair.same(whole)
    for at in range(1, len(whole)):
        assert await pair.same(whole[:at], whole[at:]) == expected
        assert await pair.same(whole) == expected
        assert await pair.same(whole + whole[:at], whole[at:]) == expected * 2
    assert await pair.same(*(whole[at : at + 1] for at in range(len(whole)))) == expected
    assert len(answered) == len(whole)  # those in one piece


async def test_pipelined_requests_are_answered_in_their_order_however_they_are_split(
    ports: Ports, answered: list[bytes]
) -> None:
    draw = random.Random(5)  # noqa: S311
    choices = [
        *(request(KNOWN[0]), request(KNOWN[1], "Accept-Encoding: gzip"), request(KNOWN[2], method="HEAD")),
        request(f"{API}/counts?window=1y"),  # a 422, by the route
        request(f"{API}/models/1"),
        request("/health"),
        request(KNOWN[0], "Content-Length: 5") + b"hello",
        request("/health", "Content-Length: 5", method="POST") + b"hello",
        request(KNOWN[0], "Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n",
        b"\r\n" + request(KNOWN[0]),
    ]
    pair = Pair(ports)
    for _ in range(300):
        chosen = draw.choices(choices, k=draw.randint(1, 5))
        data = b"".join(chosen)
        cuts = sorted(draw.sample(range(1, len(data)), k=draw.randint(0, 3)))
        # Half of them also between two requests.
        cuts += [len(b"".join(chosen[:number])) for number in range(len(chosen)) if draw.random() < 0.5]
        pieces = (data[a:b] for a, b in pairwise([0, *sorted(cuts), len(data)]))
        answer = await pair.same(*filter(None, pieces))
        assert answer.count(b"HTTP/1.1 ") == len(chosen), data
    assert len(answered) > 50


SMUGGLED = b"GET /health HTTP/1.1\r\nHost: test\r\n\r\n"
LINE = f"GET {KNOWN[0]} HTTP/1.1\r\n".encode()
ODD = [
    pytest.param(request(KNOWN[0], "Content-Length: 5", "Transfer-Encoding: chunked"), id="CL and TE"),
    pytest.param(request(KNOWN[0], "Transfer-Encoding: chunked", "Content-Length: 5"), id="TE and CL"),
    pytest.param(request(KNOWN[0], "Content-Length: 5", "Content-Length: 5"), id="two lengths"),
    pytest.param(request(KNOWN[0], "Content-Length: 5", "Content-Length: 6"), id="two other lengths"),
    pytest.param(request(KNOWN[0], "Content-Length: 0"), id="length 0"),
    pytest.param(request(KNOWN[0], f"Content-Length: {len(SMUGGLED)}"), id="a request as body"),
    pytest.param(request(KNOWN[0], "Content-Length: -1"), id="negative length"),
    pytest.param(request(KNOWN[0], "Content-Length: 0x5"), id="hexadecimal length"),
    pytest.param(request(KNOWN[0], "Content-Length: 5, 5"), id="list of lengths"),
    pytest.param(request(KNOWN[0], "Content-Length : 5"), id="blank before the colon"),
    pytest.param(request(KNOWN[0], "Transfer-Encoding : chunked"), id="blank before TE's colon"),
    pytest.param(request(KNOWN[0], "Transfer-Encoding: xchunked"), id="TE of another name"),
    pytest.param(request(KNOWN[0], "Transfer-Encoding: chunked, identity"), id="TE that ends otherwise"),
    pytest.param(request(KNOWN[0], "Transfer-Encoding:\tchunked"), id="TE after a tab"),
    pytest.param(request(KNOWN[0], "X: a", " Content-Length: 5"), id="folded line"),
    pytest.param(request(KNOWN[0], "X: a", "\tTransfer-Encoding: chunked"), id="folded line with tab"),
    pytest.param(request(KNOWN[0], " X: a"), id="blank before a name"),
    pytest.param(request(KNOWN[0], "X: a\nContent-Length: 5"), id="bare LF in the head"),
    pytest.param(request(KNOWN[0], "X: a\rContent-Length: 5"), id="bare CR in the head"),
    pytest.param(request(KNOWN[0], "X: a\0b"), id="NUL in a value"),
    pytest.param(request(KNOWN[0], "X\0: a"), id="NUL in a name"),
    pytest.param(LINE + b"X: \x80\xff\r\n\r\n", id="bytes above ASCII"),
    pytest.param(request(KNOWN[0]).replace(b"\r\n", b"\n"), id="LF alone ends lines"),
    pytest.param(LINE + b"\r\n", id="no Host"),
    pytest.param(request(KNOWN[0], "Host: other"), id="two Hosts"),
    pytest.param(request(f"http://test{KNOWN[0]}"), id="absolute form"),
    pytest.param(request(f"http://other{KNOWN[0]}"), id="absolute form of another host"),
    pytest.param(request(f"//other{KNOWN[0]}"), id="two slashes"),
    pytest.param(request(KNOWN[0] + "?"), id="empty query"),
    pytest.param(request(KNOWN[0] + "#part"), id="fragment"),
    pytest.param(request(KNOWN[0].replace("counts", "%63ounts")), id="escaped path"),
    pytest.param(request("*"), id="asterisk form"),
    pytest.param(LINE.replace(b"counts", b"co\xc3\xbcnts") + b"\r\n", id="path above ASCII"),
    pytest.param(LINE.replace(b"GET ", b"GET  ") + b"\r\n", id="two blanks"),
    pytest.param(LINE.replace(b"GET ", b"get ") + b"\r\n", id="small letters"),
    pytest.param(LINE.replace(b" HTTP/1.1", b"") + b"\r\n", id="HTTP/0.9"),
    pytest.param(LINE.replace(b"1.1", b"1.0") + b"\r\n", id="HTTP/1.0"),
    pytest.param(LINE.replace(b"1.1", b"1.0") + b"Connection: keep-alive\r\n\r\n", id="HTTP/1.0 that stays"),
    pytest.param(LINE.replace(b"1.1", b"2.0") + b"\r\n", id="HTTP/2.0"),
    pytest.param(LINE.replace(b"1.1", b"1.2") + b"\r\n", id="HTTP/1.2"),
    pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="preface of HTTP/2"),
    pytest.param(request(KNOWN[0], "Connection: close"), id="close"),
    pytest.param(request(KNOWN[0], "Connection: keep-alive"), id="keep-alive"),
    pytest.param(request(KNOWN[0], "Connection: close, keep-alive"), id="close and keep-alive"),
    pytest.param(request(KNOWN[0], "Connection: Upgrade", "Upgrade: h2c", "HTTP2-Settings: A"), id="h2c"),
    pytest.param(request(KNOWN[0], "Connection: Upgrade", "Upgrade: websocket"), id="websocket"),
    pytest.param(request(KNOWN[0], "Upgrade: websocket"), id="upgrade without connection"),
    pytest.param(request(KNOWN[0], "Expect: 100-continue"), id="expects"),
    pytest.param(request(KNOWN[0], "Expect: 100-continue", "Content-Length: 5"), id="expects, with a body"),
    pytest.param(request(KNOWN[0], "X: " + "x" * 33_000), id="a long head"),
    pytest.param(request(KNOWN[0] + "?" + "x" * 33_000), id="a long target"),
]


@pytest.mark.parametrize("odd", ODD)
async def test_an_odd_request_is_answered_as_uvicorn_does(
    ports: Ports, answered: list[bytes], odd: bytes
) -> None:
    pair = Pair(ports)
    for behind in (b"", b"hello", SMUGGLED, b"5\r\nhello\r\n0\r\n\r\n" + SMUGGLED):
        await pair.same(request(KNOWN[0]))
        await pair.same(odd + behind)
        pair.reconnect()
        await pair.same(request(KNOWN[0]) + odd, behind or b"\r\n")
        await pair.same(request(KNOWN[0]))
        pair.reconnect()
    assert b"/health" not in answered


METHODS = ["GET"] * 12 + ["HEAD"] * 3 + ["POST", "OPTIONS", "get", "G ET", "GETT", "PRI", ""]
TARGETS = [
    *KNOWN * 8,
    *("/health", f"{API}/counts?", f"{API}/counts?window=1y", f"{API}/models/1", f"{API}//counts", f"/{API}"),
    *(f"http://test{KNOWN[0]}", f"{KNOWN[0]}#x", f"{KNOWN[0]} x", f"{KNOWN[0]}%00", "*", "", "/", "//x"),
]
VERSIONS = ["HTTP/1.1"] * 20 + ["HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "HTTP/1.1 ", "http/1.1", "HTTP/11", ""]
LINE_ENDS = ["\r\n"] * 60 + ["\n", "\r", "\r\r\n", "\n\r", ""]
HEADERS = [
    *("Host: test", "Host: test", "Host:", "Host : test", "Accept: */*", "User-Agent: x/1.0", "Cookie: a=b"),
    *("Accept-Encoding: gzip", "accept-encoding: zstd, gzip", "Accept-Encoding: *;q=0", "ACCEPT-ENCODING:br"),
    *('If-None-Match: "x"', "If-None-Match: *", "If-None-Match:", "Range: bytes=0-1", "Via: 1.1 proxy"),
    *(
        "X-Request-ID: mine",
        "X-Request-ID: not sane",
        "X-Request-ID:",
        "X-API-Key: k",
        "Authorization: Bearer k",
    ),
    *("Connection: close", "Connection: keep-alive", "Connection: upgrade", "Connection: x", "Connection:"),
    *("Upgrade: websocket", "Upgrade: h2c", "Content-Length: 0", "Content-Length: 5", "Content-Length: 05"),
    *("Content-Length: x", "Content-Length:", "Transfer-Encoding: chunked", "Transfer-Encoding: gzip"),
    *("Transfer-Encoding: gzip, chunked", "TE: trailers", "Trailer: X", "Expect: 100-continue", "Expect: x"),
    *(
        " folded",
        "\tfolded",
        "no colon",
        ":",
        ": x",
        "X :y",
        "X: a\tb",
        "X: \x00",
        "X: é",
        "(x): y",
        "X" * 300,
    ),
    *("Origin: http://x", "X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: https", "Forwarded: for=x"),
]
BODIES = [b""] * 12 + [
    b"hello",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"0\r\n\r\n",
    b"\r\n",
    b"\0",
    request(),
    request("/health"),
]


#: The likely ones of each list, and headers of which none keeps the protocol from answering.
TAME = (METHODS[:15], TARGETS[:24], VERSIONS[:1], LINE_ENDS[:60], [*HEADERS[:2], *HEADERS[4:24]], BODIES[:12])


def random_head(draw: random.Random) -> bytes:
    every = (METHODS, TARGETS, VERSIONS, LINE_ENDS, HEADERS, BODIES)
    methods, targets, versions, line_ends, headers, bodies = TAME if draw.random() < 0.4 else every
    line = " ".join((draw.choice(methods), draw.choice(targets), draw.choice(versions)))
    lines = [line, *draw.choices(headers, k=draw.choice((0, 1, 1, 2, 2, 3, 5, 8))), ""]
    head = "".join(text + draw.choice(line_ends) for text in lines).encode("latin-1")
    if head and draw.random() < 0.2:
        at = draw.randrange(len(head))
        new = bytes(draw.choices(range(256), k=draw.choice((0, 1, 2))))
        head = head[:at] + new + head[at + draw.choice((0, 1)) :]
    return head + draw.choice(bodies)


async def compare_random_heads(ports: Ports, count: int, seed: int) -> None:
    draw = random.Random(seed)  # noqa: S311
    pair = Pair(ports)
    for number in range(count):
        head = random_head(draw)
        cuts = sorted(draw.choices(range(len(head) + 1), k=draw.choice((0, 0, 0, 1, 2))))
        await pair.same(*filter(None, (head[a:b] for a, b in pairwise([0, *cuts, len(head)]))))
        if number % 20 == 0:
            pair.reconnect()


async def test_random_heads_are_answered_as_uvicorn_does(ports: Ports, answered: list[bytes]) -> None:
    await compare_random_heads(ports, HEADS, 7)
    assert len(answered) > HEADS / 10


@pytest.mark.slow
@pytest.mark.timeout(1500)
async def test_100_000_random_heads_are_answered_as_uvicorn_does(ports: Ports, answered: list[bytes]) -> None:
    await compare_random_heads(ports, 100_000, 11)
    assert len(answered) > 10_000
