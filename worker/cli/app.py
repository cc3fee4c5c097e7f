"""The `chat-stats` command.

Exit codes: 0 done; 1 an unexpected error, or a problem was found; 2 wrong usage or settings; 3 the database
lacks something; 4 a server cannot be reached.
"""

import asyncio
import sys
from collections.abc import Coroutine
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import orjson
import typer
from rich.console import Console
from rich.markup import escape

from chat_stats.service import VERSION
from chat_stats.service.cache.cluster import refuse_cluster
from chat_stats.service.cache.store import Cache, connect
from chat_stats.service.catalogue.aggregations import AGGREGATIONS
from chat_stats.service.catalogue.timerange import WINDOWS, parse_window
from chat_stats.service.database.pool import Database
from chat_stats.service.errors import ChatStatsError, InvalidParameter, SchemaError, Unavailable
from chat_stats.service.observability import tracing
from chat_stats.service.observability.logs import configure_logging
from chat_stats.service.observability.shared_counts import shared_folder
from chat_stats.service.queue import Queue
from chat_stats.service.settings import Settings, load_settings
from chat_stats.service.stats import Stats
from chat_stats.worker.cli.keys import app as key_app
from chat_stats.worker.cli.mcp import mcp
from chat_stats.worker.cli.query import query
from chat_stats.worker.cli.rollup import app as rollup_app
from chat_stats.worker.demo.loading import load_sample
from chat_stats.worker.importer.fields import FIELDS, option

# A command imports what it alone needs, so that `serve` starts fast.

app = typer.Typer(
    name="chat-stats",
    help="Cached usage statistics of an LLM gateway. Settings come from CHAT_STATS_* variables and .env.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(query)
app.command()(mcp)
app.add_typer(rollup_app, name="rollup")
app.add_typer(key_app, name="key")
out = Console()
err = Console(stderr=True)

Result = TypeVar("Result")

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


def main() -> NoReturn:
    """Run the command; print our errors as one line and exit with their code."""
    try:
        app(standalone_mode=True)
    except ChatStatsError as error:
        _print_error(str(error))
        sys.exit(error.exit_code)
    sys.exit(0)


@app.callback(invoke_without_command=True)
def options(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        out.print(VERSION)
        raise typer.Exit


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on [CHAT_STATS_HOST].")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to listen on [CHAT_STATS_PORT].")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Number of processes.")] = 1,
) -> None:
    """Serve the API over HTTP."""
    from chat_stats.service.http import server as processes

    settings = load_settings()
    configure_logging(settings)
    asyncio.run(refuse_cluster(settings))
    try:
        with shared_folder(workers):
            processes.serve(settings, host or settings.host, settings.port if port is None else port, workers)
    except SystemExit as ended:  # uvicorn's exit codes have other meanings
        raise typer.Exit(1 if ended.code else 0) from None


@app.command()
def worker() -> None:
    """Keep the statistics computed: refresh them at every interval and on request."""
    from chat_stats.worker import main as worker_main

    settings = load_settings()
    configure_logging(settings)
    asyncio.run(refuse_cluster(settings))
    tracing.start("chat-stats worker", redis=False)
    asyncio.run(worker_main.run(settings))
    tracing.stop()


@app.command()
def migrate(
    create_tables: Annotated[
        bool,
        typer.Option("--create-tables", help="Create the gateway's tables even if other tables exist."),
    ] = False,
) -> None:
    """Create or update the functions and indexes (and, on an empty database, the tables)."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from chat_stats.service.database import migrations
    from chat_stats.service.database.rendering import declared

    settings = load_settings()
    files = declared().sql()
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=err
    ) as progress:
        task = progress.add_task("migrating", total=len(files))

        def started(file: str) -> None:
            progress.update(task, advance=1, description=file)

        def warned(message: str) -> None:
            progress.console.print(f"[yellow]warning:[/] {escape(message)}", highlight=False)

        asyncio.run(migrations.migrate(settings, create_tables=create_tables, started=started, warned=warned))
    out.print(f"migrated: {len(files)} files ran", highlight=False)


@app.command()
def refresh(
    names: Annotated[
        list[str] | None, typer.Argument(help=f"Aggregations: {', '.join(AGGREGATIONS)}. Default: all.")
    ] = None,
    window: Annotated[
        list[str] | None,
        typer.Option(help=f"Only these windows: {', '.join(WINDOWS)}. Default: CHAT_STATS_WINDOWS."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the refresh is done.")] = True,
    local: Annotated[
        bool, typer.Option("--local", help="Compute in this process, without a worker.")
    ] = False,
    timeout: Annotated[float, typer.Option(min=0.1, help="Longest wait in seconds.")] = 120.0,
    as_json: Json = False,
) -> None:
    """Recompute the statistics now."""
    from chat_stats.worker.cli import tables

    settings = load_settings()
    for name in names or ():
        if name not in AGGREGATIONS:
            raise InvalidParameter("NAMES", f"unknown aggregation {name!r}; known: {', '.join(AGGREGATIONS)}")
    windows = [parse_window(text) for text in window or ()]
    if local:
        report = _run(_refresh_here(settings, names or [], windows, timeout), "refreshing")
    else:
        report = _run(
            _refresh_by_worker(settings, names or [], windows, wait, timeout), "waiting for the worker"
        )
    if "error" in report:
        _print_error(report["error"])
        raise typer.Exit(report["exit_code"])
    if as_json:
        _print_json(report)
    elif "results" not in report:
        out.print(f"queued as job {report['job_id']}", highlight=False)
    else:
        tables.print_refresh(out, report)
    if any(result["error"] for result in report.get("results", ())) or not report.get("published", True):
        raise typer.Exit(1)


@app.command()
def status(
    worker_only: Annotated[
        bool, typer.Option("--worker", help="Only say whether a worker is alive, by the exit code.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show the cached answers with their ages, and the state of worker, database and functions.

    Exits with 1 when it finds a problem.
    """
    from chat_stats.worker.cli import status as worker_status
    from chat_stats.worker.cli import tables

    settings = load_settings()
    if worker_only:
        alive = _run(worker_status.worker_alive(settings), None)
        out.print("alive" if alive else "no worker has reported lately")
        raise typer.Exit(0 if alive else 1)
    found = _run(worker_status.collect(settings), None)
    if as_json:
        _print_json({**asdict(found), "healthy": found.healthy})
    else:
        tables.print_status(out, found)
    raise typer.Exit(0 if found.healthy else 1)


