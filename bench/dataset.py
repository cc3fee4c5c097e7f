"""A gateway's three tables, filled inside Postgres with rows that depend only on the seed."""

from dataclasses import dataclass

import asyncpg

from chat_stats.service.database.migrations import migrate
from chat_stats.service.settings import Settings

#: Rows of one INSERT: short statements cancel fast and show progress.
BATCH_ROWS = 1_000_000


@dataclass(frozen=True, slots=True)
class Shape:
    """How many rows, over how many models, providers and days."""

    requests: int = 1_000_000
    models: int = 100
    providers: int = 15
    days: int = 90
    seed: int = 2026


_PROVIDERS = """
INSERT INTO providers (name, slug)
SELECT 'Provider ' || lpad(n::text, 2, '0'), 'provider-' || lpad(n::text, 2, '0')
FROM generate_series(1, $1::int) AS n
"""

_MODELS = """
INSERT INTO models (provider_id, model_name, provider_model_id, model_id)
SELECT
    1 + (n - 1) % $2::int,
    'Model ' || lpad(n::text, 3, '0'),
    format('provider-%s/model-%s', lpad((1 + (n - 1) % $2)::text, 2, '0'), lpad(n::text, 3, '0')),
    format('model-%s', lpad(n::text, 3, '0'))
FROM generate_series(1, $1::int) AS n
"""

# $1..$2: numbers of the requests; $3: seed; $4: all requests; $5: models; $6: days.
# Hashes of the row's number replace random(), so that plan and batches do not change the rows.
# Popularity falls from the first model to the last (the last has about 1/20 of the first's requests of
# 100 models), tokens spread over two orders of magnitude, time follows the output, one request in 33 fails.
_REQUESTS = """
INSERT INTO chat_completion_requests (
    request_id, model_id, input_tokens, output_tokens, processing_time_ms, status, error_message, user_id,
    cost_usd, created_at
)
SELECT
    'req-' || to_hex(bits),
    1 + floor($5::int * u1 * u1),
    input_tokens,
    output_tokens,
    CASE WHEN u5 >= 0.01 THEN round((80 + output_tokens * (5 + 20 * u4))::numeric, 2) END,
    CASE WHEN failed THEN 'failed' ELSE 'completed' END,
    CASE WHEN failed THEN 'upstream timeout' END,
    'user-' || (bits & 1023),
    round((input_tokens * 3e-6 + output_tokens * 15e-6)::numeric, 6),
    -- In the order in which they came, up to a minute late.
    now() - make_interval(secs => $6::int * 86400 * (1 - n::float8 / $4::bigint) + 60 * u4)
FROM (
    SELECT
        n, bits, u1, u4, u5, u5 >= 0.97 AS failed,
        (30 * exp(5 * u2))::int AS input_tokens,
        CASE WHEN u5 >= 0.97 THEN 0 ELSE (10 * exp(4.5 * u3))::int END AS output_tokens
    FROM (
        SELECT
            n, bits,
            (bits & 65535) / 65536.0::float8 AS u1,
            ((bits >> 16) & 65535) / 65536.0::float8 AS u2,
            ((bits >> 32) & 65535) / 65536.0::float8 AS u3,
            ((bits >> 48) & 65535) / 65536.0::float8 AS u4,
            (hashint8extended(n, $3::bigint + 1) & 65535) / 65536.0::float8 AS u5
        FROM (
            SELECT n, hashint8extended(n, $3) AS bits FROM generate_series($1::bigint, $2::bigint) AS n
        ) AS hashed
    ) AS uniform
) AS drawn
ORDER BY n
"""


async def fill(settings: Settings, shape: Shape) -> None:
    """Migrate an empty database, fill it, then vacuum and analyse it."""
    await migrate(settings, create_tables=False, started=lambda _file: None, warned=lambda _text: None)
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    try:
        await connection.execute("SET statement_timeout = 0")
        await connection.execute(_PROVIDERS, shape.providers)
        await connection.execute(_MODELS, shape.models, shape.providers)
        for first in range(1, shape.requests + 1, BATCH_ROWS):
            last = min(first + BATCH_ROWS - 1, shape.requests)
            await connection.execute(
                _REQUESTS, first, last, shape.seed, shape.requests, shape.models, shape.days
            )
        await connection.execute("VACUUM ANALYZE")
        await connection.execute(
            "CHECKPOINT"
        )  # so that no contender's time includes writing these rows to disk
    finally:
        await connection.close()


async def describe(settings: Settings) -> dict[str, str]:
    """Return the contents of the tables, and the server's properties that affect the numbers."""
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    try:
        record = await connection.fetchrow(
            """
            SELECT
                current_setting('server_version') AS postgres,
                (SELECT count(*) FROM chat_completion_requests) AS requests,
                (SELECT count(*) FROM models) AS models,
                (SELECT count(*) FROM providers) AS providers,
                pg_size_pretty(pg_table_size('chat_completion_requests')) AS table_size,
                pg_size_pretty(pg_indexes_size('chat_completion_requests')) AS index_size,
                (
                    SELECT string_agg(name || '=' || current_setting(name), ', ' ORDER BY name)
                    FROM unnest(ARRAY[
                        'fsync', 'shared_buffers', 'work_mem', 'max_parallel_workers_per_gather'
                    ]) AS name
                ) AS settings
            """
        )
    finally:
        await connection.close()
    assert record is not None
    return {name: f"{value:,}" if isinstance(value, int) else str(value) for name, value in record.items()}
