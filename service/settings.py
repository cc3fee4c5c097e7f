"""Settings, from environment variables with the prefix `CHAT_STATS_` and from `.env`."""

from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from chat_stats.service.catalogue.aggregation import Query
from chat_stats.service.catalogue.dimensions import Dimensions, known_dimensions
from chat_stats.service.catalogue.error_kinds import DEFAULT as ERROR_KINDS
from chat_stats.service.catalogue.question_parameters import parse_kept
from chat_stats.service.catalogue.statuses import PENDING, SUCCESS, Statuses
from chat_stats.service.catalogue.usage_questions import UsageQuestion, usage_questions
from chat_stats.service.errors import SettingsError
from chat_stats.service.setting_types import (
    NONE_IF_EMPTY,
    SPLIT,
    DimensionList,
    Duration,
    ErrorKinds,
    Folder,
    LogLevel,
    LongWait,
    Origins,
    PendingStatuses,
    PostgresUrl,
    Proxies,
    Questions,
    Rate,
    RedisUrl,
    Secrets,
    SuccessStatuses,
    UsageDimensions,
    Wait,
    Windows,
)

PREFIX = "CHAT_STATS_"

#: Columns that many gateways have and some do not: shown where they exist unless the setting says otherwise.
KNOWN_REQUEST_COLUMNS = ("api_key_id", "is_anonymous", "metadata", "input_cost_usd", "output_cost_usd")
ALL_COLUMNS = "*"


