"""Connection pools for the URL of a Redis, or of the Sentinels that know which Redis is the master.

    redis://user:password@host:6379/0
    redis+sentinel://user:password@host1:26379,host2:26379/name/0
    rediss+sentinel://...?ssl_ca_certs=/etc/ca.pem&sentinel_password=secret

User, password and parameters are those of the Redis servers; `sentinel_username` and `sentinel_password` are
those of the Sentinels. With rediss+sentinel both speak TLS.
"""

from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from redis.asyncio import BlockingConnectionPool
from redis.asyncio.connection import Connection, parse_url
from redis.asyncio.sentinel import (
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)

from chat_stats.service.connecting.redis_connections import cancellable

SENTINEL_SCHEMES = ("redis+sentinel://", "rediss+sentinel://")
SENTINEL_PORT = 26379


class SentinelPool(BlockingConnectionPool, SentinelConnectionPool):
    """Connections to the master that the Sentinels name; like all of our pools it waits for a free one."""

    async def disconnect(self, inuse_connections: bool = True) -> None:
        await super().disconnect(inuse_connections)
        if inuse_connections:  # the pool is closed, not sent to another master
            for sentinel in self.sentinel_manager.sentinels:
                await sentinel.aclose(close_connection_pool=True)


def redis_pool(
    url: str, *, max_connections: int, timeout_seconds: float, **options: Any
) -> BlockingConnectionPool:
    """Return a pool that connects when it is first used; every wait of it ends after `timeout_seconds`.

    Raises ValueError or TypeError for a URL that is none.
    """
    waits: dict[str, Any] = {
        "max_connections": max_connections,
        "timeout": timeout_seconds,
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
    }
    if not url.startswith(SENTINEL_SCHEMES):
        redis = dict(parse_url(url))
        connection_class = cancellable(redis.pop("connection_class", Connection))
        return BlockingConnectionPool(connection_class=connection_class, **{**waits, **options, **redis})
    return _sentinel_pool(urlsplit(url), waits, options)


def _sentinel_pool(parts: SplitResult, waits: dict[str, Any], options: dict[str, Any]) -> SentinelPool:
    hosts, name, database = sentinel_parts(parts)
    tls = parts.scheme.startswith("rediss")
    own = {"sentinel_username": "username", "sentinel_password": "password"}
    query = parse_qsl(parts.query)
    # What redis-py makes of the URL of one Redis with the same user, password and parameters.
    credentials, at, _ = parts.netloc.rpartition("@")
    others = urlencode([(key, value) for key, value in query if key not in own])
    redis: dict[str, Any] = dict(
        parse_url(f"{'rediss' if tls else 'redis'}://{credentials}{at}redis/{database}?{others}")
    )
    for of_one_host in ("host", "connection_class"):
        redis.pop(of_one_host, None)
    # One that does not answer must leave time for the others, and for the Redis: redis-py asks the one that
    # answered first the next time.
    each = waits["timeout"] / (len(hosts) + 1)
    sentinel: dict[str, Any] = {
        **{key: value for key, value in redis.items() if key.startswith("ssl_")},
        **{own[key]: value for key, value in query if key in own},
        "ssl": tls,
        "socket_timeout": each,
        "socket_connect_timeout": each,
    }
    return SentinelPool(
        service_name=name,
        sentinel_manager=Sentinel(hosts, sentinel_kwargs=sentinel),  # type: ignore[no-untyped-call]
        connection_class=cancellable(SentinelManagedSSLConnection if tls else SentinelManagedConnection),
        **{**waits, **redis, **options},
    )


def sentinel_parts(parts: SplitResult) -> tuple[list[tuple[str, int]], str, int]:
    """Return the Sentinels, the name of their master, and the number of the database.

    Raises ValueError with what is wrong.
    """
    hosts = []
    for host in parts.netloc.rpartition("@")[2].split(","):
        one = urlsplit(f"//{host}")
        if not one.hostname:
            raise ValueError(
                "it names the Sentinels, comma-separated, as in redis+sentinel://h1:26379,h2:26379/name/0"
            )
        hosts.append((one.hostname, one.port or SENTINEL_PORT))
    name, _, database = parts.path.strip("/").partition("/")
    if not name or not (database or "0").isdigit():
        raise ValueError(
            "what follows the Sentinels is the name of their master, and the number of a database, as in "
            "redis+sentinel://h1:26379,h2:26379/name/0"
        )
    return hosts, name, int(database or 0)
