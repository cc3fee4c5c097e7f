"""The offsets of a time zone, from Postgres alone: its time zone data may differ from Python's."""

from datetime import UTC, timedelta, timezone

from chat_stats.service.catalogue.rows import Row
from chat_stats.service.database import queries
from chat_stats.service.database.snapshot import Snapshot


async def put_offsets(snapshot: Snapshot, points: list[Row], zone: str, *, timeout: float) -> None:
    """Write the `bucket_start` of each point in ISO 8601 with the offset of the time zone at that moment."""
    starts = list({point["bucket_start"] for point in points})
    records = await snapshot.fetch(queries.load("utc_offsets"), starts, zone, timeout=timeout)
    seconds = {record["moment"]: record["seconds"] for record in records}
    for point in points:
        start = point["bucket_start"]
        offset = timezone(timedelta(seconds=seconds[start])) if seconds[start] else UTC
        point["bucket_start"] = start.astimezone(offset).isoformat()
