"""Bounds the connections of a process, so that it never runs out of file descriptors.

Without a descriptor left, the event loop resets every connection that waits to be accepted.
"""

import asyncio
import socket
import struct
import sys
from functools import cache
from http import HTTPStatus
from typing import cast

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from chat_stats.service.http.protocol import BoundedHttpProtocol, problem_response

if sys.platform != "win32":
    import resource

#: Descriptors for all else: 64 connections to Redis, those to Postgres, logs, listening sockets.
RESERVED_DESCRIPTORS = 96
#: A process is not given more descriptors than this, also where the system has no limit.
MOST_DESCRIPTORS = 65_536
#: Connections that wait to be accepted, at most: uvicorn's default.
MOST_WAITING = 2048

#: In Linux' `struct tcp_info`: milliseconds since the last data received; bytes that the client acknowledged.
_TCP_INFO_BYTES = 136
_LAST_RECEIVED_AT = struct.Struct("52xI")
_ACKNOWLEDGED_AT = struct.Struct("120xQ")


def raise_descriptor_limit() -> None:
    """Raise the soft limit of open files to the hard one."""
    if sys.platform == "win32":
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@cache
def max_connections() -> int:
    """Return how many connections this process keeps open.

    As many again may wait to be accepted: the event loop accepts all of them before it closes others.
    """
    if sys.platform == "win32":
        return MOST_WAITING
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    descriptors = MOST_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft
    return max(descriptors - RESERVED_DESCRIPTORS, descriptors // 2) // 2


def max_waiting() -> int:
    """Return how many connections may wait to be accepted."""
    return min(MOST_WAITING, max_connections())


class LimitedHttpProtocol(BoundedHttpProtocol):
    """Closes the idlest connections when there are too many; refuses a new one when all are busy."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        limit, connections = max_connections(), cast("set[LimitedHttpProtocol]", self.connections)
        if len(connections) <= limit:
            return
        idle = sorted((each for each in connections if each is not self and each.is_idle), key=_keep)
        # Several at once: looking through all for each new connection would take long.
        for connection in idle[: max(1, limit // 8)]:
            connection.transport.close()
            connections.discard(connection)
        if not idle:
            detail = f"the service has {limit} connections already"
            transport.write(problem_response(HTTPStatus.SERVICE_UNAVAILABLE, detail))
            transport.close()

    @property
    def is_idle(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is None or cycle.response_complete


def _keep(connection: LimitedHttpProtocol) -> tuple[bool, int]:
    """Return the order in which connections are closed: first those without any answer, then the idlest."""
    try:
        peer: socket.socket = connection.transport.get_extra_info("socket")
        info = peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        (idle_ms,), (acknowledged,) = _LAST_RECEIVED_AT.unpack_from(info), _ACKNOWLEDGED_AT.unpack_from(info)
    except (AttributeError, OSError, struct.error):  # not Linux, or closed
        return False, 0
    return acknowledged > 1, -idle_ms
