"""Headers of an answer, as clients and caches use them."""

import asyncio
import re
import threading
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import orjson
import pytest
from backports import zstd

from chat_stats.service.cache.compression import Beginning, begin_zstd
from chat_stats.service.cache.entry import Entry
from chat_stats.service.cache.freshness import CacheState
from chat_stats.service.catalogue.timerange import TimeRange
from chat_stats.service.database.clock import Clock
from chat_stats.service.http.envelope import LARGE, SMALLEST_COMPRESSED, Envelope, Form, form_of, is_made
from chat_stats.service.http.negotiation import wishes_of
from chat_stats.service.settings import Settings
from chat_stats.service.stats import Answer

ENTRY = Entry(
    body=b'[{"model_id":1}]',
    totals={"total_models": 1},
    method="rpc",
    computed_at=datetime(2026, 1, 1, tzinfo=UTC),
    compute_ms=1.5,
    generation="g1",
)


def envelope(**overrides: Any) -> Envelope:
    return Envelope(
        Settings(database_url="postgresql://user@localhost/none", _env_file=None, **overrides), Clock()
    )


def headers_of(age_seconds: float, state: CacheState = CacheState.HIT, **overrides: Any) -> dict[str, str]:
    entry = replace(ENTRY, computed_at=datetime.now(UTC) - timedelta(seconds=age_seconds))
    rendered = envelope(**overrides).render(Form.PLAIN, TimeRange(), Answer(entry, state))
    return {name.decode(): value.decode() for name, value in rendered.headers}


OTHER = b'"600355c2533bb61c277c339c"'
ETAG = ENTRY.etag
STRONG = ETAG.removeprefix(b"W/")


@pytest.mark.parametrize(
    ("if_none_match", "matches"),
    [
        ([ETAG], True),
        ([STRONG], True),
        ([b"*"], True),
        ([b" * "], True),
        ([OTHER + b", " + ETAG], True),
        ([OTHER + b"," + STRONG + b",W/" + OTHER], True),
        ([OTHER, ETAG], True),
        ([b'"a, b", ' + ETAG], True),
        ([b""], False),
        ([OTHER], False),
        ([STRONG.strip(b'"')], False),
        ([b'"a, ' + STRONG.strip(b'"') + b', b"'], False),
        ([b'"*"'], False),
        ([b'"x' + STRONG.strip(b'"') + b'"'], False),
        ([ETAG.upper()], False),
    ],
)
def test_each_of_these_tags_matches(if_none_match: list[bytes], matches: bool) -> None:
    headers = [(b"host", b"x"), *((b"if-none-match", value) for value in if_none_match)]
    assert (form_of(wishes_of(headers), ENTRY) is Form.NOT_MODIFIED) is matches


def entry_of(length: int) -> Entry:
    return replace(ENTRY, body=b'"' + b"1" * (length - 2) + b'"')


@pytest.mark.parametrize(
    ("accept_encoding", "tiny", "small", "large"),
    [
        ([], Form.PLAIN, Form.PLAIN, Form.PLAIN),
        ([b"gzip"], Form.PLAIN, Form.GZIP, Form.GZIP),
        ([b"gzip, deflate, br, zstd"], Form.PLAIN, Form.GZIP, Form.ZSTD),
        ([b"zstd"], Form.PLAIN, Form.PLAIN, Form.ZSTD),
        ([b"zstd;q=0.5, gzip"], Form.PLAIN, Form.GZIP, Form.GZIP),
        ([b"br", b"gzip"], Form.PLAIN, Form.GZIP, Form.GZIP),  # several headers are one list
        ([b"*"], Form.PLAIN, Form.GZIP, Form.GZIP),
    ],
)
def test_large_bodies_are_compressed_and_small_ones_are_not(
    accept_encoding: list[bytes], tiny: Form, small: Form, large: Form
) -> None:
    wishes = wishes_of([(b"accept-encoding", value) for value in accept_encoding])
    sizes = (SMALLEST_COMPRESSED - 1, SMALLEST_COMPRESSED, LARGE)
    assert [form_of(wishes, entry_of(size)) for size in sizes] == [tiny, small, large]


