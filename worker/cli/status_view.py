"""What `chat-stats status` prints: one verdict, then a matrix; for another program, lines with tabs."""

from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from chat_stats.service.catalogue.timerange import WINDOWS
from chat_stats.worker.cli.output import print_tabs
from chat_stats.worker.cli.status import CachedGroup, Status

FIRST_STEPS = """\
There are no requests yet. Three ways to begin:
  1. connect  set CHAT_STATS_DATABASE_URL to the database of your gateway, and run: chat-stats migrate
  2. import   load a log, as CSV or JSON lines: chat-stats import FILE
  3. demo     look at sample data: chat-stats sample; or the whole stack on this machine: chat-stats demo"""


def show(console: Console, status: Status) -> None:
    if not console.is_terminal:
        print_tabs(lines(status))
        return

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    problems = status.problems
    if problems:
        say(f"[bold red]{len(problems)} problem{'' if len(problems) == 1 else 's'}[/]")
        for part, state in problems.items():
            say(f"[red]{escape(part)}[/]: {escape(state)}")
    else:
        oldest = max((group.oldest_seconds for group in status.cached), default=0.0)
        say(f"[bold green]All is well[/]: {len(status.cached)} kinds of answers, at most {_age(oldest)} old")
    if status.empty:
        say(FIRST_STEPS)
    if status.cached:
        console.print(_matrix(status.cached))
    for line in _footer(status):
        say(line)


def lines(status: Status) -> Iterator[tuple[object, ...]]:
    """Return what is printed for another program; the first cell says of what kind the line is."""
    yield "status", "problem" if status.problems else "well", len(status.problems)
    for name, state in _parts(status).items():
        yield "part", name, state
    for name, state in status.functions.items():
        yield "function", name, state
    if status.empty is not None:
        yield "requests", "none" if status.empty else "some"
    for group in status.cached:
        yield (
            *("answers", group.aggregation, group.window, group.entries, group.oldest_seconds),
            *(group.state, group.method),
        )
    yield "bytes", status.cached_bytes, status.on_demand_bytes, status.on_demand_limit_bytes
    if (last := status.last_refresh) is not None:
        in_time = "late" if status.late else "in time"
        yield (
            "refresh",
            last["age_seconds"],
            in_time,
            last["generation"],
            last["entries"],
            last["duration_ms"],
        )
    if (purge := status.last_purge) is not None:
        yield "purge", purge["at"], purge["requests"], purge["before"], purge["error"]


def _parts(status: Status) -> dict[str, str]:
    parts = {
        "redis": status.redis,
        "database": status.database,
        "worker": status.worker,
        "rights": status.rights,
        "locks": status.locks,
        "row security": status.row_security,
    }
    for standby in status.standbys:
        lag = "" if standby.lag_seconds is None else f" ({standby.lag_seconds:.1f} s behind)"
        parts[f"standby {standby.host}"] = f"{standby.trouble or 'ok'}{lag}"
    if status.rollup is not None:
        parts["rollup"] = str(status.rollup)
    return parts


def _matrix(groups: list[CachedGroup]) -> Table:
    """Return the age of each answer, by aggregation and window; of several, that of the oldest."""
    kept = {group.window for group in groups}
    windows = [window for window in (*WINDOWS, "(ranges)") if window in kept]
    by_place = {(group.aggregation, group.window): group for group in groups}
    table = Table("computed ago", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for window in windows:
        table.add_column(escape(window), justify="right")
    for aggregation in dict.fromkeys(group.aggregation for group in groups):
        found = (by_place.get((aggregation, window)) for window in windows)
        table.add_row(aggregation, *("" if group is None else _cell(group) for group in found))
    return table


def _cell(group: CachedGroup) -> str:
    several = f" ({group.entries})" if group.entries > 1 else ""
    method = "" if group.method in ("rpc", "query") else f" {group.method}"
    if group.state == "stale":
        return f"[red]{_age(group.oldest_seconds)}{several} stale{method}[/]"
    return f"[{'yellow' if method else 'green'}]{_age(group.oldest_seconds)}{several}{method}[/]"


def _footer(status: Status) -> Iterator[str]:
    well = [name for name, state in _parts(status).items() if state in ("ok", "alive")]
    if status.functions and set(status.functions.values()) == {"ok"}:
        well.append(f"{len(status.functions)} functions")
    if well:
        yield f"ok: {escape(', '.join(well))}"
    # Their state is more than a word: a lag, how far a backfill is.
    for name, state in _parts(status).items():
        if name not in well and name not in status.problems:
            yield f"{escape(name)}: {escape(state)}"
    if (last := status.last_refresh) is not None:
        yield (
            f"last refresh {_age(last['age_seconds'])} ago: {last['entries']} entries in "
            f"{last['duration_ms']:,.0f} ms, generation {last['generation']}"
        )
    if (purge := status.last_purge) is not None and purge["error"] is None:
        yield f"last purge at {purge['at']}: {purge['requests']:,} requests before {purge['before']}"
    cached, on_demand, limit = (
        f"{size / 2**20:.1f} MB"
        for size in (status.cached_bytes, status.on_demand_bytes, status.on_demand_limit_bytes)
    )
    yield f"{cached} of answers, {on_demand} of them on demand (at most {limit})"


def _age(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
