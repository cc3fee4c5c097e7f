"""`chat-stats query`: a question by any dimension, with the parameters of `/chat-requests/query`."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from chat_stats.service.errors import InvalidParameter
from chat_stats.worker.cli import completion

if TYPE_CHECKING:
    from chat_stats.service.catalogue.aggregation import Query
    from chat_stats.service.settings import Settings
    from chat_stats.service.stats import Answer

#: What `--format` knows beside a table.
TEXTS = ("csv", "ndjson", "json")


def query(
    group_by: Annotated[
        str,
        typer.Option(help="Up to three dimensions, comma-separated.", autocompletion=completion.dimensions),
    ] = "",
    measures: Annotated[
        str,
        typer.Option(
            help="Comma-separated. Default: those of the endpoint.", autocompletion=completion.measures
        ),
    ] = "",
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            help="NAME=VALUE or NAME!=VALUE; repeated: or.",
            autocompletion=completion.filters,
        ),
    ] = None,
    window: Annotated[
        str,
        typer.Option(help="Such as 24h or 7d. Default: all time.", autocompletion=completion.windows),
    ] = "",
    start_date: Annotated[str, typer.Option(help="Instead of a window: ISO 8601.")] = "",
    end_date: Annotated[str, typer.Option(help="Its end; a date alone includes that day.")] = "",
    bucket: Annotated[
        str,
        typer.Option(help="15m, 1h, 1d, 1w or 1mo: a series.", autocompletion=completion.buckets),
    ] = "",
    timezone: Annotated[str, typer.Option(help="That of the buckets. Default: UTC.")] = "",
    order_by: Annotated[
        str,
        typer.Option(
            help="A measure or a dimension, with - for descending.", autocompletion=completion.orders
        ),
    ] = "",
    limit: Annotated[str, typer.Option(help="Most groups.")] = "",
    compare: Annotated[str, typer.Option(help="previous, or the start of the range to compare with.")] = "",
    format_: Annotated[
        str, typer.Option("--format", help="table, csv, ndjson or json. Default: csv when piped.")
    ] = "",
) -> None:
    """Answer a question by any dimension."""
    from chat_stats.service.catalogue.question_parameters import parse_question
    from chat_stats.service.explorer.exports import FORMATS
    from chat_stats.service.explorer.question_rows import download
    from chat_stats.service.settings import load_settings

    known = ("table", *TEXTS)
    chosen = format_ or ("table" if sys.stdout.isatty() else "csv")
    if chosen not in known:
        raise InvalidParameter("format", f"format: unknown {format_[:40]!r}; known: {', '.join(known)}")
    settings = load_settings()
    given = {
        "group_by": group_by,
        "measures": measures,
        "window": window,
        "start_date": start_date,
        "end_date": end_date,
        "bucket": bucket,
        "timezone": timezone,
        "order_by": order_by,
        "limit": limit,
        "compare": compare,
    }
    items = [(name, value) for name, value in given.items() if value]
    asked = parse_question([*items, *map(_filter, filters or ())], settings.known_dimensions)
    answer = asyncio.run(_read(settings, asked))
    if chosen == "table":
        _print_table(Console(), asked, answer)
    else:
        assert asked.question is not None
        body = asyncio.run(download(answer.entry, asked.question, FORMATS[chosen]))
        sys.stdout.buffer.write(body)


def _filter(text: str) -> tuple[str, str]:
    name, is_given, value = text.partition("=")
    if not (name and is_given):
        raise InvalidParameter("filter", f"filter: {text[:40]!r} is neither NAME=VALUE nor NAME!=VALUE")
    return name, value


async def _read(settings: Settings, asked: Query) -> Answer:
    from chat_stats.service.cache.store import Cache, connect
    from chat_stats.service.database.pool import Database
    from chat_stats.service.stats import Stats

    database = Database(settings, application_name="chat-stats query")
    redis_url = settings.redis_url.get_secret_value()
    cache = Cache(
        settings, connect(redis_url, timeout_seconds=settings.redis_timeout_seconds), database.clock
    )
    stats = Stats(settings, database, cache)
    await database.open()
    try:
        return await stats.read(asked)
    finally:
        await stats.close()
        await database.close()
        await cache.close()


def _print_table(console: Console, asked: Query, answer: Answer) -> None:
    from chat_stats.service.explorer.question_rows import columns, flat_rows

    assert asked.question is not None
    names = columns(asked.question)
    table = Table()
    for name, kind in names.items():
        table.add_column(name, justify="left" if kind in ("text", "moment") else "right")
    for row in flat_rows(answer.entry):
        table.add_row(*(escape(_text(row.get(name))) for name in names))
    console.print(table)
    metadata = answer.entry.totals
    for name in ("others", "total"):
        if isinstance(metadata.get(name), dict):
            console.print(f"{name}: {orjson.dumps(metadata[name]).decode()}", highlight=False, markup=False)
    computed_at = f"{answer.entry.computed_at:%Y-%m-%d %H:%M:%S} UTC"
    source = f"from {metadata.get('source')} by {answer.entry.method}, computed {computed_at}"
    console.print(source, highlight=False, markup=False)


def _text(value: Any) -> str:
    return "null" if value is None else str(value)
