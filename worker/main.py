"""The arq worker. `chat-stats worker` runs it; `arq chat_stats.worker.main.WorkerSettings` does too.

arq schedules by the calendar, and releases a crashed worker's job only after its time-out. This module
changes both: `Every` schedules at any number of seconds, and a running job's in-progress key is a short lease
that its worker keeps renewing.
"""

import asyncio
import logging
import os
import signal
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from arq.connections import ArqRedis
from arq.constants import in_progress_key_prefix
from arq.cron import CronJob, cron
from arq.worker import Worker, func, get_kwargs

from chat_stats.service.cache.errors import TROUBLE, named, trouble_of
from chat_stats.service.cache.store import Cache, connect
from chat_stats.service.catalogue.timerange import WINDOWS
from chat_stats.service.database.pool import Database
from chat_stats.service.errors import ChatStatsError, DatabaseBusy, SettingsError
from chat_stats.service.observability.exposition import serve_counts
from chat_stats.service.queue import (
    REFRESH_JOB,
    connect_queue,
    deserialize,
    health_key,
    purge_key,
    queue_name,
    serialize,
    waiting_key,
    windows_key,
)
from chat_stats.service.settings import PREFIX, Settings, load_settings
from chat_stats.service.stats import Stats
from chat_stats.worker import metrics, tasks
from chat_stats.worker.live_totals import LOOKS, LiveTotals

logger = logging.getLogger(__name__)

#: Seconds after which another worker takes over the job of a worker that died.
LEASE_SECONDS = 6
#: Lifetime in seconds of the worker's heartbeat; it is renewed with the leases.
HEALTH_SECONDS = 12
#: Seconds that running jobs get to finish after SIGTERM, and to end once they are cancelled.
STOP_SECONDS = 10
CANCEL_SECONDS = 1
#: Seconds for closing the connections, and after which the process ends in any case.
CLOSE_SECONDS = 2
END_SECONDS = 18
#: Seconds for which a worker's windows count as those of a worker that runs, whatever the hosts' clocks say.
ANNOUNCED_SECONDS = 60
#: Longest run of one job. The time-outs of a refresh's statements end it long before.
JOB_SECONDS = 3600
#: Seconds between two folds of the rollup's deltas: reads add what is not folded, so it need not be sooner.
FOLD_SECONDS = 5.0
#: Seconds between two steps of the purge of old requests.
PURGE_SECONDS = 600.0
#: Longest pause before the worker tries to reach its queue again, so that a failover is soon over.
LONGEST_PAUSE_SECONDS = 2.0
#: Seconds to wait for Redis: entries may be large.
PUBLISH_SECONDS = 10.0


