"""Refuses a Redis Cluster, before anything is asked of it."""

from contextlib import suppress

from chat_stats.service.cache.errors import TROUBLE
from chat_stats.service.cache.store import connect
from chat_stats.service.connecting.url_checks import NO_CLUSTER
from chat_stats.service.errors import SettingsError
from chat_stats.service.settings import PREFIX, Settings


async def refuse_cluster(settings: Settings) -> None:
    """Raise `SettingsError` when the cache's or the queue's Redis is a cluster, if it answers."""
    for name in ("redis_url", "queue_redis_url"):
        if (url := getattr(settings, name)) is None:
            continue
        redis = connect(url.get_secret_value(), timeout_seconds=settings.redis_timeout_seconds)
        try:
            with suppress(*TROUBLE):
                # Every user may say HELLO, whatever its ACL.
                told = await redis.execute_command("HELLO")  # type: ignore[no-untyped-call]
                if b"cluster" in (told.values() if isinstance(told, dict) else told):
                    raise SettingsError(f"{PREFIX}{name.upper()}: {NO_CLUSTER}")
        finally:
            await redis.aclose(close_connection_pool=True)
