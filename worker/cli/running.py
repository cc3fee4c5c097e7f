"""The commands that start the processes, install what they need, and look after them."""

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from chat_stats.worker.cli.output import Json, err, out, print_json, run


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on [CHAT_STATS_HOST].")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to listen on [CHAT_STATS_PORT].")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Number of processes.")] = 1,
) -> None:
    """Serve the API over HTTP."""
    from chat_stats.service.cache.cluster import refuse_cluster
    from chat_stats.service.http import server as processes
    from chat_stats.service.observability.logs import configure_logging
    from chat_stats.service.observability.shared_counts import shared_folder
    from chat_stats.service.settings import load_settings

    settings = load_settings()
    configure_logging(settings)
    asyncio.run(refuse_cluster(settings))
    try:
        with shared_folder(workers):
            processes.serve(settings, host or settings.host, settings.port if port is None else port, workers)
    except SystemExit as ended:  # uvicorn's exit codes have other meanings
        raise typer.Exit(1 if ended.code else 0) from None


def worker() -> None:
    """Keep the statistics computed: refresh them at every interval and on request."""
    from chat_stats.service.cache.cluster import refuse_cluster
    from chat_stats.service.observability import tracing
    from chat_stats.service.observability.logs import configure_logging
    from chat_stats.service.settings import load_settings
    from chat_stats.worker import main as worker_main

    settings = load_settings()
    configure_logging(settings)
    asyncio.run(refuse_cluster(settings))
    tracing.start("chat-stats worker", redis=False)
    asyncio.run(worker_main.run(settings))
    tracing.stop()


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
    from chat_stats.service.settings import load_settings

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


def status(
    worker_only: Annotated[
        bool, typer.Option("--worker", help="Only say whether a worker is alive, by the exit code.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show whether all is well, and what is cached, how old, and computed by which method.

    Tab-separated when piped. Exits with 1 when it finds a problem.
    """
    from chat_stats.service.settings import load_settings
    from chat_stats.worker.cli import status as worker_status
    from chat_stats.worker.cli import status_view

    settings = load_settings()
    if worker_only:
        alive = run(worker_status.worker_alive(settings))
        out.print("alive" if alive else "no worker has reported lately")
        raise typer.Exit(0 if alive else 1)
    found = run(worker_status.collect(settings))
    if as_json:
        print_json({**asdict(found), "healthy": found.healthy})
    else:
        status_view.show(out, found)
    raise typer.Exit(0 if found.healthy else 1)


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
