"""Whether a connection may keep the plans of statements, which are prepared under names for that.

Planning takes as long as many answers from a rollup. But a proxy that pools transactions may give each of
them another session, which does not know the name.
"""

from typing import Any

import asyncpg

#: Plans that one connection keeps, of up to 1.3 MB each; asyncpg forgets them after five minutes.
MOST_KEPT = 32

#: Options of asyncpg for a connection that keeps plans, and for one that does not: there no statement is
#: short enough. (Without any cache, asyncpg has each statement parsed twice, in case it is outside of a
#: transaction. Ours never are.)
KEEPS: dict[str, Any] = {"statement_cache_size": MOST_KEPT, "max_cacheable_statement_size": 0}
KEEPS_NONE: dict[str, Any] = {"statement_cache_size": 1, "max_cacheable_statement_size": 1}


async def is_direct(connection: "asyncpg.Connection[asyncpg.Record]") -> bool:
    """Return whether the server itself greeted the client: a proxy that pools gives out numbers of its own.

    (They are what a client sends to cancel a statement, and no session is that of one client.)
    """
    async with connection.transaction(readonly=True):
        statement = await connection.prepare("SELECT pg_catalog.pg_backend_pid()", name="")
        return bool(await statement.fetchval() == connection.get_server_pid())
