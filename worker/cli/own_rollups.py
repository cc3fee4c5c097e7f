"""The commands that add, remove and list rollups: `chat-stats rollup add`, `remove` and `list`."""

import asyncio
from dataclasses import asdict
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from chat_stats.service.rollup.own import Estimate, OwnStatus, open_own_rollups
from chat_stats.service.settings import Settings, load_settings
from chat_stats.worker.cli.progress import bar

out = Console()
err = Console(stderr=True)

#: Beyond these, `add` asks first: groups of its dimensions' values, and bytes.
MANY_GROUPS = 1_000_000
LARGE_BYTES = 10_000_000_000


def add(
    name: Annotated[str, typer.Argument(help="Its name: a-z, 0-9 and _.")],
    by: Annotated[
        str,
        typer.Option(help="Its dimensions, separated by commas.", metavar="DIMENSIONS", show_default=False),
    ],
    no_percentiles: Annotated[
        bool, typer.Option("--no-percentiles", help="Without the histograms of times: smaller.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask, however large it will be.")] = False,
) -> None:
    """Keep totals by dimensions, over the live table; or resume an interrupted backfill.

    First says how many groups and rows it expects, and how large they will be.
    """

    async def work(settings: Settings) -> None:
        async with open_own_rollups(settings) as rollups:
            dimensions = [part.strip() for part in by.split(",") if part.strip()]
            wanted = await rollups.declare(name, dimensions, percentiles=not no_percentiles)
            expected = await rollups.estimate(wanted)
            err.print(_expected(name, expected), highlight=False, soft_wrap=True)
            large = expected.groups > MANY_GROUPS or expected.size_bytes > LARGE_BYTES
            if large and not yes:
                typer.confirm("Add it?", abort=True, err=True)
            with bar("backfilling", expected.requests) as reached:
                covered = 0

                def advance(more: int) -> None:
                    nonlocal covered
                    covered += more
                    reached(covered)

                await rollups.add(wanted, advance)

    asyncio.run(work(load_settings()))
    out.print(f"the rollup {name} is on", highlight=False)


def remove(name: Annotated[str, typer.Argument(help="Its name.")]) -> None:
    """Remove a rollup that was added: its tables, and what is kept for it alone."""

    async def work(settings: Settings) -> None:
        async with open_own_rollups(settings) as rollups:
            await rollups.remove(name)

    asyncio.run(work(load_settings()))
    out.print(f"the rollup {name} is removed", highlight=False)


def list_rollups(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List all rollups with their dimensions, states and sizes. Exits with 1 when one is damaged."""

    async def work(settings: Settings) -> list[OwnStatus]:
        async with open_own_rollups(settings) as rollups:
            return await rollups.list_all()

    found = asyncio.run(work(load_settings()))
    if as_json:
        listed = [asdict(each) for each in found]
        out.out(orjson.dumps(listed, option=orjson.OPT_INDENT_2).decode(), highlight=False)
    else:
        table = Table("rollup", "by", "percentiles", "state")
        table.add_column("size", justify="right")
        for each in found:
            table.add_row(
                each.name,
                escape(", ".join(each.dimensions)) or "(nothing)",
                "yes" if each.percentiles else "no",
                escape(_state(each)),
                f"{each.size_bytes / 1e6:,.1f} MB",
            )
        out.print(table)
    raise typer.Exit(1 if any(each.state == "damaged" for each in found) else 0)


def _expected(name: str, expected: Estimate) -> str:
    return (
        f"{name}: about {expected.groups:,} groups and {expected.day_rows:,} rows by day, of "
        f"{expected.requests:,} requests; about {expected.size_bytes / 1e6:,.0f} MB"
    )


def _state(each: OwnStatus) -> str:
    state = f"{each.state}: {each.reason}" if each.reason else each.state
    if each.whole_from is not None:
        state += f"; without what was purged before {each.whole_from:%Y-%m-%d %H:%M} UTC"
    return state
