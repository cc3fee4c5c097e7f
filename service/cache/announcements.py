"""Tells this process of each generation that is published, by whichever process.

chat-stats:v2:published   the channel on which `Publication` announces them

A process subscribes once, however many clients listen to it. A message may be lost while Redis is away, so it
reads the pointer to the last generation as well: after subscribing, and every `LOOK_SECONDS`.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from redis.asyncio.client import PubSub

from chat_stats.service.cache.entry import Generation, decode_generation
from chat_stats.service.cache.errors import TROUBLE, trouble_of
from chat_stats.service.cache.publication import Publication
from chat_stats.service.cache.store import Cache
from chat_stats.service.errors import CacheUnavailable

logger = logging.getLogger(__name__)

#: Seconds between two looks at the pointer, and between two attempts to subscribe.
LOOK_SECONDS = 5.0

Listener = Callable[[Generation], None]


class Announcements:
    """One per process."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._publication = Publication(cache)
        self._listeners: list[Listener] = []
        #: The last one of a refresh (False), and of the totals alone (True).
        self._last: dict[bool, Generation] = {}

    def listen(self, listener: Listener) -> None:
        """Have `listener` called with each generation that is later than the one before of its kind."""
        self._listeners.append(listener)

    async def follow(self) -> None:
        """Listen until cancelled; while Redis is away, try again and again."""
        while True:
            try:
                async with self._cache.redis.pubsub() as subscription:
                    await subscription.subscribe(self._publication.channel)
                    await self._receive(subscription)
            except TROUBLE as error:
                # The requests log that Redis is away, and that it is back.
                logger.debug("not subscribed: Redis %s", trouble_of(error))
            with suppress(CacheUnavailable):  # it may refuse to let us subscribe, and answer all the same
                await self._look()
            await asyncio.sleep(LOOK_SECONDS)

    async def _receive(self, subscription: PubSub) -> None:
        while True:
            message: dict[str, Any] | None = await subscription.get_message(timeout=LOOK_SECONDS)
            if message is not None and message["type"] == "message":
                self._found(decode_generation(message["data"]))
            else:  # nothing for a while, or the subscription begins
                with suppress(CacheUnavailable):
                    await self._look()

    async def _look(self) -> None:
        self._found(await self._publication.last_generation())

    def _found(self, generation: Generation | None) -> None:
        if generation is None or not self._is_later(generation):
            return
        self._last[bool(generation.totals)] = generation
        for listener in self._listeners:
            listener(generation)

    def _is_later(self, generation: Generation) -> bool:
        last = self._last.get(bool(generation.totals))
        return last is None or (
            generation.generation != last.generation
            and not self._cache.clock.is_newer(last.computed_at, generation.computed_at)
        )
