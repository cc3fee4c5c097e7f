"""A log of single requests, and what tests ask of it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx

PATH = "/chat-requests"


NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


async def get(client: httpx.AsyncClient, **parameters: Any) -> dict[str, Any]:
    response = await client.get(PATH, params=parameters)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


async def ids(client: httpx.AsyncClient, **parameters: Any) -> list[int]:
    body = await get(client, **parameters)
    assert body["metadata"]["total_count"] == body["metadata"]["returned_count"] == len(body["data"])
    return [row["id"] for row in body["data"]]


async def refused(client: httpx.AsyncClient, path: str = PATH, **parameters: Any) -> tuple[str, str]:
    response = await client.get(path, params=parameters)
    assert response.status_code == 422, response.text
    return response.json()["parameter"], response.json()["detail"]


async def fill(connection: asyncpg.Connection) -> None:
    """Requests 1 to 12 of models 1 (Alpha), 2 (50%_off) and 3 (ALPHABET); 13 to 15 are unresolved.

    | id | model | created_at   | status    |
    | 1  | 1     | noon         | completed |   4 and 5: at the same moment
    | 9  | 3     | -infinity    | completed |
    | 10 | 3     | infinity     | completed |
    | 11, 12 | 2 | none         | failed    |
    """
    await connection.execute("""
        INSERT INTO providers (id, name, slug) VALUES (1, 'One', 'one'), (2, '=Two()', 'two');
        INSERT INTO models (id, provider_id, model_name, provider_model_id, model_id) VALUES
            (1, 1, 'Alpha', 'one/alpha', 'alpha'), (2, 1, '50%_o\\ff', 'one/half', NULL),
            (3, 2, 'ALPHABET', 'two/abc', 'abc'), (4, NULL, 'Alpha without provider', NULL, NULL);
    """)
    rows = [
        (1, 1, NOON, "completed"),
        (2, 2, NOON + timedelta(microseconds=1), "failed"),
        (3, 3, NOON + timedelta(microseconds=2), "completed"),
        (4, 1, NOON + timedelta(hours=1), "completed"),
        (5, 3, NOON + timedelta(hours=1), "pending"),
        (6, 1, NOON - timedelta(days=1), "completed"),
        (7, 2, NOON + timedelta(days=1), "completed"),
        (8, 1, NOON - timedelta(days=400), "failed"),
        (11, 2, None, "failed"),
        (12, 2, None, "failed"),
        (13, 4, NOON, "completed"),
        (14, 99, NOON, "completed"),
        (15, None, NOON, "completed"),
    ]
    await connection.executemany(
        "INSERT INTO chat_completion_requests (id, model_id, created_at, status, input_tokens, output_tokens,"
        " processing_time_ms, cost_usd) VALUES ($1, $2, $3, $4, $1::bigint, 1, $1::bigint * 10, 0.5)",
        rows,
    )
    await connection.execute("""
        INSERT INTO chat_completion_requests
            (id, model_id, created_at, status, input_tokens, output_tokens, processing_time_ms, cost_usd,
             request_id, user_id, error_message)
        VALUES
            (9, 3, '-infinity', 'completed', 9223372036854775807, 9, 'NaN', 'Infinity', 'r9', 'u', '=1+1'),
            (10, 3, 'infinity', 'completed', NULL, NULL, NULL, NULL, '-r10', '@u', E'a "b",\n</script>');
        ANALYZE;
    """)


ALL = [10, 7, 5, 4, 3, 2, 1, 6, 8, 9, 12, 11]
