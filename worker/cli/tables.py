"""The tables that the command line prints."""

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from chat_stats.worker.cli.status import Status
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


def print_status(console: Console, status: Status) -> None:
    parts = Table("part", "state")
    for name, state in (
        ("redis", status.redis),
        ("database", status.database),
        ("worker", status.worker),
        ("rights", status.rights),
        ("locks", status.locks),
        ("row security", status.row_security),
    ):
        parts.add_row(name, _colored(state))
    for standby in status.standbys:
        lag = "" if standby.lag_seconds is None else f" ({standby.lag_seconds:.1f} s behind)"
        parts.add_row(f"standby {standby.host}", f"{_colored(standby.trouble or 'ok')}{lag}")
    if status.rollup is not None:
        color = {"damaged": "red", "backfilling": "yellow"}.get(status.rollup.state, "green")
        parts.add_row("rollup", f"[{color}]{escape(str(status.rollup))}[/]")
    for name, state in status.functions.items():
        parts.add_row(f"{name}()", _colored(state))
    console.print(parts)
    cached = Table("aggregation", "window")
    cached.add_column("entries", justify="right")
    cached.add_column("oldest, s", justify="right")
    cached.add_column("state")
    cached.add_column("method")
    for group in status.cached:
        cached.add_row(
            group.aggregation,
            group.window,
            str(group.entries),
            f"{group.oldest_seconds:.1f}",
            _colored(group.state),
            group.method if group.method == "rpc" else f"[yellow]{group.method}[/]",
        )
    console.print(cached if status.cached else "nothing is cached")
    megabytes = [
        f"{size / 2**20:.1f} MB"
        for size in (status.cached_bytes, status.on_demand_bytes, status.on_demand_limit_bytes)
    ]
    console.print(
        f"{megabytes[0]} of answers, {megabytes[1]} of them on demand (at most {megabytes[2]})",
        highlight=False,
        soft_wrap=True,
    )
    if status.last_purge is not None:
        came_of_it = (
            f"[red]{escape(status.last_purge['error'])}[/]"
            if status.last_purge["error"]
            else f"{status.last_purge['requests']:,} requests before {status.last_purge['before']}"
        )
        console.print(
            f"last purge at {status.last_purge['at']}: {came_of_it}", highlight=False, soft_wrap=True
        )
    if status.last_refresh is not None:
        late = ", too long ago" if status.late else ""
        console.print(
            f"last refresh {status.last_refresh['age_seconds']} s ago{late}: generation "
            f"{status.last_refresh['generation']}, {status.last_refresh['entries']} entries in "
            f"{status.last_refresh['duration_ms']} ms",
            highlight=False,
            soft_wrap=True,
        )


def _colored(state: str) -> str:
    return f"[green]{state}[/]" if state in ("ok", "alive", "fresh") else f"[red]{escape(state)}[/]"
