"""Requests of all kinds that the table accepts, and what writers do with them."""

import asyncpg

#: A row as texts, in the order of COLUMNS.
Row = tuple[str | None, ...]

COLUMNS = {
    "model_id": "bigint",
    "input_tokens": "bigint",
    "output_tokens": "bigint",
    "processing_time_ms": "numeric",
    "status": "text",
    "cost_usd": "numeric",
    "created_at": "timestamptz",
}

MODEL_IDS = (None, *"1234567", "-9223372036854775808")
TOKENS = (None, "0", "1", "1234", "-5", "9223372036854775807", "-9223372036854775808")
TIMES = (
    *(None, "0", "0.0005", "0.001", "0.0010000001", "12.34", "104", "59999.99", "-3"),
    *("NaN", "Infinity", "-Infinity", "1000000000000000", "1000000000000000.1", "1e200", "-1e300"),
)
STATUSES = (None, "completed", "failed", "OK", "", "pending", "Partial")
COSTS = (None, "0", "0.000123", "17.5", "-1", "NaN", "Infinity", "1e15", "1e16")

_SELECTED = ", ".join(f"r.{name}::{type_}" for name, type_ in COLUMNS.items())
_ARRAYS = ", ".join(f"${number}::text[]" for number in range(1, len(COLUMNS) + 1))
_FROM_ROWS = (
    f"SELECT {_SELECTED} FROM unnest({_ARRAYS}) AS r ({', '.join(COLUMNS)}) "
    f"CROSS JOIN generate_series(1, ${len(COLUMNS) + 1}::int)"
)

#: Parameters: an array for each column, and how many copies of each row.
INSERT = f"INSERT INTO chat_completion_requests ({', '.join(COLUMNS)}) {_FROM_ROWS}"

#: As INSERT, with ids from -1 down: what is there is overwritten.
UPSERT = (
    f"INSERT INTO chat_completion_requests (id, {', '.join(COLUMNS)}) "
    f"SELECT -row_number() OVER (), t.* FROM ({_FROM_ROWS}) AS t "
    f"ON CONFLICT (id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in COLUMNS)}"
)

#: Ordinary requests of 7 models (2 of which do not exist) and of none, over the 100 days before now; $1 is
#: how many.
ORDINARY = """
INSERT INTO chat_completion_requests
    (model_id, input_tokens, output_tokens, processing_time_ms, status, cost_usd, created_at)
SELECT
    NULLIF((random() * 7)::int + 1, 8), (random() * 1000)::int, (random() * 100)::int,
    CASE WHEN random() < 0.9 THEN round(exp(random() * 9)::numeric, 2) END,
    (array['completed', 'failed', 'pending', NULL])[(random() * 3)::int + 1],
    round((random() * 0.1)::numeric, 6),
    now() - random() * interval '100 days'
FROM generate_series(1, $1::int)
"""

CATALOGUE = """
INSERT INTO providers (id, name, slug) VALUES (1, 'One', 'one'), (2, 'Two', 'two');
INSERT INTO models (id, provider_id, model_name) SELECT i, i % 2 + 1, 'm' || i
FROM generate_series(1, 5) AS i;
"""


def insert_arguments(rows: list[Row], copies: int = 1) -> list[object]:
    """Return the parameters of INSERT and UPSERT for these rows."""
    columns = zip(*rows, strict=True) if rows else [()] * len(COLUMNS)
    return [*(list(column) for column in columns), copies]


async def fill(connection: asyncpg.Connection, requests: int) -> None:
    await connection.execute(CATALOGUE)
    await connection.execute(ORDINARY, requests)
