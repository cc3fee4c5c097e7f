"""Any input gets a right answer, or a problem that names what is wrong with it; never a 500."""

from itertools import product
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import orjson

from chat_stats.service.catalogue.timerange import parse_time_range
from chat_stats.service.explorer.query import NEWEST_FIRST, _checksum, _text_of, parse_filters
from tests.conftest import SettingsFactory
from tests.integration.conftest import OpenClient

# Valid input does not depend on the version of Postgres.

#: Text that no answer may contain.
SECRETS = ("SELECT", "postgres", "asyncpg", "Traceback", "redis://")

#: Query strings as sent, byte for byte, and the parameter that the answer must name.
REFUSED = {
    "/chat-requests": [
        ("limit=-1", "limit"),
        ("limit=0", "limit"),
        ("limit=1e3", "limit"),
        ("limit=0x10", "limit"),
        ("limit=1_0", "limit"),
        ("limit=+1", "limit"),
        ("limit=%D9%A1", "limit"),  # an Arabic 1
        ("limit=", "limit"),
        ("limit=99999999999999999999999999", "limit"),
        ("limit=1&limit=2", "limit"),
        ("offset=4611686018427387905", "offset"),
        ("model_name=%00", "model_name"),
        (f"model_name={'a' * 501}", "model_name"),
        ("status=%00", "status"),
        ("cursor=", "cursor"),
        ("cursor=%00", "cursor"),
        (f"cursor={'A' * 5000}", "cursor"),
        ("cursor=%D9%A1", "cursor"),
        ("fields=", "fields"),
        ("fields=id,", "fields"),
        ("fields=*", "fields"),
        ("fields=id;status", "fields"),
        ("fields=%00", "fields"),
        ("format=csv&fields=models", "fields"),
        ("format=xml", "format"),
        ("format=JSON", "format"),
        ("model_id=%D9%A1", "model_id"),
        ("model_id=1.0", "model_id"),
        ("model_id=Unresolved", "model_id"),
        ("model_id=9223372036854775808", "model_id"),
        ("model_id=1&model_id=unresolved", "model_id"),
        ("window=1H", "window"),
        ("window=1h;start_date=2026-01-01", "window"),
        ("window=1h&window=24h", "window"),
        ("start_date=0000-01-01", "start_date"),
        ("start_date=12026-01-01", "start_date"),
        ("start_date=-2026-01-01", "start_date"),
        ("start_date=0001-01-01T00:00:00%2B14:00", "start_date"),
        ("end_date=9999-12-31T23:59:59.999999-14:00", "end_date"),
        ("start_date=infinity", "start_date"),
        ("start_date=now", "start_date"),
        ("start_date=1767225600", "start_date"),
        ("start_date=2016-12-31T23:59:60Z", "start_date"),
        ("start_date=2026-W01-1", "start_date"),
        ("start_date=2026-001", "start_date"),
        ("start_date=%D9%A2%D9%A0%D9%A2%D9%A6-01-01", "start_date"),
        ("start_date=2026-01-01%00", "start_date"),
        ("start_date=2026-01-01T00:00:00%2B25:00", "start_date"),
        ("start_date=2026-01-02&end_date=2026-01-01", "start_date"),
        ("unknown=1&unknown=2", "unknown"),
        ("=", ""),
        ("%00", "\0"),
        ("LIMIT=1", "LIMIT"),
        (f"{'a' * 5000}=1", "a" * 40),
    ],
    "/chat-requests/plot-data": [
        ("points=9", "points"),
        ("points=5001", "points"),
        ("points=1e2", "points"),
        ("points=10&points=20", "points"),
    ],
    "/chat-requests/timeseries": [
        ("timezone=../../etc/passwd", "timezone"),
        ("timezone=%2Fetc%2Fpasswd", "timezone"),
        ("timezone=UTC%00", "timezone"),
        ("timezone=", "timezone"),
        ("timezone=posix/UTC", "timezone"),
        ("timezone=localtime", "timezone"),
        ("timezone=%2B02:00", "timezone"),
        (f"timezone={'A' * 5000}", "timezone"),
        ("timezone=UTC&timezone=Asia/Kathmandu", "timezone"),
        ("bucket=1mo&start_date=0001-01-01", "start_date"),
        ("bucket=1mo&end_date=9999-12-31", "end_date"),
        ("bucket=15m&window=365d", "bucket"),
        ("group_by=user", "group_by"),
    ],
    "/chat-requests/counts": [("window=24h&window=24h", "window"), ("end_date=", "end_date")],
}
CASES = [(path, query, parameter) for path, cases in REFUSED.items() for query, parameter in cases]


