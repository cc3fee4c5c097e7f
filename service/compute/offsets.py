"""The offsets of a time zone, from Postgres alone: its time zone data may differ from Python's."""

from datetime import UTC, datetime, timedelta, timezone

from chat_stats.service.catalogue.rows import Row
from chat_stats.service.database import queries
from chat_stats.service.database.snapshot import Snapshot


async def put_offsets(snapshot: Snapshot, points: list[Row], zone: str, *, timeout: float) -> None:
    """Write the `bucket_start` of each point in ISO 8601 with the offset of the time zone at that moment."""
    starts = list({point["bucket_start"] for point in points})
    seconds: dict[datetime, int] = {}
    if zone != "UTC":
        records = await snapshot.fetch(
            queries.load("utc_offsets"), starts, zone, timeout=timeout, keeps_plan=True
        )
        seconds = {record["moment"]: record["seconds"] for record in records}
    # Each written once: many groups have the same intervals.
    written = {start: start.astimezone(_offset(seconds.get(start, 0))).isoformat() for start in starts}
    for point in points:
        point["bucket_start"] = written[point["bucket_start"]]


def _offset(seconds: int) -> timezone:
    return timezone(timedelta(seconds=seconds)) if seconds else UTC
