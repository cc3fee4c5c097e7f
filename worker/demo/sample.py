"""Realistic data of a gateway for the demo: the same seed and the same end give the same rows.

Popularity follows Zipf's law, traffic the hours of the day and the days of the week, latency a log-normal
distribution with a Pareto tail. Some providers had outages, and some models have no requests.
"""

import asyncio
import math
import random
from bisect import bisect
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import accumulate
from typing import Any, NamedTuple, TypeAlias

import asyncpg

from chat_stats.service.database.names import Names, begin
from chat_stats.service.database.pool import LOCK_CLASS
from chat_stats.worker.demo.names import MODELS, PROVIDERS, SEED, Model

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

DAYS = 90

#: What the sample's requests have beside models: `CHAT_STATS_DIMENSIONS` of the demo.
DIMENSIONS = "user_id, key_id, team=labels->>team"

#: Longest time in seconds for one statement of the load.
LOAD_SECONDS = 600
#: Second half of the key of the lock that allows one load at a time.
_LOCK = 2

# Error message, weight, and milliseconds until the failure; None: refused before it was timed.
_FAILURES = [
    ("429: rate limit exceeded, retry later", 45, None),
    ("401: the provider refused the API key", 4, None),
    ("400: blocked by the content filter", 5, 210),
    ("503: upstream overloaded", 22, 900),
    ("upstream timed out after 60 s", 14, 60_000),
    ("400: context length exceeded", 11, 140),
    ("stream ended before the answer was complete", 8, 7_000),
]
_FAILURE_WEIGHTS = [weight for _, weight, _ in _FAILURES]
_OUTAGE_FAILURE_RATE = 0.45

_TEAMS = ("search", "support", "research", "search", "billing", None)

#: Columns that gateways may have, and the types for which the sample has values.
_MORE_COLUMNS = {"key_id": ("text", "character varying"), "labels": ("jsonb", "json")}

_USER_WEIGHTS = list(accumulate(1 / rank**0.9 for rank in range(1, 801)))


class Request(NamedTuple):
    """A row of chat_completion_requests, with the model itself in place of its id."""

    model: Model
    request_id: str
    input_tokens: int | None
    output_tokens: int | None
    processing_time_ms: int | None
    status: str
    error_message: str | None
    user_id: str
    cost_usd: Decimal | None
    created_at: datetime

    @property
    def key_id(self) -> str:
        """A user has one key; some keys are shared."""
        return f"key_{int(self.user_id[-4:]) % 50 + 1:02d}"

    @property
    def labels(self) -> str | None:
        """JSON with the team of the user; what came without a key of a team has none."""
        team = _TEAMS[int(self.user_id[-4:]) % len(_TEAMS)]
        return None if team is None else f'{{"team": "{team}"}}'


_POPULARITY = list(accumulate(model.popularity for model in MODELS))


def requests(count: int, end: datetime) -> Iterator[Request]:
    """Yield `count` requests of the 90 days before `end`, the oldest first."""
    rng = random.Random(SEED)  # noqa: S311
    start = end - timedelta(days=DAYS)
    outages = _outages(rng)
    # Each hour gets its part of `count`, rounded so that the parts add up to it.
    hours = [start + timedelta(hours=number) for number in range(DAYS * 24)]
    weights = accumulate(
        _rhythm(hour) * (0.7 + 0.6 * number / len(hours)) * rng.lognormvariate(0, 0.15)
        for number, hour in enumerate(hours)
    )
    until = list(weights)
    done = 0
    for number, hour in enumerate(hours):
        due = round(count * until[number] / until[-1])
        for seconds in sorted(rng.uniform(0, 3599.999) for _ in range(due - done)):
            yield one_request(rng, hour + timedelta(seconds=seconds), outages.get(number, ()))
        done = due


def one_request(rng: random.Random, at: datetime, failing: Collection[str] = ()) -> Request:
    """Return a request made at `at`, while the providers with these slugs have an outage."""
    model = MODELS[bisect(_POPULARITY, rng.random() * _POPULARITY[-1])]
    request_id = f"req_{rng.getrandbits(96):024x}"
    user_id = f"user_{bisect(_USER_WEIGHTS, rng.random() * _USER_WEIGHTS[-1]) + 1:04d}"
    input_tokens = min(200_000, 1 + int(rng.lognormvariate(6.6, 1.3)))
    slug, failure_rate = model.provider.slug, model.provider.failure_rate
    if rng.random() < (_OUTAGE_FAILURE_RATE if slug in failing else failure_rate):
        message, _, after_ms = rng.choices(_FAILURES, _FAILURE_WEIGHTS)[0]
        tokens, took = (None, None) if after_ms is None else (input_tokens, after_ms + rng.randrange(120))
        return Request(model, request_id, tokens, None, took, "failed", message, user_id, None, at)
    output_tokens = min(16_000, 1 + int(rng.lognormvariate(5.3, 1.0)))
    seconds = (0.25 + input_tokens / 20_000 + output_tokens / model.tokens_per_second) * rng.lognormvariate(
        0, 0.4
    )
    if rng.random() < 0.03:  # queued, or a cold start
        seconds *= 1.5 * rng.paretovariate(1.1)
    per_in, per_out = model.prices
    cost = Decimal(f"{(input_tokens * per_in + output_tokens * per_out) / 1e6:.8f}")
    took = min(600_000, round(seconds * 1000))
    return Request(model, request_id, input_tokens, output_tokens, took, "completed", None, user_id, cost, at)


