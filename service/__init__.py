"""The chat-stats web service, and the core that it shares with the worker."""

from functools import cache
from typing import Any

VERSION: str


@cache
def _version() -> str:
    from importlib.metadata import version

    return version("chat-stats")


def __getattr__(name: str) -> Any:
    # Not at import: looking it up takes 15 ms, and few commands show it.
    if name == "VERSION":
        return _version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
