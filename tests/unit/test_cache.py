"""The format of an entry, and how Redis errors are handled. Real servers: tests/integration."""

import logging
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import fakeredis
import pytest

from chat_stats.service.cache.entry import VERSION, Entry, Generation, UndecodableEntry, decode, encode
from chat_stats.service.cache.local_cache import LocalCache
from chat_stats.service.cache.publication import Publication
from chat_stats.service.cache.store import Cache, Stored, connect
from chat_stats.service.database.clock import Clock
from chat_stats.service.errors import CacheUnavailable
from chat_stats.service.settings import Settings

ENTRY = Entry(
    body=b'[{"model_id":1}]',
    totals={"total_models": 1},
    method="rpc",
    computed_at=datetime(2026, 1, 1, tzinfo=UTC),
    compute_ms=1.5,
    generation="g1",
    unavailable=("total_cost_usd",),
)

SETTINGS = Settings(database_url="postgresql://user@localhost/none", _env_file=None)


@pytest.fixture
def redis() -> fakeredis.FakeAsyncRedis:
    return fakeredis.FakeAsyncRedis()


@pytest.fixture
def cache(redis: fakeredis.FakeAsyncRedis) -> Cache:
    return Cache(SETTINGS, redis, Clock())


@pytest.fixture
def cache_without_redis() -> Cache:
    return Cache(SETTINGS, connect("redis://127.0.0.1:1/0", timeout_seconds=0.2), Clock())


async def publish(cache: Cache, entries: dict[str, Entry], generation: Generation) -> bool:
    async with Publication(cache).prepare(generation.generation) as prepared:
        for key, entry in entries.items():
            await prepared.add(key, entry)
        return await prepared.publish(generation, of_everything=True)


def test_an_entry_is_read_as_it_was_stored() -> None:
    assert decode(encode(ENTRY)) == ENTRY


def test_an_entry_describes_itself_in_one_line_of_json() -> None:
    line = encode(ENTRY).splitlines()[0]
    assert line.startswith(b'{"format":"chat-stats/%d"' % VERSION)
    assert b'"method":"rpc"' in line


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"\x80\x04\x95 a pickle",
        b"null\n[]",
        b"[]\n[]",
        b"12",
        b'{"format":"chat-stats/%d"}\n[]' % VERSION,
        b'{"format":"chat-stats/%d","length":2}\n[]' % (VERSION + 1),
        encode(ENTRY)[:-1],
        encode(ENTRY) + b" ",
        encode(ENTRY)[:40],
        encode(ENTRY).replace(b'"model_id":1', b'"model_id":2'),
        encode(ENTRY).replace(b"2026-01-01", b"2026-99-01"),
        encode(ENTRY).replace(b'"compute_ms":1.5', b'"compute_ms":null'),
    ],
)
def test_truncated_damaged_and_foreign_values_are_not_decoded(stored: bytes) -> None:
    with pytest.raises(UndecodableEntry):
        decode(stored)


def test_an_etag_depends_only_on_the_numbers() -> None:
    same_numbers = replace(
        ENTRY, generation="g2", computed_at=datetime(2026, 1, 2, tzinfo=UTC), method="fallback"
    )
    assert same_numbers.etag == ENTRY.etag
    assert replace(ENTRY, body=b"[]").etag != ENTRY.etag


def test_an_age_is_never_negative() -> None:
    assert ENTRY.age_seconds(ENTRY.computed_at - timedelta(hours=1)) == 0


async def test_an_undecodable_entry_is_a_miss_and_is_logged(
    cache: Cache, redis: fakeredis.FakeAsyncRedis, caplog: pytest.LogCaptureFixture
) -> None:
    await redis.set(cache.entry_key("models:all"), b"\x80\x04 a pickle")
    with caplog.at_level(logging.WARNING):
        assert await cache.get("models:all") is None
    assert cache.reachable
    assert "ignored the cached entry chat-stats:v2:entry:models:all" in caplog.text


async def test_entries_expire_after_the_fresh_and_the_stale_time(
    cache: Cache, redis: fakeredis.FakeAsyncRedis
) -> None:
    await cache.store("models:all", ENTRY)
    lifetime = await redis.ttl(cache.entry_key("models:all"))
    assert abs(lifetime - (SETTINGS.fresh_seconds + SETTINGS.stale_seconds)) <= 1


async def test_a_late_answer_does_not_replace_a_newer_one(cache: Cache) -> None:
    newer = replace(ENTRY, computed_at=ENTRY.computed_at + timedelta(seconds=1), generation="g2")
    await cache.store("models:all", newer)
    await cache.store("models:all", ENTRY)
    assert await cache.get("models:all") == newer


async def test_an_answer_from_the_future_is_replaced(cache: Cache) -> None:
    future = replace(ENTRY, computed_at=datetime.now(UTC) + timedelta(days=1))
    await cache.store("models:all", future)
    await cache.store("models:all", ENTRY)
    assert await cache.get("models:all") == ENTRY


def generation_of(entry: Entry) -> Generation:
    return Generation(entry.generation, entry.computed_at, 1.0, 1, 0)


async def test_a_late_refresh_does_not_undo_a_newer_one(cache: Cache) -> None:
    newer = replace(ENTRY, generation="g2", computed_at=ENTRY.computed_at + timedelta(seconds=1))
    assert await publish(cache, {"models:all": newer}, generation_of(newer))
    assert not await publish(cache, {"models:all": ENTRY}, generation_of(ENTRY))
    assert await cache.get("models:all") == newer


