"""The demo's Postgres and Redis: its own, or those that the settings name."""

from dataclasses import dataclass
from pathlib import Path

from chat_stats.service.cache import store
from chat_stats.service.cache.errors import TROUBLE, unavailable
from chat_stats.service.database.pool import connect
from chat_stats.service.settings import Settings
from chat_stats.worker.local_servers import PostgresServer, RedisServer, postgres_server, redis_server

#: The sample can be loaded again, so its last rows need not survive a power cut.
POSTGRES_OPTIONS = {"synchronous_commit": "off", "max_wal_size": "2GB"}


@dataclass(frozen=True)
class Servers:
    """The servers to start; None where one is given."""

    postgres: PostgresServer | None
    redis: RedisServer | None


async def find_servers(folder: Path, settings: Settings, *, given_database: bool) -> Servers:
    """Find what the demo needs before anything is started: programs, and given servers that answer.

    Raises `ServerError` without a program, and `Unavailable` when a given server does not answer.
    """
    given_redis = "redis_url" in settings.model_fields_set
    servers = Servers(
        None if given_database else postgres_server(folder / "postgres"),
        None if given_redis else redis_server(folder / "redis"),
    )
    if servers.postgres is not None:
        servers.postgres.options.update(POSTGRES_OPTIONS)
    if given_redis:
        await _check_redis(settings)
    if given_database:
        await (await connect(settings, application_name="chat-stats demo")).close()
    return servers


async def _check_redis(settings: Settings) -> None:
    redis = store.connect(
        settings.redis_url.get_secret_value(), timeout_seconds=settings.redis_timeout_seconds
    )
    try:
        await redis.ping()
    except TROUBLE as error:
        raise unavailable(error) from error
    finally:
        await redis.aclose(close_connection_pool=True)
