"""Answers about single requests: pages and exports of them, and points for plots."""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chat_stats.service.cache.freshness import CacheState
from chat_stats.service.concurrency.single_flight import SingleFlight
from chat_stats.service.database.pool import Database
from chat_stats.service.database.snapshot import Snapshot
from chat_stats.service.errors import ComputationTimedOut, SchemaError, Unavailable
from chat_stats.service.explorer import plot
from chat_stats.service.explorer.columns import Columns
from chat_stats.service.explorer.exports import JSON, Format, encode, encoder, objects
from chat_stats.service.explorer.query import Filters, RequestQuery, encode_cursor
from chat_stats.service.explorer.reading import BATCH_ROWS, Reading
from chat_stats.service.explorer.requests import Requests
from chat_stats.service.settings import Settings

#: Pages of more rows than this are exports: they take long, and wait for each other instead of for the rest.
LARGE_PAGE = 1000

RECENT_REQUESTS = 10

#: Seconds for which a plot is answered from memory; how many plots are kept, and their bytes: a plot of 5,000
#: points has 400 kB.
PLOT_SECONDS = 5.0
PLOTS_KEPT = 64
PLOTS_KEPT_BYTES = 8_000_000


@dataclass(frozen=True, slots=True)
class Plot:
    """A computed plot; its parts are JSON."""

    recent: bytes
    points: bytes
    metadata: dict[str, Any]
    computed_at: datetime
    #: By this process's monotonic clock.
    taken_at: float
    etag: str

    @property
    def size(self) -> int:
        return len(self.recent) + len(self.points)

    def age_seconds(self) -> int:
        """Return how long ago it was taken."""
        return int(time.monotonic() - self.taken_at)

    def seconds_left(self) -> int:
        """Return for how many seconds it will be answered from memory; below 0 it was due so long ago."""
        return int(self.taken_at + PLOT_SECONDS - time.monotonic())

    def render(self, state: CacheState, now: datetime) -> bytes:
        """Return the body; its two parts stand beside `data` too, where older clients read them."""
        metadata = {
            **self.metadata,
            "timestamp": now,
            "cache": state,
            "cache_age_seconds": _age_seconds(self.computed_at, now),
        }
        parts = b'"recent_requests":' + self.recent + b',"plot_data":' + self.points
        return b'{"success":true,"data":{' + parts + b"}," + parts + b',"metadata":' + encode(metadata) + b"}"


