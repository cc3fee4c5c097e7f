"""The plain statements behind the fallback methods, one template each; `load("name")` returns `name.sql`."""

from functools import cache

from chat_stats.service.database.rendering import declared


def load(name: str) -> str:
    return _statements()[name]


@cache
def _statements() -> dict[str, str]:
    # All at the first use of one: what is wrong with any shows when a process starts.
    return declared().statements()
