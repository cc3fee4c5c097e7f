"""`chat-stats refresh`: recompute the statistics, by a worker or here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from chat_stats.service.catalogue.timerange import WINDOWS, parse_window
from chat_stats.service.errors import InvalidParameter, Unavailable
from chat_stats.worker.cli import completion
from chat_stats.worker.cli.output import Json, out, print_error, print_json, run

if TYPE_CHECKING:
    from chat_stats.service.settings import Settings


class RefreshCommand(TyperCommand):
    """Names the aggregations in its own help, and leaves them unread until then."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        self.help = f"{self.help}\n\nAggregations: {', '.join(completion.aggregations(''))}."
        super().format_help(ctx, formatter)


def refresh(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Aggregations. Default: all.", autocompletion=completion.aggregations),
    ] = None,
    window: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Only these windows: {', '.join(WINDOWS)}. Default: CHAT_STATS_WINDOWS.",
            autocompletion=completion.windows,
        ),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the refresh is done.")] = True,
    local: Annotated[
        bool, typer.Option("--local", help="Compute in this process, without a worker.")
    ] = False,
    timeout: Annotated[float, typer.Option(min=0.1, help="Longest wait in seconds.")] = 120.0,
    as_json: Json = False,
) -> None:
    """Recompute the statistics now."""
    from chat_stats.service.catalogue.aggregations import AGGREGATIONS
    from chat_stats.service.settings import load_settings
    from chat_stats.worker.cli import tables

    settings = load_settings()
    for name in names or ():
        if name not in AGGREGATIONS:
            raise InvalidParameter("NAMES", f"unknown aggregation {name!r}; known: {', '.join(AGGREGATIONS)}")
    windows = [parse_window(text) for text in window or ()]
    if local:
        report = run(_refresh_here(settings, names or [], windows, timeout), "refreshing")
    else:
        report = run(
            _refresh_by_worker(settings, names or [], windows, wait, timeout), "waiting for the worker"
        )
    if "error" in report:
        print_error(report["error"])
        raise typer.Exit(report["exit_code"])
    if as_json:
        print_json(report)
    elif "results" not in report:
        out.print(f"queued as job {report['job_id']}", highlight=False)
    else:
        tables.print_refresh(out, report)
    if any(result["error"] for result in report.get("results", ())) or not report.get("published", True):
        raise typer.Exit(1)


async def _refresh_here(
    settings: Settings, names: list[str], windows: list[str], timeout: float
) -> dict[str, Any]:
    from chat_stats.service.cache.store import Cache, connect
    from chat_stats.service.database.pool import Database
    from chat_stats.service.stats import Stats
    from chat_stats.worker import tasks
    from chat_stats.worker.main import PUBLISH_SECONDS

    database = Database(settings, application_name="chat-stats refresh")
    redis_url = settings.redis_url.get_secret_value()
    cache = Cache(settings, connect(redis_url, timeout_seconds=PUBLISH_SECONDS), database.clock)
    stats = Stats(settings, database, cache)
    await database.open()
    try:
        return await tasks.refresh_on_request(
            settings, stats, names, windows, retry_seconds=min(5.0, timeout)
        )
    finally:
        await stats.close()
        await database.close()
        await cache.close()


async def _refresh_by_worker(
    settings: Settings, names: list[str], windows: list[str], wait: bool, timeout: float
) -> dict[str, Any]:
    from chat_stats.service.queue import Queue

    queue = Queue(settings)
    try:
        if wait and not await queue.worker_alive():
            raise Unavailable("no worker has reported lately; start one, or use --local")
        job_id = await queue.enqueue_refresh(names, windows)
        if not wait:
            return {"job_id": job_id}
        return {"job_id": job_id, **await queue.result(job_id, timeout=timeout)}
    except TimeoutError:
        raise Unavailable(f"the refresh was not done after {timeout:g} s; it stays queued") from None
    finally:
        await queue.close()