class Explorer:
    """One per process."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._requests = Requests(timeout=settings.query_timeout_seconds, columns=settings.request_columns)
        self._plots: OrderedDict[str, Plot] = OrderedDict()
        self._flights = SingleFlight[Plot]()

    async def close(self) -> None:
        await self._flights.close()

    async def columns(self) -> Columns:
        """Return which fields there are; `SchemaError` when the table lacks one that the settings name."""
        known = self._requests.known_columns()
        if known is not None:
            return known
        async with self._database.snapshot(wait_seconds=self._settings.query_timeout_seconds) as snapshot:
            return await self._requests.columns(snapshot)

    async def page(
        self, query: RequestQuery, columns: Columns, fields: Sequence[str], format_: Format
    ) -> AsyncIterator[bytes]:
        """Yield a page in that format, in pieces. Nothing comes before the first rows have been read."""
        try:
            async with asyncio.timeout(self._settings.download_seconds):
                async for piece in self._page(query, columns, fields, format_):
                    yield piece
        except SchemaError:
            self._requests.forget_columns()  # one may have been dropped
            raise
        except TimeoutError:
            raise ComputationTimedOut("the requests could not be read in time") from None

    async def _page(
        self, query: RequestQuery, columns: Columns, fields: Sequence[str], format_: Format
    ) -> AsyncIterator[bytes]:
        started = time.perf_counter()
        timeout = self._settings.query_timeout_seconds
        large = query.limit > LARGE_PAGE or format_ is not JSON
        async with self._database.snapshot(wait_seconds=timeout, export=large) as snapshot:
            reading = await self._requests.open(snapshot, query.filters, query.after, columns, query.order)
            writer = encoder(format_, fields, columns.kinds)
            try:
                waiting = await writer.start()
                async for rows in self._requests.batches(reading, query, fields):
                    piece, size = await writer.rows(rows)
                    reading.fit_batches(len(rows), size)
                    if waiting or piece:
                        yield waiting + piece
                    waiting = b""
                metadata: dict[str, Any] = {}
                if format_ is JSON:
                    metadata = await self._metadata(reading, query, snapshot.now, started)
                yield waiting + await writer.end(metadata)
            finally:
                await writer.close()

    async def _metadata(
        self, reading: Reading, query: RequestQuery, computed_at: datetime, started: float
    ) -> dict[str, Any]:
        total, method = await self._requests.total(reading)
        filters = query.filters
        return {
            "total_count": total,
            "returned_count": reading.returned,
            "limit": query.limit,
            "offset": query.offset,
            "filters": filters.given(),
            "next_cursor": None
            if reading.next is None
            else encode_cursor(reading.next, filters, query.order),
            **_common(
                filters,
                method,
                total,
                computed_at,
                self._database.clock.now(),
                (time.perf_counter() - started) * 1000,
                reading.snapshot,
            ),
        }

    async def plot(self, filters: Filters, points: int) -> tuple[Plot, CacheState]:
        """Return the plot, and where it came from: stale is one in memory when none can be computed."""
        key = f"{points}:{filters.key()}"
        kept = self._plots.get(key)
        if kept is not None and time.monotonic() - kept.taken_at < PLOT_SECONDS:
            return kept, CacheState.HIT
        try:
            computed = await self._flights.run(key, lambda: self._compute_plot(filters, points))
        except (Unavailable, SchemaError):
            self._requests.forget_columns()
            if kept is None:
                raise
            return kept, CacheState.STALE
        self._keep(key, computed)
        return computed, CacheState.MISS

    def _keep(self, key: str, plot: Plot) -> None:
        """Keep a plot, and let the oldest make way; the last one stays, however large."""
        self._plots[key] = plot
        self._plots.move_to_end(key)
        while len(self._plots) > PLOTS_KEPT or (
            len(self._plots) > 1 and sum(kept.size for kept in self._plots.values()) > PLOTS_KEPT_BYTES
        ):
            self._plots.popitem(last=False)

    async def _compute_plot(self, filters: Filters, points: int) -> Plot:
        started = time.perf_counter()
        timeout = self._settings.query_timeout_seconds
        async with self._database.snapshot(wait_seconds=timeout) as snapshot:
            reading = await self._requests.open(snapshot, filters)
            fields = reading.columns.shown(nested=True)
            recent = await self._rows(reading, RECENT_REQUESTS, fields)
            few = await self._rows(reading, points + 1, ("created_at", "total_tokens", "processing_time_ms"))
            if len(few) <= points:
                chosen = plot.whole(few[::-1], points)
            else:
                chosen = await plot.sample(reading, points)
            total, method = await self._requests.total(reading)
        compute_ms = (time.perf_counter() - started) * 1000
        recent_json = encode(objects(recent, fields, reading.columns.kinds))
        points_json = encode(
            {
                "tokens": [tokens for _, tokens, _ in chosen.points],
                "latency": [latency for _, _, latency in chosen.points],
                "timestamps": [moment for moment, _, _ in chosen.points],
            }
        )
        return Plot(
            recent_json,
            points_json,
            {
                "recent_count": len(recent),
                "total_count": total,
                "returned_count": len(chosen.points),
                "filters": filters.given(),
                "compression": "arrays",
                "format_version": "1.0",
                "sampling": chosen.sampling,
                **_common(
                    filters, method, total, snapshot.now, self._database.clock.now(), compute_ms, snapshot
                ),
            },
            snapshot.now,
            time.monotonic(),
            etag(recent_json, points_json, str(total).encode()),
        )

    async def _rows(self, reading: Reading, limit: int, fields: Sequence[str]) -> list[tuple[Any, ...]]:
        query = RequestQuery(reading.filters, limit)
        reading.batch_rows = BATCH_ROWS
        return [row async for rows in self._requests.batches(reading, query, fields) for row in rows]


def etag(*parts: bytes) -> str:
    """Return an ETag of what these parts hold."""
    digest = hashlib.blake2b(digest_size=12)
    for part in parts:
        digest.update(part)
    return f'W/"{digest.hexdigest()}"'


def _age_seconds(computed_at: datetime, now: datetime) -> float:
    return max(0.0, round((now - computed_at).total_seconds(), 3))


def _common(
    filters: Filters,
    method: str,
    total: int | None,
    computed_at: datetime,
    now: datetime,
    compute_ms: float,
    snapshot: Snapshot,
) -> dict[str, Any]:
    range_ = filters.range
    consistency = {} if snapshot.consistency is None else {"consistency": snapshot.consistency}
    bounds = {} if range_.window is not None else {"start_date": range_.start, "end_date": range_.end}
    return {
        "timestamp": now,
        "method": method,
        "cache": "bypass",
        "cache_age_seconds": _age_seconds(computed_at, now),
        "computed_at": computed_at,
        "compute_ms": round(compute_ms, 3),
        "generation": None,
        "window": range_.window,
        **bounds,
        "unavailable": ["total_count"] if total is None else [],
        **consistency,
    }
