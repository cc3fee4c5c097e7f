"""An MCP server over a running service: what a language model may ask, as two tools that only read.

It needs the extra "mcp". Each call is one GET to the service, which checks, answers and words its refusals.
"""

from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx2
from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import Field

from chat_stats.service import VERSION
from chat_stats.service.catalogue.figures import DEFAULT_FIGURES, DISTINCT, FIGURES
from chat_stats.service.catalogue.timerange import WINDOWS
from chat_stats.service.catalogue.timeseries import BUCKETS
from chat_stats.service.errors import SettingsError

#: Longer than the service computes before it answers 503.
TIMEOUT_SECONDS = 120.0

INSTRUCTIONS = (
    "Usage statistics of an LLM gateway: requests, failures, tokens, cost and latency. "
    "Ask `dimensions` what there is to group and filter by, then `query`. "
    "`metadata.computed_at` says of when the numbers are; `metadata.total` is that of all rows, "
    "those in `metadata.others` included."
)

Window = Annotated[
    str | None,
    Field(description="Range that ends now. Default: all time.", json_schema_extra={"enum": list(WINDOWS)}),
]
Start = Annotated[
    str | None, Field(description="Start of the range, ISO 8601; UTC without an offset. Not with `window`.")
]
End = Annotated[str | None, Field(description="End of the range, exclusive; a date alone includes that day.")]
Limit = Annotated[int | None, Field(description="Most rows. Default: 100.", ge=1)]
Filters = Annotated[
    dict[str, str | list[str]] | None,
    Field(
        description="Values by dimension; of several, any. A name that begins with `not_` excludes them.",
        examples=[{"status": ["failed", "timeout"], "not_user_id": "42"}],
    ),
]


def check_url(url: str) -> str:
    """Return the service's address without a slash at its end."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError(
            "--url: write it as http://host:port or https://host, with the path of the service"
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        raise SettingsError("--url: only host, port and path; give a key by CHAT_STATS_KEY")
    return url.rstrip("/")


def create_server(url: str, key: str | None) -> MCPServer[Any]:
    """Return the server of the tools; `url` is where the service is, `key` one that may read."""
    ask = _Questions(check_url(url), key)
    server = MCPServer[Any](
        "chat-stats", title="chat-stats", version=VERSION, instructions=INSTRUCTIONS, log_level="WARNING"
    )
    reads = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)

    @server.tool(annotations=reads, structured_output=True)
    async def query(
        measures: Annotated[
            list[str] | None,
            Field(
                description=f"What to compute: {', '.join(FIGURES)}, or `{DISTINCT}` and a dimension. "
                f"Default: {', '.join(DEFAULT_FIGURES)}."
            ),
        ] = None,
        group_by: Annotated[
            list[str] | None, Field(description="Up to three dimensions: a row for each combination.")
        ] = None,
        filters: Filters = None,
        window: Window = None,
        start_date: Start = None,
        end_date: End = None,
        bucket: Annotated[
            str | None,
            Field(
                description="A row for each interval of this length.",
                json_schema_extra={"enum": list(BUCKETS)},
            ),
        ] = None,
        timezone: Annotated[
            str | None, Field(description="Of the buckets, such as Europe/Berlin. Default: UTC.")
        ] = None,
        order_by: Annotated[
            str | None, Field(description="A measure or dimension; with - in front, descending.")
        ] = None,
        limit: Limit = None,
        cursor: Annotated[str | None, Field(description="`metadata.next_cursor` of the page before.")] = None,
        compare: Annotated[
            str | None,
            Field(description="`previous`: each row has the range of equal length before; or its start."),
        ] = None,
    ) -> dict[str, Any]:
        """Compute any measures of the gateway's requests, by any dimensions, over any range of time."""
        given = {
            "measures": ",".join(measures) if measures else None,
            "group_by": ",".join(group_by) if group_by else None,
            "window": window,
            "start_date": start_date,
            "end_date": end_date,
            "bucket": bucket,
            "timezone": timezone,
            "order_by": order_by,
            "limit": limit,
            "cursor": cursor,
            "compare": compare,
        }
        return await ask("query", {**(filters or {}), **given})

    @server.tool(annotations=reads, structured_output=True)
    async def dimensions(
        name: Annotated[
            str | None, Field(description="A dimension: returns its values, those with most requests first.")
        ] = None,
        prefix: Annotated[
            str | None, Field(description="Only values, or names of models and providers, that begin so.")
        ] = None,
        window: Window = None,
        start_date: Start = None,
        end_date: End = None,
        limit: Limit = None,
    ) -> dict[str, Any]:
        """List what requests can be grouped and filtered by; with `name`, the values of one dimension."""
        given = {"name": name, "prefix": prefix, "window": window, "limit": limit}
        return await ask("dimensions", {**given, "start_date": start_date, "end_date": end_date})

    return server


class _Questions:
    """Asks the service, with its key."""

    def __init__(self, url: str, key: str | None) -> None:
        self._base = f"{url}/api/monitoring/chat-requests"
        self._url = url
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    async def __call__(self, endpoint: str, given: dict[str, Any]) -> dict[str, Any]:
        parameters = {name: value for name, value in given.items() if value is not None}
        try:
            async with httpx2.AsyncClient(headers=self._headers, timeout=TIMEOUT_SECONDS) as client:
                response = await client.get(f"{self._base}/{endpoint}", params=parameters)
        except httpx2.TransportError as error:
            raise ToolError(f"{self._url} cannot be reached: {type(error).__name__}") from None
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise ToolError(f"{self._url} is not chat-stats: it answered {response.status_code} without JSON")
        if not response.is_success:
            raise ToolError(str(answer.get("detail", f"the service answered {response.status_code}")))
        return answer
