"""A generation in the making: answers computed in one snapshot, which appear together or not at all."""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from chat_stats.service.cache.entry import Entry, Generation, body_of
from chat_stats.service.cache.publication import Prepared, Publication
from chat_stats.service.cache.refresh_report import Refreshed, RefreshReport, new_generation
from chat_stats.service.catalogue.aggregations import Query
from chat_stats.service.catalogue.rows import rows_of
from chat_stats.service.compute.computed import Computed
from chat_stats.service.compute.ladder import Results, compute_together
from chat_stats.service.database.snapshot import Snapshot
from chat_stats.service.errors import ChatStatsError


@asynccontextmanager
async def next_generation(
    snapshot: Snapshot, publication: Publication, *, timeout: float, functions_only: bool = False
) -> AsyncIterator["NextGeneration"]:
    """Begin one; what was not published when the block ends is removed."""
    report = RefreshReport(new_generation(snapshot.now), snapshot.now)
    async with publication.prepare(report.generation) as prepared, _Beside() as storing:
        yield NextGeneration(snapshot, report, prepared, storing, timeout, functions_only)


class NextGeneration:
    """Made by `next_generation`."""

    def __init__(
        self,
        snapshot: Snapshot,
        report: RefreshReport,
        prepared: Prepared,
        storing: "_Beside",
        timeout: float,
        functions_only: bool,
    ) -> None:
        self._snapshot = snapshot
        self._prepared = prepared
        self._storing = storing
        self._timeout = timeout
        self._functions_only = functions_only
        self._started = time.perf_counter()
        self.report = report
        #: Why something could not be computed.
        self.failure: ChatStatsError | None = None

    async def compute(self, queries: Sequence[Query]) -> None:
        """Compute queries over one range, from the same rows; storing them goes on beside the next range."""
        computed = await compute_together(
            self._snapshot, queries, timeout=self._timeout, functions_only=self._functions_only
        )
        await self._storing.start(self._prepare(queries, computed))

    async def done(self) -> RefreshReport:
        """Return the report, once all that was computed is stored."""
        await self._storing.done()
        self.report.entries = len(self._prepared)
        self.report.duration_ms = (time.perf_counter() - self._started) * 1000
        return self.report

    async def publish(self, generation: Generation, *, of_everything: bool = False) -> None:
        self.report.published = await self._prepared.publish(
            generation, of_everything=of_everything, keep_newer=self._snapshot.of_standby
        )

    async def _prepare(self, queries: Sequence[Query], computed: Results) -> None:
        """Report what was computed, and prepare its entries."""
        report = self.report
        for query in queries:
            # Taken out, so that the rows of one answer make way for the next.
            found = computed.pop(query)
            window = query.range.window or "(range)"
            if isinstance(found, ChatStatsError):
                self.failure = found
                report.results.append(Refreshed(query.aggregation, window, None, 0, 0.0, str(found)))
                continue
            rows, ms = len(rows_of(found.data)), found.compute_ms
            report.results.append(Refreshed(query.aggregation, window, found.method, rows, ms))
            entry = entry_of(found, report.generation, report.computed_at, self._snapshot.consistency)
            await self._prepared.add(query.key(), entry)


class _Beside:
    """Runs one thing at a time beside its caller, who waits only for the one before."""

    def __init__(self) -> None:
        self._running: asyncio.Task[None] | None = None

    async def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Start `work` once what runs is done; raises what that raised."""
        try:
            await self.done()
        except BaseException:
            work.close()
            raise
        self._running = asyncio.create_task(work)

    async def done(self) -> None:
        if self._running is not None:
            await self._running

    async def __aenter__(self) -> "_Beside":
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)


def entry_of(computed: Computed, generation: str, computed_at: datetime, consistency: str | None) -> Entry:
    return Entry(
        body=body_of(computed.data),
        totals=computed.totals,
        method=computed.method,
        computed_at=computed_at,
        compute_ms=round(computed.compute_ms, 3),
        generation=generation,
        unavailable=computed.unavailable,
        precision=computed.precision,
        consistency=consistency,
    )