def _rhythm(at: datetime) -> float:
    """Return how busy the hour is: most in the afternoon (UTC), less at night and on weekends."""
    daily = 1 + 0.7 * math.cos((at.astimezone(UTC).hour - 15) / 24 * 2 * math.pi)
    return daily * (0.55 if at.astimezone(UTC).weekday() >= 5 else 1)


def _outages(rng: random.Random) -> dict[int, set[str]]:
    """Return which providers have an outage, by hour."""
    outages: dict[int, set[str]] = {}
    for provider in rng.sample(PROVIDERS, 12):
        first = rng.randrange(DAYS * 24 - 8)
        for hour in range(first, first + rng.randint(1, 7)):
            outages.setdefault(hour, set()).add(provider.slug)
    return outages


_COLUMNS = """
SELECT a.attname::text AS name, format_type(a.atttypid, NULL) AS type
FROM pg_attribute AS a
WHERE a.attrelid = 'gateway_schema.chat_completion_requests'::regclass AND a.attnum > 0 AND NOT a.attisdropped
"""

_ANY_ROW = """
SELECT EXISTS (SELECT FROM gateway_schema.providers) OR EXISTS (SELECT FROM gateway_schema.models)
    OR EXISTS (SELECT FROM gateway_schema.chat_completion_requests)
"""


async def load(connection: Connection, *, count: int, end: datetime, loaded: Callable[[int], None]) -> bool:
    """Fill the tables in one transaction; `loaded` is called with the number of requests sent so far.

    Returns False, and does nothing, when the tables hold any row. Raises asyncpg's errors.
    """
    async with connection.transaction():
        names = (await begin(connection)).names
        await connection.execute("SELECT pg_advisory_xact_lock($1, $2)", LOCK_CLASS, _LOCK)
        if await connection.fetchval(names.fill(_ANY_ROW)):
            return False
        await connection.executemany(
            names.fill("INSERT INTO gateway_schema.providers (name, slug) VALUES ($1, $2)"),
            [provider[:2] for provider in PROVIDERS],
        )
        await connection.executemany(
            names.fill(
                "INSERT INTO gateway_schema.models (provider_id, model_name, provider_model_id, model_id) "
                "SELECT id, $2, $3, $4 FROM gateway_schema.providers WHERE slug = $1"
            ),
            [(m.provider.slug, m.model_name, m.provider_model_id, m.model_id) for m in MODELS],
        )
        ids = await _model_ids(connection, names)
        columns = await _columns(connection, names)
        await connection.copy_records_to_table(
            "chat_completion_requests",
            schema_name=names.gateway["chat_completion_requests"],
            records=_records(requests(count, end), ids, columns, loaded),
            columns=("model_id", *columns),
            timeout=LOAD_SECONDS,
        )
    # VACUUM too: index-only scans need the visibility map.
    await connection.execute(
        names.fill(
            "VACUUM (ANALYZE) gateway_schema.providers, gateway_schema.models, "
            "gateway_schema.chat_completion_requests"
        )
    )
    return True


async def _columns(connection: Connection, names: Names) -> list[str]:
    """Return the columns beside model_id that the sample fills: those that the table has, of further ones."""
    types = {record["name"]: record["type"] for record in await connection.fetch(names.fill(_COLUMNS))}
    return [
        *Request._fields[1:],
        *(name for name, known in _MORE_COLUMNS.items() if types.get(name) in known),
    ]


async def model_ids(connection: Connection) -> dict[str, Any]:
    """Return the ids of the sample's models that are in the database, by model_id."""
    async with connection.transaction():
        names = (await begin(connection)).names
        return await _model_ids(connection, names)


async def _model_ids(connection: Connection, names: Names) -> dict[str, Any]:
    records = await connection.fetch(
        names.fill("SELECT model_id, id FROM gateway_schema.models WHERE model_id = ANY ($1)"),
        [model.model_id for model in MODELS],
    )
    return {record["model_id"]: record["id"] for record in records}


async def insert(connection: Connection, request: Request, ids: dict[str, Any], *, timeout: float) -> None:
    """Insert one request, unless its model is no longer in the database."""
    if (model_id := ids.get(request.model.model_id)) is not None:
        async with connection.transaction():
            names = (await begin(connection)).names
            columns = await _columns(connection, names)
            await connection.copy_records_to_table(
                "chat_completion_requests",
                schema_name=names.gateway["chat_completion_requests"],
                records=[_record(request, model_id, columns)],
                columns=("model_id", *columns),
                timeout=timeout,
            )


async def _records(
    rows: Iterator[Request], ids: dict[str, Any], columns: Sequence[str], loaded: Callable[[int], None]
) -> AsyncIterator[tuple[Any, ...]]:
    for number, row in enumerate(rows, start=1):
        yield _record(row, ids[row.model.model_id], columns)
        if number % 1000 == 0:
            loaded(number)
            await asyncio.sleep(0)  # let other tasks run, and Ctrl-C take effect


def _record(row: Request, model_id: Any, columns: Sequence[str]) -> tuple[Any, ...]:
    return (model_id, *(getattr(row, name) for name in columns))
