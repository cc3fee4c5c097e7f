"""What an error of Postgres means when it is about the server, and not about the statement."""

import socket

import asyncpg

from service.errors import DatabaseBusy, DatabaseUnavailable

#: Trouble of the server or of the way to it, whatever the statement: no other statement would do better.
OUTAGES = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shutting down, starting up; QueryCanceledError is told apart first
    asyncpg.TooManyConnectionsError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.TransactionRollbackError,  # a standby cancels reads that conflict with recovery
)


def outage(error: BaseException) -> DatabaseUnavailable | DatabaseBusy | None:
    """Return what `error` means when it is an outage, None when it is about the statement."""
    if isinstance(error, asyncpg.LockNotAvailableError):
        return DatabaseBusy("a table that the statistics need is locked")
    if isinstance(error, asyncpg.QueryCanceledError):
        return None
    if isinstance(error, asyncpg.TooManyConnectionsError):
        return DatabaseUnavailable("the database accepts no more connections")
    if isinstance(error, OUTAGES):
        return DatabaseUnavailable("the database cannot be reached")
    return None


def unreachable(error: BaseException) -> DatabaseUnavailable:
    """Return what an error while connecting means; every one is an outage, and some have a known cause."""
    causes: tuple[tuple[type[BaseException], str], ...] = (
        (asyncpg.InvalidAuthorizationSpecificationError, "it refused the user or the password"),
        (asyncpg.InvalidCatalogNameError, "there is no database of that name"),
        (asyncpg.TooManyConnectionsError, "it accepts no more connections"),
        (asyncpg.CannotConnectNowError, "it is starting up or shutting down"),
        (socket.gaierror, "its host name is not known"),
        (ConnectionRefusedError, "nothing listens there"),
        (TimeoutError, "it does not answer"),
    )
    cause = next((cause for kind, cause in causes if isinstance(error, kind)), type(error).__name__)
    return DatabaseUnavailable(f"the database cannot be reached: {cause}")