async def test_a_hostile_parameter_is_named(client: httpx.AsyncClient, gateway: asyncpg.Connection) -> None:
    wrong = []
    for path, query, parameter in CASES:
        response = await client.get(f"{path}?{query}")
        problem = response.json()
        if (
            (response.status_code, problem.get("parameter")) != (422, parameter)
            or response.headers["content-type"] != "application/problem+json"
            or any(secret in response.text for secret in SECRETS)
            or len(response.content) > 1000
        ):
            wrong.append((query[:60], response.status_code, response.text[:200]))
    assert wrong == []


ANSWERED = [
    ("start_date=0001-01-01", 6),
    ("end_date=9999-12-31", 6),
    ("end_date=9999-12-31T23:59:59.999999Z", 6),
    ("start_date=0001-01-01&end_date=0001-01-01", 0),
    ("status=%ff", 0),
    ("status=", 0),
    ("status='; DROP TABLE models; --", 0),
    ("model_id=unresolved", 0),
    ("model_name=%25", 0),
    ("model_name=_", 0),
    ("model_name=%5C", 0),
    ("model_name=%ff%fe", 0),
    ("model_name=%ED%A0%80", 0),  # half of a surrogate pair
    ("model_id=9223372036854775807", 0),
    ("offset=4611686018427387904", 6),
    ("fields=" + "id," * 2000 + "id", 6),
    ("&&&&", 6),
    ("_=1&_=2", 6),
]


async def test_an_odd_parameter_gets_the_right_answer(
    client: httpx.AsyncClient, gateway: asyncpg.Connection
) -> None:
    counts = []
    for query, _ in ANSWERED:
        answer = (await client.get(f"/chat-requests?{query}")).json()
        counts.append((query, answer["metadata"]["total_count"] if "metadata" in answer else answer))
    assert counts == ANSWERED


NOW = "2026-01-01T00:00:00+00:00"
FORGED: list[Any] = [
    {},
    [],
    [1, 2, 3],
    ["garbage", 1, False, NOW],
    ["2026-13-01", 1, False, NOW],
    ["'; DROP TABLE models; --", 1, False, NOW],
    ["2026-01-01\0", 1, False, NOW],
    ["294277-12-31", 1, False, NOW],
    [5, 1, False, NOW],
    [["2026-01-01"], 1, False, NOW],
    ["2026-01-01", 2**63, False, NOW],
    ["2026-01-01", 1.5, False, NOW],
    ["2026-01-01", True, False, NOW],
    ["2026-01-01", {"id": 1}, False, NOW],
    ["2026-01-01", str(uuid4()), True, NOW],
    ["2026-01-01", 1, False, "0001-01-01T00:00:00+00:00"],
    ["2026-01-01", 1, False, "9999-12-31T00:00:00+00:00"],
    ["2026-01-01", 1, False, "2026-01-01T00:00:00"],
    ["2026-01-01", 1, False, 5],
]


async def test_a_forged_cursor_is_refused(client: httpx.AsyncClient, gateway: asyncpg.Connection) -> None:
    filters = parse_filters(parse_time_range("24h", None, None))
    accepted = []
    for content, format_ in product(FORGED, ("json", "csv")):
        payload = orjson.dumps(content)
        cursor = _text_of(_checksum(payload, filters, NEWEST_FIRST) + payload)
        response = await client.get(
            "/chat-requests", params={"cursor": cursor, "window": "24h", "format": format_}
        )
        if response.status_code != 422 or response.json()["parameter"] != "cursor":
            accepted.append((content, format_, response.status_code, response.text[:200]))
    assert accepted == []


