"""The budget in Redis for answers that the worker does not keep computed, such as those for ranges of dates.

Clients choose the ranges, so these answers share `on_demand_cache_bytes`, and the oldest make way.
A sorted set (by expiry) and a hash (of sizes) list them; one script changes both together with the entries.

    chat-stats:v2:on-demand:expiry    entry's key -> when it expires, in ms
    chat-stats:v2:on-demand:bytes     entry's key -> bytes, and "total"
"""

from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

#: Approximate bytes of an entry in Redis beside its value: keys, expiry, and the rows of this module.
OVERHEAD_BYTES = 400

# KEYS: expiry, bytes, the entry. ARGV: the value, its bytes, its lifetime in ms, bytes for all together.
_STORE = """
local function forget(key)
    redis.call('HINCRBY', KEYS[2], 'total', -(tonumber(redis.call('HGET', KEYS[2], key)) or 0))
    redis.call('HDEL', KEYS[2], key)
    redis.call('ZREM', KEYS[1], key)
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for _, key in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 100)) do
    forget(key)
end
forget(KEYS[3])
local bytes, room = tonumber(ARGV[2]), tonumber(ARGV[4])
if bytes > room then
    redis.call('DEL', KEYS[3])
    return 0
end
while (tonumber(redis.call('HGET', KEYS[2], 'total')) or 0) + bytes > room do
    local oldest = redis.call('ZRANGE', KEYS[1], 0, 0)[1]
    if not oldest then
        redis.call('DEL', KEYS[2])  -- sizes of entries that the sorted set has lost
        break
    end
    redis.call('DEL', oldest)
    forget(oldest)
end
redis.call('SET', KEYS[3], ARGV[1], 'PX', ARGV[3])
redis.call('ZADD', KEYS[1], now + ARGV[3], KEYS[3])
redis.call('HSET', KEYS[2], KEYS[3], bytes)
redis.call('HINCRBY', KEYS[2], 'total', bytes)
return 1
"""


@dataclass(frozen=True, slots=True)
class OnDemandBudget:
    """Accounts for the answers on demand of one cache."""

    prefix: str
    max_bytes: int

    def store(self, pipe: Pipeline, key: str, value: bytes, *, lifetime_ms: int) -> None:
        """Add to the pipeline: store `value`, and remove the oldest until it fits."""
        arguments: Any = (key, value, _size(key, value), lifetime_ms, self.max_bytes)
        pipe.eval(_STORE, 3, *self._keys, *arguments)

    def fits(self, key: str, value: bytes) -> bool:
        """Return whether `value` fits in the whole budget; else it is not stored."""
        return _size(key, value) <= self.max_bytes

    async def used_bytes(self, redis: Redis) -> int:
        """Return the bytes that the answers take; expired ones count until the next answer is stored."""
        total: Any = await redis.hget(self._keys[1], "total")  # type: ignore[misc]
        return int(total or 0)

    @property
    def _keys(self) -> tuple[str, str]:
        return f"{self.prefix}:on-demand:expiry", f"{self.prefix}:on-demand:bytes"


def _size(key: str, value: bytes) -> int:
    return len(value) + len(key) + OVERHEAD_BYTES
