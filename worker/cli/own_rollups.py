"""The commands that add, remove and list rollups: `chat-stats rollup add`, `remove` and `list`."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from chat_stats.worker.cli import completion
from chat_stats.worker.cli.output import Json, err, out, print_json, print_tabs

if TYPE_CHECKING:
    from chat_stats.service.rollup.own import Estimate, OwnStatus
    from chat_stats.service.settings import Settings

#: Beyond these, `add` asks first: groups of its dimensions' values, and bytes.
MANY_GROUPS = 1_000_000
LARGE_BYTES = 10_000_000_000


def add(
    name: Annotated[str, typer.Argument(help="Its name: a-z, 0-9 and _.")],
    by: Annotated[
        str,
        typer.Option(
            help="Its dimensions, separated by commas.",
            metavar="DIMENSIONS",
            show_default=False,
            autocompletion=completion.dimensions,
        ),
    ],
    no_percentiles: Annotated[
        bool, typer.Option("--no-percentiles", help="Without the histograms of times: smaller.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask, however large it will be.")] = False,
) -> None:
    """Keep totals by dimensions, over the live table; or resume an interrupted backfill.

    First says how many groups and rows it expects, and how large they will be.
    """
    from chat_stats.service.rollup.own import open_own_rollups
    from chat_stats.service.settings import load_settings
    from chat_stats.worker.cli.progress import bar_of_chunks

    async def work(settings: Settings) -> None:
        async with open_own_rollups(settings) as rollups:
            dimensions = [part.strip() for part in by.split(",") if part.strip()]
            wanted = await rollups.declare(name, dimensions, percentiles=not no_percentiles)
            expected = await rollups.estimate(wanted)
            err.print(_expected(name, expected), highlight=False, soft_wrap=True)
            large = expected.groups > MANY_GROUPS or expected.size_bytes > LARGE_BYTES
            if large and not yes:
                typer.confirm("Add it?", abort=True, err=True)
            with bar_of_chunks("backfilling", expected.requests) as advance:
                await rollups.add(wanted, advance)

    asyncio.run(work(load_settings()))
    out.print(f"the rollup {name} is on", highlight=False)


def remove(
    name: Annotated[str, typer.Argument(help="Its name.", autocompletion=completion.rollups)],
) -> None:
    """Remove a rollup that was added: its tables, and what is kept for it alone."""
    from chat_stats.service.rollup.own import open_own_rollups
    from chat_stats.service.settings import load_settings

    async def work(settings: Settings) -> None:
        async with open_own_rollups(settings) as rollups:
            await rollups.remove(name)

    asyncio.run(work(load_settings()))
    out.print(f"the rollup {name} is removed", highlight=False)


def list_rollups(as_json: Json = False) -> None:
    """List all rollups with their dimensions, states and sizes. Exits with 1 when one is damaged."""
    from chat_stats.service.rollup.own import open_own_rollups
    from chat_stats.service.settings import load_settings

    async def work(settings: Settings) -> list[OwnStatus]:
        async with open_own_rollups(settings) as rollups:
            return await rollups.list_all()

    found = asyncio.run(work(load_settings()))
    if as_json:
        print_json([asdict(each) for each in found])
    elif not out.is_terminal:
        print_tabs(map(_cells, found))
    else:
        table = Table("rollup", "by", "percentiles", "state")
        table.add_column("size", justify="right")
        for each in found:
            table.add_row(
                each.name,
                escape(", ".join(each.dimensions)) or "(nothing)",
                "yes" if each.percentiles else "no",
                escape(_state(each)),
                "unknown: locked" if each.size_bytes is None else f"{each.size_bytes / 1e6:,.1f} MB",
            )
        out.print(table)
    raise typer.Exit(1 if any(each.state == "damaged" for each in found) else 0)


def _expected(name: str, expected: Estimate) -> str:
    return (
        f"{name}: about {expected.groups:,} groups and {expected.day_rows:,} rows by day, of "
        f"{expected.requests:,} requests; about {expected.size_bytes / 1e6:,.0f} MB"
    )


def _cells(each: OwnStatus) -> tuple[object, ...]:
    """Return what a script reads of a rollup."""
    return (
        each.name,
        ",".join(each.dimensions),
        "yes" if each.percentiles else "no",
        each.state,
        each.size_bytes,
        None if each.whole_from is None else each.whole_from.isoformat(),
        each.reason,
    )


def _state(each: OwnStatus) -> str:
    state = f"{each.state}: {each.reason}" if each.reason else each.state
    if each.whole_from is not None:
        state += f"; without what was purged before {each.whole_from:%Y-%m-%d %H:%M} UTC"
    return state
