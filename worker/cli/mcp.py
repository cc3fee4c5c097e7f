"""`chat-stats mcp`: a server for language models, over a running service."""

from typing import Annotated

import typer

from chat_stats.service.errors import SettingsError


def mcp(
    url: Annotated[
        str, typer.Option(envvar="CHAT_STATS_URL", help="Where the service is.")
    ] = "http://localhost:8000",
    key: Annotated[
        str | None,
        typer.Option(
            envvar="CHAT_STATS_KEY", help="A key that may read; better by the variable.", show_default=False
        ),
    ] = None,
) -> None:
    """Let a language model ask a running service: an MCP server on standard input and output."""
    try:
        from chat_stats.worker.mcp_server import create_server
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("chat_stats"):
            raise
        raise SettingsError(
            f"the MCP server needs a package that is missing ({error.name}): pip install 'chat-stats[mcp]'"
        ) from None
    create_server(url, key).run()
