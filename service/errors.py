"""Every error that chat-stats raises on purpose, with the HTTP status and exit code that it becomes.

    ChatStatsError                 500  exit 1
    ├── SettingsError              500  exit 2   a setting is missing or wrong
    ├── InvalidParameter           422  exit 2   a value that a caller sent; names the parameter
    ├── NotAuthenticated           401           no key, or a wrong one
    ├── NotPermitted               403           a key that is of no use here
    ├── NotFound                   404
    ├── NotAcceptable              406           Accept allows none of the formats
    ├── TooManyRequests            429           one client asked too often
    ├── SchemaError                503  exit 3   the database lacks a table or column that is needed
    │   └── RowsHidden                           row level security keeps rows from our role
    └── Unavailable                503  exit 4   an outage: try again after `retry_after` seconds
        ├── DatabaseUnavailable                  Postgres: no connection, or lost
        ├── DatabaseBusy                         too many live computations, or a table is locked
        ├── ComputationTimedOut                  no method of the ladder answered in time
        ├── StillComputing                       longer than the answer's timeout; it goes on
        ├── CacheUnavailable                     a refresh could not be published to Redis
        ├── QueueUnavailable                     the refresh queue's Redis does not answer
        └── RefreshRunning                       another refresh of the same cache is under way

`service.http.problems` turns them into problem+json, `worker.cli.app` into an exit code. Redis trouble while
reading or writing the cache is not among them: it is a miss (`service.cache.store`).
"""


class ChatStatsError(Exception):
    """Base of all. The message is shown to the caller: no SQL, no DSN, no secret in it."""

    status = 500
    title = "Internal error"
    exit_code = 1
    retry_after: int | None = None


class SettingsError(ChatStatsError):
    title = "Wrong settings"
    exit_code = 2


class InvalidParameter(ChatStatsError):
    status = 422
    title = "Invalid parameter"
    exit_code = 2

    def __init__(self, parameter: str, message: str) -> None:
        super().__init__(message)
        self.parameter = parameter


class NotAuthenticated(ChatStatsError):
    status = 401
    title = "Not authenticated"


class NotPermitted(ChatStatsError):
    status = 403
    title = "Not permitted"


class NotFound(ChatStatsError):
    status = 404
    title = "Not found"


class NotAcceptable(ChatStatsError):
    status = 406
    title = "Not acceptable"


class TooManyRequests(ChatStatsError):
    status = 429
    title = "Too many requests"

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class SchemaError(ChatStatsError):
    status = 503
    title = "Database schema incomplete"
    exit_code = 3
    retry_after = 30


class RowsHidden(SchemaError):
    """Statistics of the rows that are left would look right, and be wrong."""

    title = "Rows hidden by row level security"


class Unavailable(ChatStatsError):
    status = 503
    title = "Temporarily unavailable"
    exit_code = 4
    retry_after = 5


class DatabaseUnavailable(Unavailable):
    title = "Database unavailable"


class DatabaseBusy(Unavailable):
    title = "Database busy"


class LockHeld(Unavailable):
    """A role that has no business with it holds one of our locks."""

    title = "Lock held"


class ComputationTimedOut(Unavailable):
    title = "Computation timed out"
    retry_after = 30


class StillComputing(Unavailable):
    title = "Still computing"
    retry_after = 2


class QueueUnavailable(Unavailable):
    title = "Refresh queue unavailable"


class CacheUnavailable(Unavailable):
    title = "Cache unavailable"


class TooManyStreams(Unavailable):
    title = "Too many streams"
    retry_after = 60


class RefreshRunning(Unavailable):
    title = "Refresh running"


def error_named(name: str, message: str, parameter: str | None = None) -> ChatStatsError:
    """Return the error of that class, as another process raised it; an unknown class is `Unavailable`."""
    if parameter is not None:
        return InvalidParameter(parameter, message)
    known: dict[str, type[ChatStatsError]] = {
        kind.__name__: kind
        for kind in (
            NotFound,
            SchemaError,
            RowsHidden,
            DatabaseUnavailable,
            DatabaseBusy,
            ComputationTimedOut,
        )
    }
    return known.get(name, Unavailable)(message)