class Settings(BaseSettings):
    """All settings. A value that is missing or wrong stops the start and names its variable."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    database_url: PostgresUrl = Field(
        description="Postgres to read from, `postgresql://user:password@host:5432/database`."
    )
    read_database_url: Annotated[PostgresUrl | None, NONE_IF_EMPTY] = Field(
        None,
        description="Hot standbys to read from, `postgresql://user:password@h1:5432,h2:5432/database`. "
        "When not set, the database above answers all.",
    )
    max_standby_lag_seconds: Annotated[Duration | None, NONE_IF_EMPTY] = Field(
        None,
        description="Seconds by which a standby may be behind the primary; one that is further behind is not "
        "read while the primary answers. When not set, a third of `CHAT_STATS_FRESH_SECONDS`.",
    )
    redis_url: RedisUrl = Field(
        SecretStr("redis://localhost:6379/0"),
        description="Redis that holds the cache: `redis://`, `rediss://` or `unix://`; by Sentinels "
        "`redis+sentinel://` or `rediss+sentinel://:password@h1:26379,h2:26379/name/0`.",
    )
    queue_redis_url: Annotated[RedisUrl | None, NONE_IF_EMPTY] = Field(
        None, description="Redis that holds the worker's queue; the same as the cache's when not set."
    )
    host: str = Field(
        "127.0.0.1", description="Address that `chat-stats serve` and the worker's `/metrics` listen on."
    )
    port: int = Field(8000, ge=0, le=65535, description="Port that `chat-stats serve` listens on.")
    windows: Windows = Field(
        ("1h", "24h", "7d", "30d", "all"),
        description="Windows that the worker keeps computed, comma-separated; others are computed on demand.",
    )
    refresh_interval_seconds: float = Field(
        30, ge=1, le=86400, description="Seconds between two refreshes by the worker."
    )
    live_interval_seconds: float = Field(
        1,
        ge=0,
        le=86400,
        description="Seconds between two publications of totals between refreshes, with the rollup on and "
        "while a client listens to events. 0: never.",
    )
    audit_interval_seconds: float = Field(
        300, ge=1, le=86400, description="Seconds between two audits of the rollup by the worker."
    )
    purge_after_days: int | None = Field(
        None,
        ge=1,
        le=36500,
        description="Age in days after which the worker deletes requests whose statistics the rollup keeps. "
        "None: it deletes nothing.",
    )
    fresh_seconds: Duration = Field(
        90, description="Age in seconds up to which an answer is fresh; older ones are recomputed."
    )
    stale_seconds: float = Field(
        7 * 86400,
        ge=0,
        le=366 * 86400,
        description="Seconds that an answer is kept, served as stale, after that.",
    )
    local_cache_seconds: float = Field(
        1.0,
        ge=0,
        le=60,
        description="Seconds for which a process answers from its own memory before it asks Redis.",
    )
    on_demand_cache_bytes: int = Field(
        64 * 2**20,
        ge=0,
        description="Bytes in Redis for answers that the worker does not keep computed, such as ranges.",
    )
    query_timeout_seconds: Wait = Field(
        10, description="Longest time in seconds for the first statement of a live computation."
    )
    answer_timeout_seconds: Wait | None = Field(
        None,
        description="Longest wait in seconds for an answer that is not cached; its computation goes on. "
        "When not set, the longest that a computation may take: four times its first statement.",
    )
    refresh_timeout_seconds: LongWait = Field(
        120, description="Longest time in seconds for the first statement of each computation in a refresh."
    )
    connect_timeout_seconds: Wait = Field(
        1, description="Seconds to wait for a connection to Postgres and its first reply."
    )
    redis_timeout_seconds: Wait = Field(
        0.5, description="Seconds to wait for Redis before an answer goes on without it."
    )
    max_live_computations: int = Field(
        4, ge=1, le=1000, description="Live computations that one process runs at a time; further ones wait."
    )
    max_exports: int = Field(
        2,
        ge=1,
        le=1000,
        description="Exports and large pages that one process reads at a time; further ones wait.",
    )
    max_event_streams: int = Field(
        10_000,
        ge=0,
        description="Clients that may listen to events of one process at a time; fewer where it may open few "
        "files.",
    )
    request_columns: Annotated[tuple[str, ...] | None, *SPLIT] = Field(
        None,
        description="Further columns of single requests to show, comma-separated; `*` for all. When not set, "
        f"those of {', '.join(f'`{name}`' for name in KNOWN_REQUEST_COLUMNS)} that exist; empty: none.",
    )
    download_seconds: Duration = Field(
        600, description="Seconds after which a client that has not read its download is cut off."
    )
    api_keys: Secrets = Field(
        (),
        description="Keys that may read everything, comma-separated. None, and no `CHAT_STATS_REQUIRE_KEY`: "
        "reading is open.",
    )
    require_key: bool = Field(
        False,
        description="Whether reading needs a key where `CHAT_STATS_API_KEYS` is empty, too: one of "
        "`chat-stats key create`.",
    )
    admin_token: Annotated[SecretStr | None, NONE_IF_EMPTY] = Field(
        None, description="Token for `POST /api/monitoring/refresh`. None: that endpoint is off."
    )
    success_statuses: SuccessStatuses = Field(
        SUCCESS,
        description="Statuses of requests that succeeded, comma-separated, in any case. After a change: "
        "`chat-stats migrate`, then `chat-stats rollup repair`.",
    )
    pending_statuses: PendingStatuses = Field(
        PENDING,
        description="Statuses of requests that neither succeeded nor failed yet. After a change: as above.",
    )
    error_kinds: ErrorKinds = Field(
        ERROR_KINDS,
        description="Kinds of errors, `name=phrase|phrase` separated by `;`: the first with a phrase in the "
        "error message or the status of a failed request is its `error_kind`, otherwise `other`.",
    )
    dimensions: DimensionList = Field(
        "",
        description="Dimensions by which questions group and filter, comma-separated: columns of the "
        "requests, or `name=column->>key` of a json column.",
    )
    queries: Questions = Field(
        "",
        description="Questions that the worker keeps computed, separated by blanks or `;`: query strings of "
        "`/chat-requests/query`.",
    )
    usage_metrics: UsageDimensions = Field(
        (),
        description="Dimensions by which `/metrics/usage` shows the gateway's traffic, comma-separated, like "
        "`model_id,status`. The worker keeps a question over all time computed for each. Empty: it is off.",
    )
    usage_metrics_top: int = Field(
        50,
        ge=1,
        le=500,
        description="Values of each of these dimensions that have their own labels there; the others are "
        "added up as `others`.",
    )
    rate_limit_misses: Rate = Field(
        "6000/minute",
        description="Answers that one client may have computed for it, like `100/minute`. Empty: no limit.",
    )
    rate_limit_rows: Rate = Field(
        "1200/minute",
        description="Calls by one client of the endpoints that read single requests. Empty: no limit.",
    )
    rate_limit_requests: Rate = Field(
        "",
        description="All calls of the API by one client, hits too; each then asks Redis. Empty: no limit.",
    )
    trusted_proxies: Proxies = Field(
        "127.0.0.1",
        description="Addresses or networks of proxies whose `X-Forwarded-For` names the client, "
        "comma-separated; `*` for any.",
    )
    cors_origins: Origins = Field(
        (), description="Origins whose pages may read the API from a browser, comma-separated; `*` for any."
    )
    root_path: str = Field(
        "",
        pattern=r"^(/[A-Za-z0-9._~-]+)*$",
        description="Path below which a proxy serves all of this, like `/stats`; the proxy takes it away.",
    )
    web_page: bool = Field(
        True,
        description="Serve the web page at `/`. The page is public, what it shows is not where keys are set.",
    )
    frame_ancestors: Origins = Field(
        (), description="Origins whose pages may show the web page in a frame, comma-separated; `*` for any."
    )
    cache_prefix: str = Field(
        "chat-stats", pattern=r"^[A-Za-z0-9_.\-]+$", description="First part of every Redis key."
    )
    log_level: LogLevel = Field("INFO", description="DEBUG, INFO, WARNING or ERROR.")
    log_format: Literal["text", "json"] = Field(
        "text", description="`text` for people, or `json`: one object a line."
    )
    access_log: bool = Field(False, description="Whether each HTTP answer gets a line in the log.")
    worker_metrics_port: Annotated[int | None, NONE_IF_EMPTY] = Field(
        None, ge=0, le=65535, description="Port for the worker's own `/metrics`. None: it has no such port."
    )
    metrics_folder: Annotated[Folder | None, NONE_IF_EMPTY] = Field(
        None,
        description="Folder in which the processes of one service share their counts for `/metrics`; "
        "`serve --workers` makes one.",
    )

    @property
    def needs_key(self) -> bool:
        """Whether reading needs a key. Where it does not, keys mean nothing."""
        return self.require_key or bool(self.api_keys)

    @property
    def known_dimensions(self) -> Dimensions:
        """All dimensions by name, those that are built in too."""
        return known_dimensions(self.dimensions, self.error_kinds)

    @cached_property
    def kept_questions(self) -> frozenset[Query]:
        asked = parse_kept(self.queries, self.known_dimensions)
        return frozenset((*asked, *(question.query for question in self.usage_questions)))

    @cached_property
    def usage_questions(self) -> tuple[UsageQuestion, ...]:
        return tuple(usage_questions(self.usage_metrics, self.known_dimensions))

    @property
    def statuses(self) -> Statuses:
        return Statuses(self.success_statuses, self.pending_statuses)

    @property
    def answer_seconds(self) -> float:
        """Seconds after which a client that waits for a computation is told to ask again."""
        return self.answer_timeout_seconds or self.computation_seconds

    @property
    def computation_seconds(self) -> float:
        """Longest that a live computation takes (`service.compute.ladder`).

        The methods' time-outs add up to half of that, but the last one runs many short statements.
        """
        return 4 * self.query_timeout_seconds

    @property
    def standby_lag_seconds(self) -> float:
        """Seconds by which a standby may be behind: an answer of it is still fresh for a while."""
        return self.max_standby_lag_seconds or self.fresh_seconds / 3

    @property
    def late_seconds(self) -> float:
        """Age in seconds of the last refresh from which on the worker counts as late."""
        return 3 * self.refresh_interval_seconds


def load_settings(**overrides: Any) -> Settings:
    """Read the settings; `SettingsError` names each variable that is missing or wrong, never its value."""
    try:
        return Settings(**overrides)
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False)
        raise SettingsError("; ".join(map(_described, problems))) from None
    except (OSError, UnicodeError) as error:
        raise SettingsError(f".env cannot be read: {type(error).__name__}") from None


def _described(problem: ErrorDetails) -> str:
    name = str(problem["loc"][0])
    what = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "missing":
        what = f"is missing: {Settings.model_fields[name].description}"
    return f"{PREFIX}{name.upper()}: {what}"
