"""redis-py's connections, in which a cancellation is never lost.

They send within `asyncio.wait_for`, which on Python 3.11 returns the result of what is done already, although
its task was cancelled meanwhile: a task that is ended while it sends would go on for ever.
"""

import asyncio
from collections.abc import Iterable
from functools import cache

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import TimeoutError as RedisTimeoutError


class _Cancellable(AbstractConnection):
    async def send_packed_command(
        self, command: bytes | str | Iterable[bytes], check_health: bool = True
    ) -> None:
        if not self.is_connected:
            await self.connect()  # type: ignore[no-untyped-call]
        elif check_health:
            await self.check_health()  # type: ignore[no-untyped-call]
        seconds, self.socket_timeout = self.socket_timeout, None
        try:
            async with asyncio.timeout(seconds):
                await super().send_packed_command(command, check_health=False)
        except TimeoutError:  # the connection is closed by now
            raise RedisTimeoutError("Timeout writing to socket") from None
        finally:
            self.socket_timeout = seconds


@cache
def cancellable(connection_class: type[AbstractConnection]) -> type[AbstractConnection]:
    """Return the class of such connections that are otherwise of this class."""
    return type(connection_class.__name__, (_Cancellable, connection_class), {})
