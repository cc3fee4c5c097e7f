"""What the settings may say of servers, proxies and origins.

Each refusal is a ValueError that says what is right, and repeats no user or password.
"""

import ipaddress
import re
from urllib.parse import SplitResult, parse_qsl, urlsplit

from redis.asyncio import ConnectionPool

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


def check_postgres_url(url: str) -> None:
    _check_scheme(url, ("postgresql://", "postgres://"))
    parts = _split(url)
    if parts.fragment:
        raise ValueError("a '#' in the password is written %23")
    parameters = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parameters.get("sslmode", "prefer") not in SSL_MODES:
        raise ValueError(f"sslmode must be one of {', '.join(SSL_MODES)}")
    if foreign := sorted(OTHER_CLIENTS.intersection(parameters)):
        raise ValueError(
            f"leave out {', '.join(foreign)}, which only other clients know; TLS is asked for with sslmode, "
            "and a schema is named with options=-csearch_path%3Dname"
        )


def check_redis_url(url: str) -> None:
    _check_scheme(url, ("redis://", "rediss://", "unix://"))
    parts = _split(url)
    database = parts.path.strip("/")
    if parts.scheme != "unix" and not re.fullmatch("[0-9]*", database):
        # redis-py would silently take database 0.
        raise ValueError("what follows the host is the number of a database, as in redis://host:6379/0")
    try:
        ConnectionPool.from_url(url).make_connection()  # type: ignore[no-untyped-call]
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


def _split(url: str) -> SplitResult:
    """Split the URL; the error says what to look for, and repeats nothing of it."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError(
            "is not a valid URL; in user and password, characters such as / : @ ? # % are percent-encoded"
        ) from None
    return parts
