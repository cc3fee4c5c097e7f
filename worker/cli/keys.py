"""The `chat-stats key` commands."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.markup import escape
from rich.table import Table

from chat_stats.worker.cli import completion
from chat_stats.worker.cli.output import Json, err, out, print_json, print_tabs

if TYPE_CHECKING:
    from chat_stats.service.keys.table import KeptKey, KeyTable
    from chat_stats.service.settings import Settings

app = typer.Typer(
    help="Scoped keys: each reads the statistics of some requests alone, such as those of one user.",
    no_args_is_help=True,
)
Result = TypeVar("Result")


@app.command()
def create(
    name: Annotated[str, typer.Option(help="Name to list and revoke it by.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(help="What it may read: dimension=value, such as user_id=42. Repeated: all of them."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a key and print it. It is shown only now: what is kept is a hash."""
    from chat_stats.service.keys.scopes import parse_scope, written
    from chat_stats.service.keys.table import check_name
    from chat_stats.service.settings import PREFIX, load_settings

    settings = load_settings()
    check_name(name)
    parsed = parse_scope(scope or [], settings.known_dimensions)
    key = _run(settings, lambda keys: keys.create(name, parsed))
    if not settings.needs_key:
        err.print(
            f"[yellow]warning:[/] reading is open, and keys mean nothing there: set {PREFIX}REQUIRE_KEY=true",
            soft_wrap=True,
        )
    if as_json:
        print_json({"name": name, "scope": written(parsed), "key": key})
    else:
        err.print(f"The key {escape(name)}, which is shown only now:", highlight=False, soft_wrap=True)
        out.out(key, highlight=False)


@app.command(name="list")
def list_(as_json: Json = False) -> None:
    """Show the keys by name, with their scopes. Exits with 1 when one cannot be used."""
    from chat_stats.service.settings import load_settings

    found = _run(load_settings(), lambda keys: keys.listed())
    if as_json:
        print_json([asdict(each) for each in found])
    elif not out.is_terminal:
        print_tabs((each.name, _scope(each), each.created_at.isoformat(), each.trouble) for each in found)
    else:
        table = Table("key", "scope", "made")
        for each in found:
            scope = escape(each.trouble or _scope(each))
            table.add_row(escape(each.name), scope, f"{each.created_at:%Y-%m-%d %H:%M} UTC")
        out.print(table)
    raise typer.Exit(1 if any(each.trouble for each in found) else 0)


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(help="The key's name.", autocompletion=completion.keys)],
) -> None:
    """End a key: within a second, no process that reaches the database accepts it."""
    from chat_stats.service.settings import load_settings

    _run(load_settings(), lambda keys: keys.revoke(name))
    out.print(f"revoked: {escape(name)}", highlight=False, soft_wrap=True)


def _scope(key: KeptKey) -> str:
    return ", ".join(f"{name}={value}" for name, value in (key.scope or {}).items())


def _run(settings: Settings, work: Callable[[KeyTable], Awaitable[Result]]) -> Result:
    from chat_stats.service.keys.table import open_keys

    async def run() -> Result:
        async with open_keys(settings) as keys:
            return await work(keys)

    return asyncio.run(run())
