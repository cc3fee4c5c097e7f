"""Translates the errors of asyncpg into those of chat-stats, and says which are outages.

Clients of the API get our words and names of the schema. The server's own text may hold paths, values or
parts of statements: it goes to the log.
"""

import logging
import re
import socket
import ssl

import asyncpg

from chat_stats.service.connecting.refusals import refusal
from chat_stats.service.errors import (
    ChatStatsError,
    ComputationTimedOut,
    DatabaseBusy,
    DatabaseUnavailable,
    RowsHidden,
    SchemaError,
)

logger = logging.getLogger(__name__)

_NAME = r"""("[^"/\\]+"|[\w.$"]+)"""
#: What Postgres says of names alone.
_OF_NAMES = re.compile(
    rf"[a-z]+ {_NAME}(\([\w ,.\[\]\"]*\))?( of relation {_NAME})? does not exist"
    rf"|permission denied for [a-z ]+ {_NAME}"
    rf"|query would be affected by row-level security policy for table {_NAME}"
)
#: What poolers and servers say of a connection, without a path, a URL or a user.
_PLAIN = re.compile(r"""[\w ,.;:'"()=-]{1,200}""")

#: Trouble of the server or of the connection: no other statement would do better.
OUTAGES = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shutting down, starting up; `outage` excepts QueryCanceledError
    asyncpg.TooManyConnectionsError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.TransactionRollbackError,  # a standby cancels reads that conflict with recovery
)

#: All that asyncpg raises when a statement, the server or the connection fails.
ERRORS = (asyncpg.PostgresError, *OUTAGES)

_OUR_FUNCTION = re.compile(r"\b(get_chat_|get_model|get_provider_|chat_stats_)\w+\(")


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
    """Return whether row level security hides rows from our role, such as those of a table beneath a view."""
    # Its SQLSTATE is that of a missing right.
    return getattr(error, "server_source_function", None) == "check_enable_rls"


def reading_error(
    error: TimeoutError | asyncpg.PostgresError, *, timed_out: str, failed: str
) -> ChatStatsError:
    """Return what the error of a statement over the three tables means to its caller.

    The messages are for a statement that took too long, and for one that these tables do not allow.
    """
    if isinstance(error, TimeoutError | asyncpg.QueryCanceledError):
        return ComputationTimedOut(timed_out)
    known = _missing(error) or _forbidden(error, "grant the chat-stats role SELECT on the three tables")
    if known is not None:
        return known
    logger.warning("%s: %s: %s", failed, type(error).__name__, error)
    return SchemaError(f"{failed}; the log of chat-stats has the database's error")


def upkeep_error(
    error: Exception, kept_by: str = "the rollup is kept by the role that ran chat-stats migrate"
) -> Exception:
    """Return what the error of a statement that writes our tables means; itself when that is not known."""
    if (trouble := outage(error)) is not None:
        return trouble
    if isinstance(error, asyncpg.ReadOnlySQLTransactionError):  # a standby, after a failover
        return DatabaseUnavailable("the database is read-only at present")
    if isinstance(error, asyncpg.UndefinedFunctionError):
        return _out_of_date(error)
    if isinstance(error, asyncpg.ObjectNotInPrerequisiteStateError) and "replica identity" in str(error):
        return SchemaError("a publication has tables of ours since the last migrate; run: chat-stats migrate")
    return _missing(error) or _forbidden(error, kept_by) or error


def loading_error(error: Exception, what: str) -> ChatStatsError:
    """Return what the error of loading rows into the gateway's tables means; `what` names what is loaded."""
    if isinstance(error, asyncpg.NotNullViolationError):
        return SchemaError(
            f"{error.table_name}.{error.column_name} must have a value, but has no default, and {what} has "
            "no value for it: give it a default"
        )
    return outage(error) or SchemaError(f"the database refuses {what}: {error}")


def function_trouble(error: asyncpg.PostgresError, role: str) -> str:
    """Return what is wrong with a function of ours whose call failed; `role`, quoted, called it."""
    if isinstance(error, asyncpg.InsufficientPrivilegeError) and _OUR_FUNCTION.search(f"{error}("):
        return f"{error}; its owner can run: SELECT chat_stats_grant_read('{role}')"
    # The same error stands for an operator that a column's type lacks, which migrating does not fix.
    if isinstance(error, asyncpg.UndefinedFunctionError) and _OUR_FUNCTION.search(str(error)):
        return "missing; run: chat-stats migrate"
    return f"fails with {type(error).__name__}: {error}"


def _missing(error: BaseException) -> SchemaError | None:
    if isinstance(error, asyncpg.UndefinedTableError | asyncpg.UndefinedColumnError):
        return _out_of_date(error)
    return None


def _out_of_date(error: asyncpg.PostgresError) -> SchemaError:
    said = _said(error, "a table, column or function is missing")
    return SchemaError(f"{said}; run: chat-stats migrate")


def _forbidden(error: BaseException, remedy: str) -> SchemaError | None:
    if not isinstance(error, asyncpg.InsufficientPrivilegeError):
        return None
    if hides_rows(error):
        said = _said(error, "row level security hides rows of a table")
        return RowsHidden(f"{said}: the role that reads it needs BYPASSRLS")
    return SchemaError(f"{_said(error, 'permission denied')}; {remedy}")


def _said(error: asyncpg.PostgresError, ours: str) -> str:
    """Return the server's text if it says no more than names, in English; else our words for it."""
    if _OF_NAMES.fullmatch(error.message):
        return str(error.message)
    logger.warning("%s: %s: %s", ours, type(error).__name__, error)
    return ours


def unreachable(error: BaseException) -> DatabaseUnavailable:
    """Return what an error while connecting means: an outage, with its cause where that is known."""
    return DatabaseUnavailable(f"the database cannot be reached: {_cause(error)}")


def _cause(error: BaseException) -> str:
    text = str(error)
    if (refused := refusal(error)) is not None:
        return refused
    said = text if _PLAIN.fullmatch(text) else type(error).__name__
    if isinstance(error, asyncpg.InvalidAuthorizationSpecificationError) and "pg_hba.conf" in text:
        return "its pg_hba.conf allows no such connection; it may want TLS (sslmode=require)"
    if isinstance(error, asyncpg.UndefinedObjectError):
        return f"it does not know a parameter of the URL ({said})"
    if isinstance(error, ConnectionError) and "SSL" in text:
        return "it has no TLS, which sslmode asks for"
    # What poolers say of a user or tenant that they do not know, or a parameter that they do not pass on; or
    # Postgres of `options` that are none.
    if isinstance(
        error, asyncpg.ProtocolViolationError | asyncpg.InternalServerError | asyncpg.PostgresSyntaxError
    ):
        return f"it says {said!r}"
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
        (TimeoutError, "it does not answer"),
        (asyncpg.TargetServerAttributeNotMatched, "no server there is as target_session_attrs asks for"),
        (ssl.SSLCertVerificationError, "its certificate is not trusted"),
        (ssl.SSLError, "TLS with it failed"),
        (FileNotFoundError, "a socket or certificate file that the URL names is missing"),
    )
    return next((cause for kind, cause in causes if isinstance(error, kind)), type(error).__name__)
