"""What an error of Postgres means when it is about the server or our role, and not about the statement."""

import socket
import ssl

import asyncpg

from service.errors import DatabaseBusy, DatabaseUnavailable, RowsHidden, SchemaError

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


def hides_rows(error: BaseException) -> bool:
    """Return whether row level security keeps rows from our role, such as those of a table beneath a view."""
    # By its code, the error is that of a right that is missing.
    return getattr(error, "server_source_function", None) == "check_enable_rls"


def not_permitted(error: asyncpg.InsufficientPrivilegeError) -> SchemaError:
    """Return what it means that our role may not read something."""
    if hides_rows(error):
        return RowsHidden(f"{error.message}: the role that reads it needs BYPASSRLS")
    return SchemaError(f"{error.message}; grant the chat-stats role SELECT on the three tables")


def unreachable(error: BaseException) -> DatabaseUnavailable:
    """Return what an error while connecting means; every one is an outage, and some have a known cause."""
    return DatabaseUnavailable(f"the database cannot be reached: {_cause(error)}")


def _cause(error: BaseException) -> str:
    text = str(error)
    if isinstance(error, asyncpg.InvalidAuthorizationSpecificationError) and "pg_hba.conf" in text:
        return "its pg_hba.conf allows no such connection; it may want TLS (sslmode=require)"
    if isinstance(error, asyncpg.UndefinedObjectError):
        return f"it does not know a parameter of the URL ({text})"
    if isinstance(error, ConnectionError) and "SSL" in text:
        return "it has no TLS, which sslmode asks for"
    # What poolers say of a user or tenant that they do not know, or a parameter that they do not pass on; or
    # Postgres of `options` that are none.
    if isinstance(
        error, asyncpg.ProtocolViolationError | asyncpg.InternalServerError | asyncpg.PostgresSyntaxError
    ):
        return f"it says {text!r}"
    if isinstance(error, asyncpg.ClientConfigurationError):
        return (
            "its URL is wrong; for sslmode verify-ca and verify-full, sslrootcert names the authority's file"
        )
    causes: tuple[tuple[type[BaseException], str], ...] = (
        (asyncpg.InvalidAuthorizationSpecificationError, "it refused the user or the password"),
        (asyncpg.InvalidCatalogNameError, "there is no database of that name"),
        (asyncpg.TooManyConnectionsError, "it accepts no more connections"),
        (asyncpg.CannotConnectNowError, "it is starting up or shutting down"),
        (socket.gaierror, "its host name is not known"),
        (ConnectionRefusedError, "nothing listens there"),
        (TimeoutError, "it does not answer"),
        (asyncpg.TargetServerAttributeNotMatched, "no server there is as target_session_attrs asks for"),
        (ssl.SSLCertVerificationError, "its certificate is not trusted"),
        (ssl.SSLError, "TLS with it failed"),
        (FileNotFoundError, "a socket or certificate file that the URL names is missing"),
    )
    return next((cause for kind, cause in causes if isinstance(error, kind)), type(error).__name__)
