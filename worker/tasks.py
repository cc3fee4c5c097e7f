"""The worker's jobs as plain coroutines: scheduled and requested refreshes, folds, audits and purges."""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_delay,
    wait_random_exponential,
)

from chat_stats.service.cache.refresh_report import RefreshReport
from chat_stats.service.errors import ChatStatsError, SchemaError, Unavailable
from chat_stats.service.rollup.retention import Purge, open_retention
from chat_stats.service.rollup.upkeep import open_rollup
from chat_stats.service.settings import Settings
from chat_stats.service.stats import Stats
from chat_stats.worker import metrics

logger = logging.getLogger(__name__)

#: Requests after which the worker's purge makes room for other upkeep until it is due again.
PURGE_REQUESTS = 100_000

#: Seconds for which a requested refresh is retried during an outage.
REQUESTED_RETRY_SECONDS = 45.0


async def refresh_when_due(
    settings: Settings, stats: Stats, also: Iterable[str] = ()
) -> RefreshReport | None:
    """Refresh everything, unless a refresh took place within half of the interval; then return None.

    `also` are windows of other workers, beside those of the settings.
    During an outage it is retried with growing pauses until the next refresh is due.
    """
    interval = settings.refresh_interval_seconds
    async for attempt in _retrying(interval):
        with attempt:
            report = await stats.refresh(also=also, unless_newer_than_seconds=interval / 2)
            if report is not None:
                log(report)
            return report
    return None  # pragma: no cover  (the last attempt raises)


async def refresh_on_request(
    settings: Settings,
    stats: Stats,
    names: Iterable[str] = (),
    windows: Iterable[str] = (),
    *,
    retry_seconds: float = REQUESTED_RETRY_SECONDS,
) -> dict[str, Any]:
    """Refresh, and return the report once no process serves anything older than it.

    An error is part of the report (`error`, `exit_code`), so that it reaches the caller.
    """
    try:
        async for attempt in _retrying(retry_seconds):
            with attempt:
                report = await stats.refresh(names, windows)
    except ChatStatsError as error:
        metrics.count_failure(metrics.REFRESH_FAILURES, error)
        logger.warning("refresh failed: %s", error)
        return {"error": str(error), "exit_code": error.exit_code}
    assert report is not None, "a requested refresh runs however new the last one is"
    log(report)
    # Wait until no process uses an older copy or waits for an older reply (Redis is asked at most twice).
    await asyncio.sleep(max(settings.local_cache_seconds, 2 * settings.redis_timeout_seconds))
    return {**asdict(report), "computed_at": report.computed_at.isoformat()}


async def fold(settings: Settings) -> int:
    """Fold the rollup's deltas, if it is on, and cover new partitions; return the number of deltas."""
    async with open_rollup(settings) as rollup:
        if not await rollup.has_triggers():
            return 0
        folded = await rollup.fold()
        metrics.FOLDED_DELTAS.inc(folded)
        await rollup.cover_partitions()
        return folded


async def audit(settings: Settings) -> int:
    """Audit the rollup, if its state is "on"; return the drift that was found."""
    async with open_rollup(settings) as rollup:
        if (await rollup.state()).state != "on":
            return 0
        drift = await rollup.audit()
        metrics.AUDITS.inc()
        return drift


async def purge(settings: Settings, now: datetime) -> Purge | None:
    """Purge some of the requests that are older than the settings say; None without such a setting.

    As `rollup purge` does: only with the rollup on, and only what the rollup was found to know.
    """
    if settings.purge_after_days is None:
        return None
    async with open_retention(settings) as retention:
        purged = await retention.purge(
            now - timedelta(days=settings.purge_after_days), lambda _requests: None, at_most=PURGE_REQUESTS
        )
    metrics.PURGED_REQUESTS.inc(purged.requests)
    if purged.differing:
        raise SchemaError(
            f"the rollup differs from the requests in {purged.differing} buckets; these requests were kept. "
            "Run: chat-stats rollup repair"
        )
    metrics.LAST_PURGE.set_to_current_time()
    if purged.requests:
        logger.info("purged %d requests before %s", purged.requests, purged.before)
    return purged


def log(report: RefreshReport) -> None:
    metrics.REFRESH_DURATION.observe(report.duration_ms / 1000)
    logger.info(
        "refreshed %d entries in %.0f ms, generation %s",
        report.entries,
        report.duration_ms,
        report.generation,
    )
    for result in report.failed:
        metrics.REFRESH_PART_FAILURES.labels(result.aggregation).inc()
        logger.warning("%s for %s was not refreshed: %s", result.aggregation, result.window, result.error)
    if not report.published:
        logger.warning("generation %s was not published: a later one exists", report.generation)


def _retrying(seconds: float) -> AsyncRetrying:
    told: set[str] = set()

    def tell(state: RetryCallState) -> None:
        """Log each trouble once: the first attempts follow each other within a second."""
        trouble = str(state.outcome.exception()) if state.outcome else ""
        if trouble not in told:
            told.add(trouble)
            logger.info("the refresh waits, and is tried again for %g s: %s", seconds, trouble)

    return AsyncRetrying(
        retry=retry_if_exception_type(Unavailable),
        wait=wait_random_exponential(multiplier=0.25, max=10),
        stop=stop_after_delay(seconds),
        reraise=True,
        before_sleep=tell,
    )
