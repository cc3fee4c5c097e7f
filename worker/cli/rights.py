"""Checks who may write our tables, from which roles they hide rows, and which functions share our names."""

from chat_stats.service.database import queries
from chat_stats.service.database.rendering import declared
from chat_stats.service.database.snapshot import Snapshot

_SECONDS = 5.0


async def rights(snapshot: Snapshot) -> str:
    """Return "ok", or which roles may write our tables, with the statements that revoke it."""
    troubles = [
        f"{row['grantee']} has {row['privileges']} on {row['tables']}; "
        f"run: REVOKE ALL ON {row['tables']} FROM {row['grantee']}"
        for row in await snapshot.fetch(queries.load("table_rights"), timeout=_SECONDS)
    ]
    return "; ".join(troubles) or "ok"


async def row_security(snapshot: Snapshot) -> str:
    """Return "ok", or which of our tables hide rows from our role, so that functions scan the requests."""
    [row] = await snapshot.fetch(queries.load("tables_hidden"), timeout=_SECONDS)
    if row["tables"] is None:
        return "ok"
    return (
        f"row level security hides rows of {row['tables']} from the role {row['role']}, "
        "so that the rollup is not used: give it BYPASSRLS, or disable row level security there"
    )


async def overloads(snapshot: Snapshot) -> dict[str, str]:
    """Return what else has the name of a function of ours, by that name."""
    return {
        row["name"]: f"there is also {row['functions']}; "
        + (
            "run: chat-stats migrate"
            if row["in_our_schema"]
            else "drop it, or take its schema off the search_path"
        )
        for row in await snapshot.fetch(
            queries.load("function_overloads"), declared().functions(), snapshot.names.path, timeout=_SECONDS
        )
    }