def _column(field: str) -> Any:
    return typer.Option(
        option(field), help=f"The file's column for {field}; recognised by name: {', '.join(FIELDS[field])}."
    )


Column = str | None


@app.command(name="import")
def import_(
    file: Annotated[Path, typer.Argument(help="A request log as CSV; its first line names the columns.")],
    provider: Annotated[
        str | None, typer.Option(help="Provider of all requests; overrides the file's columns.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Model of all requests; overrides the file's columns.")
    ] = None,
    created_at: Annotated[Column, _column("created_at")] = None,
    input_tokens: Annotated[Column, _column("input_tokens")] = None,
    output_tokens: Annotated[Column, _column("output_tokens")] = None,
    processing_time_ms: Annotated[Column, _column("processing_time_ms")] = None,
    status: Annotated[Column, _column("status")] = None,
    cost_usd: Annotated[Column, _column("cost_usd")] = None,
    error_message: Annotated[Column, _column("error_message")] = None,
    user_id: Annotated[Column, _column("user_id")] = None,
    request_id: Annotated[Column, _column("request_id")] = None,
    model_column: Annotated[Column, _column("model")] = None,
    provider_column: Annotated[Column, _column("provider")] = None,
    encoding: Annotated[str, typer.Option(help="Encoding of the file.")] = "utf-8",
    delimiter: Annotated[str, typer.Option(help="Character between two cells.")] = ",",
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Load the good lines and skip the bad ones.")
    ] = False,
    empty_tokens: Annotated[
        bool, typer.Option("--empty-tokens", help="Read an empty token cell as 'not known'.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Load a request log. If a line is bad, nothing is loaded. A file loaded twice is counted twice."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    from chat_stats.worker.cli import tables
    from chat_stats.worker.importer.load import ImportOptions, import_csv

    columns = {
        "created_at": created_at,
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "processing_time_ms": processing_time_ms,
        "status": status,
        "cost_usd": cost_usd,
        "error_message": error_message,
        "user_id": user_id,
        "request_id": request_id,
        "model": model_column,
        "provider": provider_column,
    }
    chosen = ImportOptions(
        provider=provider,
        model=model,
        columns={field: name for field, name in columns.items() if name is not None},
        encoding=encoding,
        delimiter=delimiter,
        skip_bad=skip_bad,
        empty_tokens=empty_tokens,
    )
    settings = load_settings()
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,  # else an error would follow an empty line
    ) as progress:
        task = progress.add_task(f"importing {file.name}", total=None)
        result = asyncio.run(
            import_csv(
                settings,
                file,
                chosen,
                progress=lambda done, total: progress.update(task, completed=done, total=total),
            )
        )
    if as_json:
        _print_json(asdict(result))
    else:
        tables.print_import(out, file.name, result)


@app.command()
def sample(
    requests: Annotated[int, typer.Option(min=0, help="Requests to load.")] = 200_000,
) -> None:
    """Load the demo's requests of the last 90 days, if the database is empty."""
    url = load_settings().database_url.get_secret_value()
    if not asyncio.run(load_sample(err, url, requests)):
        raise SchemaError("the database has rows already: the sample needs an empty one")
    out.print(f"{requests:,} requests loaded", highlight=False)


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Folder for the servers' data.")] = Path(".demo"),
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port of the service, if it is free [CHAT_STATS_PORT]."),
    ] = None,
    requests: Annotated[int, typer.Option(min=0, help="Requests to load at the first start.")] = 200_000,
) -> None:
    """Run the whole stack on this machine, with sample data. Ctrl-C stops it."""
    from chat_stats.worker.demo.run import run_demo  # needs the packages of the extra "demo"

    raise typer.Exit(run_demo(folder=folder, port=port, requests=requests))


async def _refresh_here(
    settings: Settings, names: list[str], windows: list[str], timeout: float
) -> dict[str, Any]:
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


def _run(work: Coroutine[Any, Any, Result], description: str | None) -> Result:
    if description is None or not err.is_terminal:
        return asyncio.run(work)
    with err.status(description):
        return asyncio.run(work)


def _print_error(message: str) -> None:
    # Messages quote what users wrote: brackets in them must not be read as markup.
    err.print(f"[bold red]error:[/] {escape(message)}", highlight=False, soft_wrap=True)


def _print_json(value: Any) -> None:
    out.out(orjson.dumps(value, option=orjson.OPT_INDENT_2, default=str).decode(), highlight=False)
