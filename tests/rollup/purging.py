"""What the tests of purging ask of the database, and a purge of the older half."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from chat_stats.service.rollup.retention import Purge, Retention
from tests.conftest import Connection
from tests.rollup.conftest import ignored

REQUESTS = "SELECT count(*) FROM chat_completion_requests"
OLD = "SELECT count(*) FROM chat_completion_requests WHERE created_at < $1"
PURGED = "chat_stats_purged_slots(NULL, NULL)"
READY = "SELECT chat_stats_rollup_ready()"

#: What the functions say of all time, of ranges of whole days, and by intervals; $1 and $2 are days.
ANSWERS = (
    "SELECT * FROM get_models_with_requests()",
    "SELECT * FROM get_models_with_requests($1::date, $2::date)",
    "SELECT * FROM get_provider_request_stats($1::date, $2::date)",
    "SELECT * FROM get_model_request_counts(NULL, $2::date)",
    "SELECT * FROM get_model_request_stats(3, $1::date, $2::date)",
    "SELECT * FROM get_chat_request_summary($1::date, NULL)",
    "SELECT * FROM get_chat_request_summary(NULL, $2::date)",
    "SELECT * FROM get_chat_request_timeseries('1d', 'model', 'Asia/Kathmandu', $1::date, $2::date)",
    "SELECT * FROM get_chat_request_timeseries('1h', 'none', 'UTC', $1::date, $2::date)",
    "SELECT * FROM get_chat_request_percentiles('model')",
    "SELECT * FROM get_chat_request_percentiles('none', $1::date, $2::date)",
)

#: The histograms of all tiers, in any order.
HISTOGRAMS = (
    "SELECT t.model_id, t.day, u.* "
    "FROM chat_stats_rollup_model_slots AS t, unnest(bin_slots, bins, counts) AS u ORDER BY 1, 2, 3, 4",
    "SELECT t.model_id, t.month, u.* FROM chat_stats_rollup_model_months AS t, unnest(bins, counts) AS u "
    "ORDER BY 1, 2, 3",
    "SELECT t.model_id, u.* FROM chat_stats_rollup_model_lifetime AS t, unnest(bins, counts) AS u "
    "ORDER BY 1, 2",
    "SELECT t.day, u.* FROM chat_stats_rollup_total_slots AS t, unnest(bin_slots, bins, counts) AS u "
    "ORDER BY 1, 2, 3",
    "SELECT u.* FROM chat_stats_rollup_total_lifetime AS t, unnest(bins, counts) AS u ORDER BY 1",
)

MIDNIGHT = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
#: Requests are of the last 100 days.
THEN = MIDNIGHT - timedelta(days=50)


async def answers(connection: Connection, statements: Sequence[str] = ANSWERS) -> list[list[asyncpg.Record]]:
    days = (MIDNIGHT - timedelta(days=90)).date(), (MIDNIGHT - timedelta(days=20)).date()
    found = []
    for statement in statements:
        used = [day for number, day in enumerate(days, 1) if f"${number}" in statement]
        numbered = statement if len(used) == 2 else statement.replace("$2", "$1")
        found.append(await connection.fetch(numbered, *used))
    return found


async def histograms(connection: Connection) -> list[list[asyncpg.Record]]:
    return [await connection.fetch(statement) for statement in HISTOGRAMS]


async def purge(connection: Connection, before: datetime = THEN, **how: Any) -> Purge:
    return await Retention(connection).purge(before, ignored, **how)