async def test_a_refresh_from_before_the_clock_was_set_back_does_not_block_later_ones(cache: Cache) -> None:
    future = replace(ENTRY, computed_at=datetime.now(UTC) + timedelta(days=1))
    assert await publish(cache, {"models:all": future}, generation_of(future))
    assert await publish(cache, {"models:all": ENTRY}, generation_of(ENTRY))
    assert await cache.get("models:all") == ENTRY


@pytest.mark.parametrize(
    "stored",
    [b"", b"null", b"[]", b'{"a":1}', b'{"computed_at":"zzz"}', b"\x80 a pickle", b'{"generation":"g"}'],
)
async def test_a_foreign_generation_key_counts_as_missing_and_is_replaced(
    cache: Cache, redis: fakeredis.FakeAsyncRedis, stored: bytes
) -> None:
    await redis.set(cache.generation_key, stored)
    assert await Publication(cache).last_generation() is None
    assert await publish(cache, {"models:all": ENTRY}, generation_of(ENTRY))
    assert await Publication(cache).last_generation() == generation_of(ENTRY)


async def test_keys_of_a_foreign_type_count_as_missing_and_are_replaced(
    cache: Cache, redis: fakeredis.FakeAsyncRedis
) -> None:
    await redis.lpush(cache.entry_key("models:all"), "a list")  # type: ignore[misc]
    await redis.lpush(cache.generation_key, "a list")  # type: ignore[misc]
    assert await cache.get("models:all") is None
    assert cache.reachable
    assert await Publication(cache).last_generation() is None
    assert (await cache.store("models:all", ENTRY)).kept
    assert await cache.get("models:all") == ENTRY
    assert await publish(cache, {"models:all": ENTRY}, generation_of(ENTRY))


async def test_storing_an_older_answer_returns_the_newer_one(cache: Cache) -> None:
    newer = replace(ENTRY, computed_at=ENTRY.computed_at + timedelta(seconds=1), generation="g2")
    await cache.store("models:all", newer)
    assert await cache.store("models:all", ENTRY) == Stored(newer, kept=True)


async def test_old_and_new_versions_of_the_format_share_a_redis_and_do_not_see_each_other(
    redis: fakeredis.FakeAsyncRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = Cache(SETTINGS, redis, Clock())
    await publish(old, {"models:all": ENTRY}, generation_of(ENTRY))
    for module in ("chat_stats.service.cache.store", "chat_stats.service.cache.entry"):
        monkeypatch.setattr(f"{module}.VERSION", 3)
    new = Cache(SETTINGS, redis, Clock())
    newer = replace(ENTRY, generation="g2")
    assert await new.get("models:all") is None
    assert await Publication(new).last_generation() is None
    assert await publish(new, {"models:all": newer}, generation_of(newer))
    assert await new.get("models:all") == newer
    monkeypatch.undo()
    assert await old.get("models:all") == ENTRY
    assert await Publication(old).last_generation() == generation_of(ENTRY)


def test_a_copy_is_as_recent_as_its_request_and_not_as_its_reply() -> None:
    copies = LocalCache(10, Clock())
    copies.put("models:all", ENTRY, taken_at=time.monotonic() - 11)
    assert copies.recent("models:all") is None
    assert copies.last_good("models:all") == ENTRY


def test_a_local_copy_is_never_replaced_by_an_older_one() -> None:
    copies = LocalCache(10, Clock())
    newer = replace(ENTRY, computed_at=ENTRY.computed_at + timedelta(seconds=1))
    copies.put("models:all", newer)
    assert copies.put("models:all", ENTRY) == newer
    assert copies.recent("models:all") == newer


def test_local_copies_are_bounded_in_bytes_and_the_oldest_make_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chat_stats.service.cache.local_cache.CAPACITY_BYTES", 100_000)
    copies = LocalCache(10, Clock())
    for number in range(20):
        copies.put(f"models:{number}", replace(ENTRY, body=b"x" * 10_000))
    kept = [number for number in range(20) if copies.last_good(f"models:{number}") is not None]
    assert kept == list(range(15, 20))
    copies.put("large", replace(ENTRY, body=b"x" * 1_000_000))
    assert copies.last_good("large") is not None
    assert copies.last_good("models:19") is None
    copies.put("small", ENTRY)  # and the large one's bytes are free again
    assert copies.last_good("large") is None
    copies.put("large", replace(ENTRY, body=b"x" * 10_000))
    assert copies.last_good("small") is not None


def test_an_equal_entry_keeps_the_copy_and_its_rendered_forms() -> None:
    copies = LocalCache(10, Clock())
    first = copies.put("models:all", replace(ENTRY))
    assert copies.put("models:all", decode(encode(ENTRY))) is first
    refreshed = replace(ENTRY, computed_at=ENTRY.computed_at + timedelta(seconds=1), generation="g2")
    assert copies.put("models:all", refreshed) is refreshed


async def test_without_redis_reading_is_a_miss_and_storing_does_nothing(
    cache_without_redis: Cache, caplog: pytest.LogCaptureFixture
) -> None:
    assert await cache_without_redis.get("models:all") is None
    await cache_without_redis.store("models:all", ENTRY)
    assert await cache_without_redis.get("models:all") is None
    assert not cache_without_redis.reachable
    assert caplog.text.count("Redis does not answer") == 1  # once per change, not per request


async def test_without_redis_publishing_says_so(cache_without_redis: Cache) -> None:
    with pytest.raises(CacheUnavailable):
        await publish(cache_without_redis, {"models:all": ENTRY}, generation_of(ENTRY))