PATHS = [
    ("/api/monitoring/chat-requests/models/%2e%2e", 422),
    ("/api/monitoring/chat-requests/models/1%00", 422),
    ("/api/monitoring/chat-requests/models/1;a=b", 422),
    ("/api/monitoring/chat-requests/models/%D9%A1", 422),
    ("/api/monitoring/chat-requests/models/1%2F2", 404),
    ("/api/monitoring/chat-requests/..;/health", 404),
    ("//api/monitoring/chat-requests", 404),
    ("/static/..%2f..%2fetc/passwd", 404),
    ("/static/%00", 404),
    ("/%00", 404),
]


async def test_tricks_with_paths_lead_nowhere(client: httpx.AsyncClient) -> None:
    found = []
    for path, _ in PATHS:
        response = await client.get(f"http://test{path}")
        assert response.headers["content-type"] == "application/problem+json"
        found.append((path, response.status_code))
    assert found == PATHS


KEYS: list[tuple[list[tuple[bytes, bytes]], int]] = [
    ([(b"x-api-key", b" first \t")], 200),  # white space around a value is not part of it
    ([(b"x-api-key", b"wrong"), (b"x-api-key", b"first")], 200),
    ([(b"authorization", b"bearer first")], 200),
    ([(b"x-api-key", b"")], 401),
    ([(b"x-api-key", b"FIRST")], 401),
    ([(b"x-api-key", b"first, second")], 401),
    ([(b"x-api-key", b"\xff\xfe")], 401),
    ([(b"x-api-key", b"first\0")], 401),
    ([(b"authorization", b"Bearer")], 401),
    ([(b"authorization", b"first")], 401),
    ([(b"authorization", b"Bearer " + b"a" * 8000)], 401),
    ([(b"cookie", b"x-api-key=first")], 401),
]


async def test_keys_in_odd_forms(client_of: OpenClient, settings_with: SettingsFactory) -> None:
    client = await client_of(settings_with(api_keys="first,second"))
    found = []
    for headers, _ in KEYS:
        found.append((headers, (await client.get("/chat-requests/counts", headers=headers)).status_code))
    assert found == KEYS


async def test_several_accept_headers_are_one_list(
    client: httpx.AsyncClient, gateway: asyncpg.Connection
) -> None:
    headers = [("accept", "image/png"), ("accept", "application/json")]
    assert (await client.get("/chat-requests", headers=headers)).status_code == 200


async def test_an_invalid_boolean_is_answered_with_its_two_values(
    client_of: OpenClient, settings_with: SettingsFactory
) -> None:
    client = await client_of(settings_with(admin_token="let-me-in"))
    response = await client.post("/refresh?wait=maybe", headers={"authorization": "Bearer let-me-in"})
    assert (response.status_code, response.json()["parameter"]) == (422, "wait")
    assert response.json()["detail"] == "wait must be true or false"


async def test_head_has_the_headers_of_get(client: httpx.AsyncClient, gateway: asyncpg.Connection) -> None:
    for path in ("?limit=2", "?format=csv", "?limit=100000", "/plot-data", "http://test/metrics"):
        url = path if path.startswith("http") else f"/chat-requests{path}"
        got, head = await client.get(url), await client.head(url)
        assert (head.status_code, head.content) == (200, b"")
        names = {"content-type", "cache-control", "vary", "etag"} & got.headers.keys()
        assert {name: head.headers[name] for name in names} == {name: got.headers[name] for name in names}
        assert ("content-disposition" in head.headers) == ("csv" in path)
        assert ("content-length" in head.headers) == ("content-length" in got.headers), path


async def test_refusals_are_never_cached(client: httpx.AsyncClient) -> None:
    response = await client.get("/chat-requests/counts?window=1y")
    assert response.headers["cache-control"] == "no-store"
