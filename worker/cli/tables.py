"""The tables that the command line prints."""

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from chat_stats.worker.importer.load import ImportResult


def print_refresh(console: Console, report: dict[str, Any]) -> None:
    table = Table("aggregation", "window", "method")
    table.add_column("rows", justify="right")
    table.add_column("ms", justify="right")
    for result in report["results"]:
        table.add_row(
            result["aggregation"],
            result["window"],
            result["method"] or f"[red]{escape(result['error'])}[/]",
            str(result["rows"]),
            f"{result['compute_ms']:.1f}",
        )
    console.print(table)
    state = (
        "" if report["published"] else " [yellow](not published: a later refresh was published before it)[/]"
    )
    console.print(
        f"generation {report['generation']}: {report['entries']} entries "
        f"in {report['duration_ms']:.0f} ms{state}",
        highlight=False,
        soft_wrap=True,
    )


def print_import(console: Console, file: str, result: ImportResult) -> None:
    def say(text: str) -> None:
        console.print(escape(text), highlight=False, soft_wrap=True)

    say(
        f"{file}: {result.loaded:,} requests loaded, {result.input_tokens:,} input and "
        f"{result.output_tokens:,} output tokens"
    )
    say("columns: " + ", ".join(f"{name} from {column}" for name, column in result.columns.items()))
    for what, names in (
        ("not used: ", result.ignored_columns),
        ("new providers: ", result.new_providers),
        ("new models: ", result.new_models),
    ):
        if names:
            say(what + ", ".join(names))
    if result.skipped:
        say(f"{result.skipped:,} bad lines were skipped:")
    for line in result.bad_lines:
        say(f"  {line}")
