"""Rate limits per client."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

import asyncpg
import httpx
import pytest

from tests.conftest import SettingsFactory
from tests.integration.conftest import OpenClient

DAYS = [f"{datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=day):%Y-%m-%d}" for day in range(10)]


async def ask(client: httpx.AsyncClient, day: str, **headers: str) -> httpx.Response:
    return await client.get("/chat-requests/counts", params={"start_date": day}, headers=headers)


async def test_a_client_over_its_limit_of_misses_is_told_when_to_retry(
    settings_with: SettingsFactory, gateway: asyncpg.Connection, client_of: OpenClient
) -> None:
    client = await client_of(settings_with(rate_limit_misses="3/minute", local_cache_seconds=5))
    statuses = [(await ask(client, day)).status_code for day in DAYS[:4]]
    assert statuses == [200, 200, 200, 429]
    refused = await ask(client, DAYS[4])
    problem = refused.json()
    assert (problem["status"], problem["success"], problem["title"]) == (429, False, "Too many requests")
    assert "3 per 1 minute" in problem["detail"]
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert (await ask(client, DAYS[4])).status_code == 429  # by the fast path, which knows the target now


async def test_hits_are_not_counted(
    settings_with: SettingsFactory, gateway: asyncpg.Connection, client_of: OpenClient
) -> None:
    client = await client_of(settings_with(rate_limit_misses="3/minute", local_cache_seconds=5))
    answers = [await ask(client, DAYS[0]) for _ in range(10)]
    assert [answer.status_code for answer in answers] == [200] * 10


async def test_waiting_for_the_same_answer_counts_once(
    settings_with: SettingsFactory, gateway: asyncpg.Connection, client_of: OpenClient
) -> None:
    settings = settings_with(rate_limit_misses="3/minute")
    client = await client_of(settings)
    answers = await asyncio.gather(*(ask(client, DAYS[0]) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}


async def test_only_the_client_over_its_limit_is_refused(
    settings_with: SettingsFactory, gateway: asyncpg.Connection, client_of: OpenClient
) -> None:
    client = await client_of(settings_with(rate_limit_misses="1/minute", api_keys="often,seldom"))
    assert (await ask(client, DAYS[0], **{"X-API-Key": "often"})).status_code == 200
    keys = ["often"] * 5 + ["seldom"] * 5
    answers = await asyncio.gather(*(ask(client, DAYS[1], **{"X-API-Key": key}) for key in keys))
    assert [answer.status_code for answer in answers[5:]] == [200] * 5


async def test_processes_of_one_cache_count_together_and_caches_separately(
    settings_with: SettingsFactory, gateway: asyncpg.Connection, client_of: OpenClient
) -> None:
    settings = settings_with(rate_limit_misses="3/minute")
    one, two = await client_of(settings), await client_of(settings)
    turns = zip([one, two] * 2, DAYS[:4], strict=True)
    statuses = [(await ask(client, day)).status_code for client, day in turns]
    assert statuses == [200, 200, 200, 429]
    other = await client_of(settings_with(rate_limit_misses="3/minute"))
    assert (await ask(other, DAYS[0])).status_code == 200


async def test_each_key_has_its_own_limit(
    settings_with: SettingsFactory, gateway: asyncpg.Connection, client_of: OpenClient
) -> None:
    client = await client_of(settings_with(rate_limit_misses="1/minute", api_keys="one,two"))
    statuses = [(await ask(client, day, **{"X-API-Key": "one"})).status_code for day in DAYS[:2]]
    assert statuses == [200, 429]
    assert (await ask(client, DAYS[2], **{"X-API-Key": "two"})).status_code == 200


async def test_a_key_has_one_limit_whatever_the_other_headers(
    settings_with: SettingsFactory, gateway: asyncpg.Connection, client_of: OpenClient
) -> None:
    client = await client_of(settings_with(rate_limit_misses="1/minute", api_keys="one,two"))
    others = ["Bearer made-up", "Basic bWFkZTp1cA==", "Bearer another"]
    statuses = [
        (await ask(client, day, **{"X-API-Key": "one", "Authorization": other})).status_code
        for day, other in zip(DAYS, others, strict=False)
    ]
    assert statuses == [200, 429, 429]


async def test_counting_does_not_wait_again_for_a_redis_that_hangs(
    settings_with: SettingsFactory, gateway: asyncpg.Connection, client_of: OpenClient, hanging_redis: str
) -> None:
    settings = settings_with(rate_limit_misses="3/minute", redis_timeout_seconds=2)
    url = type(settings.redis_url)(hanging_redis)
    client = await client_of(settings.model_copy(update={"redis_url": url}))
    started = time.monotonic()
    assert (await ask(client, DAYS[0])).status_code == 200
    assert time.monotonic() - started < 3.9  # the cache look-up takes 2 s
    assert [(await ask(client, day)).status_code for day in DAYS[1:4]] == [200, 200, 429]


async def test_without_redis_each_process_counts_by_itself(
    settings_with: SettingsFactory, gateway: asyncpg.Connection, client_of: OpenClient
) -> None:
    settings = settings_with(rate_limit_misses="3/minute").model_copy(
        update={"redis_url": type(settings_with().redis_url)("redis://127.0.0.1:1/0")}
    )
    client = await client_of(settings)
    assert [(await ask(client, day)).status_code for day in DAYS[:4]] == [200, 200, 200, 429]


async def test_all_calls_are_counted_if_that_limit_is_set(
    settings_with: SettingsFactory, gateway: asyncpg.Connection, client_of: OpenClient
) -> None:
    client = await client_of(settings_with(rate_limit_requests="5/minute", local_cache_seconds=5))
    assert [(await ask(client, DAYS[0])).status_code for _ in range(6)] == [200] * 5 + [429]


@pytest.mark.parametrize("rate", ["often", "5", "-1/minute", "5/fortnight"])
def test_an_invalid_rate_is_refused_at_the_start(settings_with: SettingsFactory, rate: str) -> None:
    with pytest.raises(ValueError, match="write it like 100/minute"):
        settings_with(rate_limit_misses=rate)
