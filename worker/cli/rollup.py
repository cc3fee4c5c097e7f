"""The `chat-stats rollup` commands."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from chat_stats.service.catalogue.timerange import parse_age, parse_moment
from chat_stats.service.errors import InvalidParameter
from chat_stats.worker.cli import own_rollups
from chat_stats.worker.cli.output import Json, out, print_json

if TYPE_CHECKING:
    from chat_stats.service.rollup.retention import Purge
    from chat_stats.service.rollup.state import RollupStatus
    from chat_stats.service.rollup.upkeep import Rollup
    from chat_stats.service.settings import Settings

app = typer.Typer(
    help="The rollup: totals kept up to date by triggers, so that answers do not grow with the table.",
    no_args_is_help=True,
)
app.command("add")(own_rollups.add)
app.command("remove")(own_rollups.remove)
app.command("list")(own_rollups.list_rollups)


@app.command()
def enable() -> None:
    """Switch the rollup on over the live table, or resume an interrupted backfill."""
    _with_progress("backfilling", lambda rollup, progress: rollup.enable(progress))
    out.print("the rollup is on")


@app.command()
def disable() -> None:
    """Switch the rollup off: the functions scan the requests again."""
    from chat_stats.service.rollup.upkeep import open_rollup
    from chat_stats.service.settings import load_settings

    async def work(settings: Settings) -> None:
        async with open_rollup(settings) as rollup:
            await rollup.disable()

    asyncio.run(work(load_settings()))
    out.print("the rollup is off")


@app.command()
def status(as_json: Json = False) -> None:
    """Show the rollup's state, its unfolded deltas, its size, and the last fold and audit.

    Exits with 1 when it is damaged.
    """
    from chat_stats.service.rollup.upkeep import open_rollup
    from chat_stats.service.settings import load_settings

    async def work(settings: Settings) -> Any:
        async with open_rollup(settings) as rollup:
            return await rollup.status()

    found = asyncio.run(work(load_settings()))
    if as_json:
        print_json(asdict(found))
    else:
        table = Table("rollup", "")
        share = found.rollup_bytes / found.table_bytes if found.table_bytes else 0
        table.add_row("state", escape(str(found)))
        table.add_row("deltas not folded yet", f"{found.unfolded_deltas:,}")
        table.add_row("size", f"{found.rollup_bytes / 1e6:,.1f} MB, {share:.0%} of the table")
        table.add_row("last fold", _moment(found.folded_at))
        table.add_row("last audit", _moment(found.audited_at))
        table.add_row("drift", f"{found.drift} buckets")
        table.add_row("purged", _purged(found))
        table.add_row("deletes", _retained(found))
        out.print(table)
    raise typer.Exit(1 if found.state == "damaged" else 0)


@app.command()
def verify() -> None:
    """Compare all rollups with the requests. Exits with 1 when one differs."""
    drift = _with_progress("verifying", lambda rollup, progress: rollup.compare(progress))
    out.print(f"{drift.total():,} buckets differ from the requests", highlight=False)
    for name, places in sorted(drift.items()):
        out.print(f"  {places:,} of the rollup {name}", highlight=False)
    raise typer.Exit(1 if drift else 0)


@app.command()
def repair() -> None:
    """Make all rollups equal to the requests again."""
    repaired = _with_progress("repairing", lambda rollup, progress: rollup.repair(progress))
    out.print(f"{repaired:,} buckets were repaired", highlight=False)


@app.command()
def purge(
    before: Annotated[
        str, typer.Option(help="Date or datetime, ISO 8601, UTC unless an offset is given.", metavar="DATE")
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only report and verify what would be deleted.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Delete the requests that are older than DATE, and keep their statistics.

    Works in small transactions, and verifies the rollup against the requests before each. If they differ,
    deletes nothing more and exits with 1.
    """
    from chat_stats.service.rollup.retention import open_retention
    from chat_stats.service.settings import load_settings
    from chat_stats.worker.cli.progress import bar

    moment = parse_moment("before", before)

    async def work(settings: Settings) -> Purge:
        async with open_retention(settings) as retention:
            requests = await retention.estimate_requests(moment)
            with bar("verifying" if dry_run else "purging", requests) as reached:
                return await retention.purge(moment, reached, dry_run=dry_run)

    done = asyncio.run(work(load_settings()))
    if as_json:
        print_json(asdict(done))
    else:
        table = Table("would be purged" if dry_run else "purged", "")
        table.add_row("requests", f"{done.requests:,}")
        table.add_row("buckets of 15 minutes", f"{done.buckets:,}")
        table.add_row("older than", done.before)
        table.add_row("oldest", done.oldest or "none")
        table.add_row("newest", done.newest or "none")
        table.add_row("verified", _verified(done))
        out.print(table)
    raise typer.Exit(1 if done.differing else 0)


@app.command()
def retain(
    older_than: Annotated[
        str | None, typer.Option(help="Age like 36h, 90d or 13w.", metavar="AGE", show_default=False)
    ] = None,
    off: Annotated[
        bool, typer.Option("--off", help="Deletes take their statistics with them again.")
    ] = False,
) -> None:
    """Keep the statistics of requests older than AGE when others delete them.

    Without an option, shows what is set.
    """
    from chat_stats.service.rollup.retention import open_retention
    from chat_stats.service.rollup.upkeep import open_rollup
    from chat_stats.service.settings import load_settings

    if off and older_than is not None:
        raise InvalidParameter("off", "give either an age or --off")
    age = None if older_than is None else parse_age("older-than", older_than)

    async def work(settings: Settings) -> RollupStatus:
        async with open_retention(settings) as retention:
            if off or age is not None:
                await retention.retain(age)
        async with open_rollup(settings) as rollup:
            return await rollup.status()

    out.print(_retained(asyncio.run(work(load_settings()))), highlight=False)


def _retained(found: RollupStatus) -> str:
    kept = f"; {found.retained_requests:,} requests so far" if found.retained_requests else ""
    if found.retain_older_than_seconds is None:
        return f"deletes take their statistics with them{kept and f' (kept before: {kept[2:]})'}"
    age = timedelta(seconds=found.retain_older_than_seconds)
    said = (
        f"{age.days} days" if age % timedelta(days=1) == timedelta() else f"{age // timedelta(hours=1)} hours"
    )
    return f"deletes of requests older than {said} keep their statistics{kept}"


def _verified(done: Purge) -> str:
    if not done.differing:
        return "the rollup equals the requests"
    return f"{done.differing:,} buckets differ from the requests; run: chat-stats rollup repair"


def _with_progress(description: str, work: Callable[[Rollup, Callable[[int], None]], Awaitable[Any]]) -> Any:
    from chat_stats.service.rollup.upkeep import open_rollup
    from chat_stats.service.settings import load_settings
    from chat_stats.worker.cli.progress import bar_of_chunks

    async def run(settings: Settings) -> Any:
        async with open_rollup(settings) as rollup:
            requests = await rollup.estimate_requests()
            with bar_of_chunks(description, requests) as advance:
                return await work(rollup, advance)

    return asyncio.run(run(load_settings()))


def _purged(found: RollupStatus) -> str:
    if found.purged_before is None:
        return "nothing"
    return (
        f"{found.purged_requests:,} requests before {_moment(found.purged_before)}, "
        f"kept as sums in {found.purged_bytes / 1e6:,.1f} MB"
    )


def _moment(moment: Any) -> str:
    return "never" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S} UTC"
