"""What an error of Redis means to the operator who has to fix it."""

import socket
import ssl

from redis import exceptions
from redis.asyncio.sentinel import MasterNotFoundError

from chat_stats.service.connecting.refusals import refusal
from chat_stats.service.connecting.url_checks import NO_CLUSTER
from chat_stats.service.errors import CacheUnavailable

#: What the client raises when Redis does not answer, or refuses.
TROUBLE = (exceptions.RedisError, OSError)  # TimeoutError is an OSError

_MEANINGS: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
    ((exceptions.AuthenticationError,), "refuses the user or the password"),
    ((exceptions.AuthorizationError, exceptions.NoPermissionError), "does not permit that to this user"),
    ((exceptions.ReadOnlyError,), "is a read-only replica"),
    ((exceptions.OutOfMemoryError,), "has no memory left"),
    ((exceptions.BusyLoadingError,), "is loading its data"),
    ((exceptions.ClusterError, exceptions.AskError, exceptions.ClusterCrossSlotError), NO_CLUSTER),
    ((MasterNotFoundError,), "does not answer: no Sentinel that can be reached knows a master of that name"),
    ((ssl.SSLCertVerificationError,), "does not answer: its certificate is not trusted"),
    ((ssl.SSLError,), "does not answer: TLS with it failed"),
    ((socket.gaierror,), "does not answer: its host name is not known"),
    ((FileNotFoundError,), "does not answer: a socket or certificate file that its URL names is missing"),
    ((TimeoutError, exceptions.TimeoutError), "does not answer"),
)


def trouble_of(error: BaseException) -> str:
    """Return what is wrong, to follow "Redis"; without host and user, since clients may see it."""
    if isinstance(error, exceptions.ResponseError) and str(error).startswith("DB index"):
        return "has no database of that number"
    if isinstance(error, exceptions.ResponseError) and "CROSSSLOT" in str(error):  # of a pipeline
        return NO_CLUSTER
    cause: BaseException | None = error
    while cause is not None:  # redis-py wraps the errors of the connection
        if (refused := refusal(cause)) is not None:
            return f"does not answer: {refused}"
        for kinds, meaning in _MEANINGS:
            if isinstance(cause, kinds):
                return meaning
        cause = cause.__cause__ or cause.__context__
    if str(error).startswith(("Connection closed", "A ConnectionError occurred")):  # in a transaction
        return "does not answer: it closed the connection"
    what = "refuses that" if isinstance(error, exceptions.ResponseError) else "does not answer"
    return f"{what} ({type(error).__name__})"


def named(error: BaseException) -> str:
    """Return the error's class, and its text if it has one, for the log."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def is_foreign(error: exceptions.ResponseError) -> bool:
    """Return whether Redis is well, but the value under a key is no string: another program stored it."""
    return str(error).startswith("WRONGTYPE")


def unavailable(error: BaseException) -> CacheUnavailable:
    """Return the error to raise where Redis is needed."""
    return CacheUnavailable(f"Redis {trouble_of(error)}")
