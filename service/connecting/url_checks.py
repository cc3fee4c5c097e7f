"""What the settings may say of servers, proxies and origins.

Each refusal is a ValueError that says what is right, and repeats no user or password.
"""

import ipaddress
import re
from urllib.parse import SplitResult, parse_qsl, urlsplit

from chat_stats.service.connecting.postgres_hosts import url_of_each_host
from chat_stats.service.connecting.redis_pools import SENTINEL_SCHEMES, redis_pool, sentinel_parts

#: What is said of a Redis Cluster. All entries of a generation appear in one transaction. A cluster has
#: transactions within one slot alone, so on one of its servers: a single Redis does the same.
NO_CLUSTER = (
    "is a Redis Cluster, which cannot publish all answers of a refresh at once: use a single Redis, or "
    "Sentinel for failover (redis+sentinel://h1:26379,h2:26379/name/0)"
)

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

#: Parameters of a Postgres URL that libpq, poolers and other clients know. asyncpg would hand them to the
#: server as settings of the session, and the server would refuse the connection.
OTHER_CLIENTS = frozenset(
    (
        *("channel_binding", "connect_timeout", "fallback_application_name", "gssencmode", "hostaddr"),
        *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "load_balance_hosts"),
        *("require_auth", "requiressl", "sslcompression", "tcp_user_timeout"),
        *(
            "connection_limit",
            "max_overflow",
            "pgbouncer",
            "pool_size",
            "pool_timeout",
            "schema",
            "socket_timeout",
        ),
        *("prepareThreshold", "prepared_statements", "prepared_statement_cache_size", "statement_cache_size"),
        *("ssl", "sslaccept", "supa"),
    )
)


#: Which servers a connection may be to, as asyncpg knows it from libpq.
SESSION_ATTRIBUTES = ("any", "primary", "standby", "read-write", "read-only", "prefer-standby")


def check_postgres_url(url: str) -> None:
    """Check a URL of one Postgres, or of several: `postgresql://user:password@h1:5432,h2:5432/database`."""
    _check_scheme(url, ("postgresql://", "postgres://"))
    for one in url_of_each_host(url):
        parts = _split(one)
    if parts.fragment:
        raise ValueError("a '#' in the password is written %23")
    parameters = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parameters.get("target_session_attrs", "any") not in SESSION_ATTRIBUTES:
        raise ValueError(f"target_session_attrs must be one of {', '.join(SESSION_ATTRIBUTES)}")
    if parameters.get("sslmode", "prefer") not in SSL_MODES:
        raise ValueError(f"sslmode must be one of {', '.join(SSL_MODES)}")
    if foreign := sorted(OTHER_CLIENTS.intersection(parameters)):
        raise ValueError(
            f"leave out {', '.join(foreign)}, which only other clients know; TLS is asked for with sslmode, "
            "and a schema is named with options=-csearch_path%3Dname"
        )


def check_redis_url(url: str) -> None:
    if re.match(r"rediss?\+cluster://", url):
        raise ValueError(NO_CLUSTER)
    _check_scheme(url, ("redis://", "rediss://", "unix://", *SENTINEL_SCHEMES))
    if url.startswith(SENTINEL_SCHEMES):
        parts = _split(url, several_hosts=True)
        sentinel_parts(parts)
    else:
        parts = _split(url)
        # redis-py would silently take database 0.
        if parts.scheme != "unix" and not re.fullmatch("[0-9]*", parts.path.strip("/")):
            raise ValueError("what follows the host is the number of a database, as in redis://host:6379/0")
    if parts.fragment:
        raise ValueError("a '#' in the password is written %23")
    try:
        redis_pool(url, max_connections=1, timeout_seconds=1).make_connection()  # type: ignore[no-untyped-call]
    except (ValueError, TypeError):
        raise ValueError("is not a URL that Redis clients understand") from None


def check_proxies(text: str) -> None:
    for proxy in filter(None, (part.strip() for part in text.split(","))):
        try:
            _ = proxy == "*" or ipaddress.ip_network(proxy)
        except ValueError:
            raise ValueError(
                f"{proxy!r} is neither an address nor a network, such as 10.0.0.1 or 10.0.0.0/8; * is any"
            ) from None


def check_origins(origins: tuple[str, ...]) -> None:
    for origin in origins:
        if origin not in ("*", "null") and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^\s/?#@;,]+", origin):
            raise ValueError(
                f"{origin!r} is no origin as browsers send it, such as https://dashboard.example; * is any"
            )


def _check_scheme(url: str, schemes: tuple[str, ...]) -> None:
    if not url.startswith(schemes):
        raise ValueError(f"must start with {' or '.join(schemes)}")


def _split(url: str, *, several_hosts: bool = False) -> SplitResult:
    """Split the URL; the error says what to look for, and repeats nothing of it."""
    try:
        parts = urlsplit(url)
        hosts = parts.netloc.rpartition("@")[2].split(",") if several_hosts else [parts.netloc]
        for host in hosts:
            _ = urlsplit(f"//{host}").port
    except ValueError:
        raise ValueError(
            "is not a valid URL; in user and password, characters such as / : @ ? # % are percent-encoded"
        ) from None
    return parts