async def test_a_large_body_is_compressed_once_for_many_requests_in_a_thread() -> None:
    entry = entry_of(200_000)
    threads = []

    class Counted(Entry):
        @cached_property
        def zstd(self) -> Beginning:
            threads.append(threading.current_thread())
            return begin_zstd(self.OPENING + self.body)

    counted = Counted(**asdict(entry))
    answer = Answer(counted, CacheState.HIT)
    headers = [(b"accept-encoding", b"zstd")]
    one = envelope()
    answers = await asyncio.gather(*(one.respond(headers, TimeRange(), answer) for _ in range(20)))
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()
    assert is_made(Form.ZSTD, counted)
    for rendered in answers:
        headers_sent = dict(rendered.headers)
        assert headers_sent[b"content-encoding"] == b"zstd"
        assert int(headers_sent[b"content-length"]) == len(rendered.body) < 2_000
        assert orjson.loads(zstd.decompress(rendered.body))["success"] is True


@pytest.mark.parametrize(
    ("age_seconds", "max_age"),
    [
        (0, 30),  # until the next refresh is due
        (29, 30),
        (31, 32),  # late: one second, since caches subtract the age
        (60, 61),
        (90, 90),
        (100_000, 90),  # stale: nothing is left, and caches that ignore Age keep it no longer than this
    ],
)
def test_caches_may_use_an_answer_until_the_next_refresh_is_due(age_seconds: int, max_age: int) -> None:
    headers = headers_of(age_seconds + 0.5)
    assert headers["age"] == str(age_seconds)
    assert headers["cache-control"] == (
        f"public, max-age={max_age}, stale-while-revalidate=90, stale-if-error=604800"
    )


def test_shared_caches_store_nothing_that_needs_a_key() -> None:
    headers = headers_of(0, api_keys="key")
    assert headers["cache-control"].startswith("private, ")
    assert headers["vary"] == "Accept-Encoding, Authorization, X-API-Key"
    assert headers_of(0)["vary"] == "Accept-Encoding"


@pytest.mark.parametrize(
    ("state", "age_seconds", "expected"),
    [
        (CacheState.HIT, 10.5, "chat-stats; hit; ttl=80"),
        (CacheState.STALE, 100.5, "chat-stats; hit; ttl=-10"),
        (CacheState.MISS, 0, "chat-stats; fwd=miss; stored"),
        (CacheState.BYPASS, 0, "chat-stats; fwd=bypass"),
    ],
)
def test_cache_status_says_how_the_cache_handled_the_request(
    state: CacheState, age_seconds: float, expected: str
) -> None:
    assert headers_of(age_seconds, state)["cache-status"] == expected


def test_a_304_has_the_headers_that_the_200_would_have_and_none_that_describe_a_body() -> None:
    answer = Answer(replace(ENTRY, computed_at=datetime.now(UTC)), CacheState.HIT)
    full, none = (envelope().render(form, TimeRange(), answer) for form in (Form.PLAIN, Form.NOT_MODIFIED))
    assert (none.status, none.body) == (304, b"")
    assert dict(none.headers).keys() == dict(full.headers).keys() - {b"content-type", b"content-length"}


def test_the_body_is_one_json_object_whose_metadata_states_the_time_of_the_response() -> None:
    answer = Answer(ENTRY, CacheState.STALE)
    rendered = envelope().render(Form.PLAIN, TimeRange("24h"), answer)
    assert dict(rendered.headers)[b"content-length"] == str(len(rendered.body)).encode()
    response = orjson.loads(rendered.body)
    assert response["data"] == [{"model_id": 1}]
    metadata = response["metadata"]
    assert metadata["total_models"] == 1
    assert (metadata["cache"], metadata["window"]) == ("stale", "24h")
    moments = [datetime.fromisoformat(metadata[name]) for name in ("timestamp", "computed_at")]
    assert abs((moments[0] - moments[1]).total_seconds() - metadata["cache_age_seconds"]) < 0.002
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", metadata["timestamp"])
