"""The `chat-stats` command.

Exit codes: 0 done; 1 an unexpected error, or a problem was found; 2 wrong usage or settings; 3 the database
lacks something; 4 a server cannot be reached.

A command imports what it alone needs when it runs: `--help` and completion answer at once, and `serve`
starts fast.
"""

import sys
from typing import Annotated, NoReturn

import typer

from chat_stats.service.errors import ChatStatsError
from chat_stats.worker.cli import keys, loading, mcp, query, refreshing, rollup, running
from chat_stats.worker.cli.output import out, print_error

app = typer.Typer(
    name="chat-stats",
    help="Cached usage statistics of an LLM gateway. Settings come from CHAT_STATS_* variables and .env.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(running.serve)
app.command()(running.worker)
app.command()(running.migrate)
app.command(cls=refreshing.RefreshCommand)(refreshing.refresh)
app.command()(running.status)
app.command()(query.query)
app.command()(mcp.mcp)
app.command("import")(loading.import_)
app.command()(loading.sample)
app.command()(running.demo)
app.add_typer(rollup.app, name="rollup")
app.add_typer(keys.app, name="key")


def main() -> NoReturn:
    """Run the command; print our errors as one line and exit with their code."""
    try:
        app(standalone_mode=True)
    except ChatStatsError as error:
        print_error(str(error))
        sys.exit(error.exit_code)
    sys.exit(0)


@app.callback(invoke_without_command=True)
def options(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from chat_stats.service import VERSION

        out.print(VERSION)
        raise typer.Exit