class Every(CronJob):
    """A schedule with a fixed interval, at instants that are the same for all workers."""

    interval: float

    def calculate_next(self, prev_run: datetime) -> None:
        # Counted from now, not from the last run: runs that a frozen process missed are not made up for.
        now = max(prev_run.timestamp(), time.time())
        following = (now // self.interval + 1) * self.interval
        self.next_run = datetime.fromtimestamp(following, UTC)


def every(interval: float, job: CronJob) -> Every:
    """Return `job` on a schedule of every `interval` seconds."""
    schedule = Every(**job.__dict__)
    schedule.interval = interval
    return schedule


class LeasedWorker(Worker):
    """arq's worker with short leases on its jobs, which `_renew_leases` renews."""

    def __init__(self, settings: type) -> None:
        chosen: dict[str, Any] = get_kwargs(settings)  # its annotation is wrong
        super().__init__(**chosen)
        self.in_progress_timeout_s = LEASE_SECONDS

    async def start_jobs(self, job_ids: list[bytes]) -> None:
        # The lease expires while this process is frozen. The job still runs here, and must not start twice.
        running = {job_id.encode() for job_id, task in self.tasks.items() if not task.done()}
        await super().start_jobs([job_id for job_id in job_ids if job_id not in running])


async def start(ctx: dict[str, Any]) -> None:
    """Open what the jobs need."""
    settings: Settings = ctx["settings"]
    redis_url = settings.redis_url.get_secret_value()
    ctx["database"] = Database(settings, application_name="chat-stats worker")
    ctx["cache"] = Cache(settings, connect(redis_url, timeout_seconds=PUBLISH_SECONDS), ctx["database"].clock)
    ctx["stats"] = Stats(settings, ctx["database"], ctx["cache"])
    ctx["live_totals"] = LiveTotals(ctx["stats"], interval_seconds=settings.live_interval_seconds)
    ctx["refreshing"] = asyncio.Lock()
    await ctx["database"].open()


async def stop(ctx: dict[str, Any]) -> None:
    if "stats" not in ctx:  # Redis failed before `start` ran
        return
    await ctx["stats"].close()
    await ctx["database"].close()
    await ctx["cache"].close()


async def scheduled_refresh(ctx: dict[str, Any]) -> None:
    if ctx["refreshing"].locked():  # the previous one still runs, or retries during an outage
        return
    async with ctx["refreshing"]:
        try:
            windows = await _windows_of_all_workers(ctx["redis"], ctx["settings"])
            await tasks.refresh_when_due(ctx["settings"], ctx["stats"], windows)
        except ChatStatsError as error:
            metrics.count_failure(metrics.REFRESH_FAILURES, error)
            interval = ctx["settings"].refresh_interval_seconds
            logger.warning(
                "the refresh that was due failed, and is due again within %g s: %s", interval, error
            )


async def _windows_of_all_workers(redis: ArqRedis, settings: Settings) -> tuple[str, ...]:
    """Return the windows of all workers that share the queue: one of them runs each scheduled refresh."""
    with suppress(*TROUBLE):
        announced = await redis.zrangebyscore(
            windows_key(settings), time.time() - ANNOUNCED_SECONDS, "+inf", withscores=False
        )
        return tuple(window for window in WINDOWS if window.encode() in announced)
    return ()


async def _announce_windows(redis: ArqRedis, settings: Settings) -> None:
    now = time.time()
    await redis.zadd(windows_key(settings), dict.fromkeys(settings.windows, now))
    await redis.zremrangebyscore(windows_key(settings), "-inf", now - ANNOUNCED_SECONDS)


async def scheduled_fold(ctx: dict[str, Any]) -> None:
    try:
        if await tasks.fold(ctx["settings"]):
            ctx["stats"].changes.folded(ctx["database"].clock.now())
    except ChatStatsError as error:
        metrics.count_failure(metrics.FOLD_FAILURES, error)
        logger.warning("could not fold the rollup, and tries again in %g s: %s", FOLD_SECONDS, error)


async def scheduled_totals(ctx: dict[str, Any]) -> None:
    if ctx["refreshing"].locked():
        return
    try:
        await ctx["live_totals"].publish_when_due()
    except ChatStatsError as error:
        # No warning: it is tried again and again, and the refresh says what is wrong.
        metrics.count_failure(metrics.TOTALS_FAILURES, error)
        logger.debug("could not publish totals: %s", error)


async def scheduled_audit(ctx: dict[str, Any]) -> None:
    try:
        await tasks.audit(ctx["settings"])
    except ChatStatsError as error:
        metrics.count_failure(metrics.AUDIT_FAILURES, error)
        interval = ctx["settings"].audit_interval_seconds
        logger.warning("could not audit the rollup, and tries again in %g s: %s", interval, error)


async def scheduled_purge(ctx: dict[str, Any]) -> None:
    settings: Settings = ctx["settings"]
    outcome: dict[str, Any] = {"at": datetime.now(UTC)}
    try:
        purged = await tasks.purge(settings, ctx["database"].clock.now())
        if purged is None:
            return
        outcome |= {"requests": purged.requests, "before": purged.before, "error": None}
    except DatabaseBusy as error:  # other upkeep comes first; what is to go is still there later
        logger.info("the purge waits: %s", error)
        return
    except ChatStatsError as error:
        metrics.count_failure(metrics.PURGE_FAILURES, error)
        logger.warning("could not purge old requests, and tries again in %g s: %s", PURGE_SECONDS, error)
        outcome |= {"requests": 0, "before": None, "error": str(error)}
    with suppress(*TROUBLE):
        await ctx["redis"].set(purge_key(settings), orjson.dumps(outcome))


async def requested_refresh(ctx: dict[str, Any], names: list[str], windows: list[str]) -> dict[str, Any]:
    """Refresh once for all identical requests that arrived before it began."""
    async with ctx["refreshing"]:
        # A request from now on may need newer numbers than this snapshot: it gets a job of its own.
        await ctx["redis"].delete(waiting_key(ctx["settings"], names, windows))
        return await tasks.refresh_on_request(ctx["settings"], ctx["stats"], names, windows)


def worker_settings(settings: Settings) -> type:
    """Return arq's settings class for these settings."""
    refresh = cron(scheduled_refresh, name="scheduled_refresh", run_at_startup=True, max_tries=5)
    fold = cron(scheduled_fold, name="scheduled_fold", max_tries=5)
    audit = cron(scheduled_audit, name="scheduled_audit", max_tries=5)
    purge = cron(scheduled_purge, name="scheduled_purge", run_at_startup=True, max_tries=5)
    totals = cron(scheduled_totals, name="scheduled_totals", max_tries=5)
    return type(
        "WorkerSettings",
        (),
        {
            "functions": [func(requested_refresh, name=REFRESH_JOB, max_tries=5)],
            "cron_jobs": [
                every(settings.refresh_interval_seconds, refresh),
                every(FOLD_SECONDS, fold),
                every(settings.audit_interval_seconds, audit),
                every(PURGE_SECONDS, purge),
                *(
                    [every(settings.live_interval_seconds / LOOKS, totals)]
                    if settings.live_interval_seconds
                    else ()
                ),
            ],
            "redis_pool": connect_queue(settings),
            "queue_name": queue_name(settings),
            "on_startup": start,
            "on_shutdown": stop,
            "handle_signals": False,
            "job_timeout": JOB_SECONDS,
            "keep_result": 300,
            "poll_delay": 0.25,
            "health_check_interval": HEALTH_SECONDS - 1,  # arq adds one
            "health_check_key": health_key(settings),
            "job_serializer": serialize,
            "job_deserializer": deserialize,
            "timezone": UTC,
            "ctx": {"settings": settings},
        },
    )


def __getattr__(name: str) -> Any:
    # Made at the first access, so that importing this module needs no settings.
    if name == "WorkerSettings":
        return worker_settings(load_settings())
    raise AttributeError(name)


async def run(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT; while Redis is down, retry."""
    logging.getLogger("arq.worker").setLevel(logging.WARNING)  # our tasks have their own log lines
    logger.info("refreshing every %g s", settings.refresh_interval_seconds)
    if settings.worker_metrics_port is not None:
        _serve_counts(settings.host, settings.worker_metrics_port)
    stopping = asyncio.Event()

    def stop_soon() -> None:
        if not stopping.is_set():
            stopping.set()
            _end_after(END_SECONDS)

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop_soon)
    pause = 0.5
    queue_log = _QueueLog()
    while not stopping.is_set():
        started = time.monotonic()
        await _work(settings, stopping, queue_log)
        if time.monotonic() - started > LONGEST_PAUSE_SECONDS:
            pause = 0.5
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), pause)
        pause = min(pause * 2, LONGEST_PAUSE_SECONDS, settings.refresh_interval_seconds)


def _end_after(seconds: float) -> None:
    """End the process then, whatever it waits for: by a thread, which nothing in the loop can hold up."""

    def end() -> None:
        logger.error("not stopped after %g s: ending at once", seconds)
        os._exit(1)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def _serve_counts(host: str, port: int) -> None:
    try:
        serve_counts(host, port, metrics.REGISTRY)
    except OSError as error:
        raise SettingsError(f"{PREFIX}WORKER_METRICS_PORT: {host}:{port}: {error.strerror}") from None


class _QueueLog:
    """Logs once when the queue's Redis goes, and once when it is back: it is tried again and again."""

    def __init__(self) -> None:
        self._told: str | None = None

    def fails(self, error: BaseException) -> None:
        trouble = trouble_of(error)
        if self._told != trouble:
            logger.warning("the queue's Redis %s; the worker waits for it (%s)", trouble, named(error))
        self._told = trouble

    def answers(self) -> None:
        if self._told is not None:
            logger.warning("the queue's Redis answers again")
        self._told = None


async def _work(settings: Settings, stopping: asyncio.Event, queue_log: _QueueLog) -> None:
    """Run one arq worker until `stopping` is set, or until it fails because Redis is down."""
    worker = LeasedWorker(worker_settings(settings))
    working = asyncio.create_task(worker.async_run())
    leases = asyncio.create_task(_renew_leases(worker, settings, queue_log))
    told = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({working, told}, return_when=asyncio.FIRST_COMPLETED)
        if told.done():
            logger.info("stopping; running jobs get %d s to finish", STOP_SECONDS)
            worker.allow_pick_jobs = False
            asyncio.get_running_loop().set_exception_handler(_while_stopping)
            if worker.tasks:
                await asyncio.wait(worker.tasks.values(), timeout=STOP_SECONDS)
    finally:
        for task in (told, leases, working):
            task.cancel()
        if worker.main_task is not None:
            worker.main_task.cancel()
        await asyncio.wait({working}, timeout=CANCEL_SECONDS)
        error = None if not working.done() or working.cancelled() else working.exception()
        if isinstance(error, TROUBLE):
            queue_log.fails(error)
        elif isinstance(error, Exception):
            logger.error("the worker failed", exc_info=error)
        await _close(worker)


def _while_stopping(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log at debug level that Redis failed at the end of a job: arq shields that, and nothing awaits it."""
    error = context.get("exception")
    if isinstance(error, TROUBLE):
        logger.debug("the end of a job was not recorded: Redis %s", trouble_of(error))
    else:
        loop.default_exception_handler(context)


async def _renew_leases(worker: Worker, settings: Settings, queue_log: _QueueLog) -> None:
    while True:
        with suppress(*TROUBLE):
            await _announce_windows(worker.pool, settings)
            queue_log.answers()
        await asyncio.sleep(LEASE_SECONDS / 3)
        with suppress(*TROUBLE):
            await worker.pool.pexpire(worker.health_check_key, timedelta(seconds=HEALTH_SECONDS))
            for job_id in list(worker.job_tasks):
                await worker.pool.pexpire(in_progress_key_prefix + job_id, timedelta(seconds=LEASE_SECONDS))


async def _close(worker: Worker) -> None:
    """Cancel the jobs that still run, and close all connections, also those to servers that hang."""
    if worker.tasks:
        for task in worker.tasks.values():
            task.cancel()
        # A cancelled statement waits for the server to confirm that.
        jobs = asyncio.gather(*worker.tasks.values(), return_exceptions=True)
        await asyncio.wait({jobs}, timeout=CANCEL_SECONDS)
    closing = asyncio.create_task(_close_connections(worker))
    await asyncio.wait({closing}, timeout=CLOSE_SECONDS)
    closing.cancel()


async def _close_connections(worker: Worker) -> None:
    # Not by arq's close(), which waits for jobs without a limit.
    with suppress(*TROUBLE):
        await worker.pool.delete(worker.health_check_key)
    with suppress(*TROUBLE):
        await stop(worker.ctx)
    with suppress(*TROUBLE):
        await worker.pool.aclose(close_connection_pool=True)
