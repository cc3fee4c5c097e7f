"""What chat-stats installs, under one name.

In a checkout `service`, `worker` and `sql` are links to the folders beside this one; a wheel holds their
files.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chat_stats.service.app import create_app

__all__ = ["__version__", "create_app"]

__version__: str


def __getattr__(name: str) -> Any:
    # Not at import: Python loads this package ahead of each of its modules, and most need no web service.
    if name == "create_app":
        from chat_stats.service.app import create_app

        return create_app
    if name == "__version__":
        from chat_stats.service import VERSION

        return VERSION
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
