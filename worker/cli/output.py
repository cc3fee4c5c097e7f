"""What all commands print with: standard output and standard error, errors, JSON."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Coroutine, Iterable
from typing import Annotated, Any, TypeVar

import orjson
import typer
from rich.console import Console
from rich.markup import escape

out = Console()
err = Console(stderr=True)

Result = TypeVar("Result")

#: What ends a cell or a line, for one program or another.
_BREAKS = re.compile(r"[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]+")

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


def run(work: Coroutine[Any, Any, Result], description: str | None = None) -> Result:
    """Run the work; on a terminal, say meanwhile what it is."""
    if description is None or not err.is_terminal:
        return asyncio.run(work)
    with err.status(description):
        return asyncio.run(work)


def print_error(message: str) -> None:
    # Messages quote what users wrote: brackets in them must not be read as markup.
    err.print(f"[bold red]error:[/] {escape(message)}", highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    out.out(orjson.dumps(value, option=orjson.OPT_INDENT_2, default=str).decode(), highlight=False)


def print_tabs(lines: Iterable[Iterable[object]]) -> None:
    """Print lines for another program: their cells separated by tabs, which no cell has.

    Spaces stay as they are: a name must be found again by what is printed.
    """
    for line in lines:
        cells = ("" if cell is None else _BREAKS.sub(" ", str(cell)) for cell in line)
        sys.stdout.write("\t".join(cells) + "\n")
