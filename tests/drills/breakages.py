"""The failures of the drills: how each begins, and how it is repaired."""

import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from threading import Event, Thread

import redis

from chat_stats.service.cache.entry import decode, decode_generation, encode
from chat_stats.worker.local_servers import ServerError
from tests.drills.world import World

OURS = "application_name LIKE 'chat-stats%' AND datname = current_database()"
SEND_AWAY = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OURS}"


@dataclass(frozen=True, slots=True)
class Breakage:
    name: str
    break_: Callable[[World], object]
    mend: Callable[[World], object]


def kill_redis(world: World) -> None:
    world.redis_server.kill()


def start_redis(world: World) -> None:
    world.redis_server.start()


def restart_redis_empty(world: World) -> None:
    world.redis_server.kill()
    world.redis_server.start()


def restore_old_redis(world: World) -> None:
    """Kill Redis and start it with the dump from when everything was first cached."""
    world.redis_server.kill()
    dump = world.redis_server.folder / "dump.rdb"
    shutil.copy(world.old_dump, dump)
    world.redis_server.start()
    dump.unlink()


def freeze_redis(world: World) -> None:
    world.signal_redis(signal.SIGSTOP)


def thaw_redis(world: World) -> None:
    world.signal_redis(signal.SIGCONT)


_slow = Event()


def slow_redis_down(world: World) -> None:
    """Let every reply take up to 0.3 s."""
    _slow.clear()

    def pause() -> None:
        while not _slow.wait(0.05):
            with suppress(redis.RedisError):
                world.redis.client_pause(300)
                time.sleep(0.3)

    Thread(target=pause, daemon=True).start()


def speed_redis_up(world: World) -> None:
    _slow.set()
    world.redis.client_unpause()


def change_password(world: World) -> None:
    world.redis.config_set("requirepass", "another")
    client = redis.Redis.from_url(world.redis_server.url, password="another")
    client.client_kill_filter(_type="normal", skipme=True)
    client.close()


def restore_password(world: World) -> None:
    client = redis.Redis.from_url(world.redis_server.url, password="another")
    client.config_set("requirepass", "")
    client.close()


def fill_redis(world: World) -> None:
    world.redis.config_set("maxmemory-policy", "noeviction")
    world.redis.config_set("maxmemory", 1)


def empty_redis(world: World) -> None:
    world.redis.config_set("maxmemory", 0)


def kill_postgres(world: World) -> None:
    world.signal_postgres(signal.SIGKILL)
    assert world.postgres.process is not None
    world.postgres.process.wait()


def start_postgres(world: World) -> None:
    for _ in range(20):  # shared memory of the killed processes is in use for a moment
        with suppress(ServerError):
            world.postgres.start()
            return
        time.sleep(0.2)


def freeze_postgres(world: World) -> None:
    world.signal_postgres(signal.SIGSTOP)


def thaw_postgres(world: World) -> None:
    world.signal_postgres(signal.SIGCONT)


def freeze_both(world: World) -> None:
    freeze_redis(world)
    freeze_postgres(world)


def thaw_both(world: World) -> None:
    thaw_postgres(world)
    thaw_redis(world)


def allow_no_connection(world: World) -> None:
    world.execute("ALTER ROLE chat_stats CONNECTION LIMIT 0", SEND_AWAY)


def allow_connections(world: World) -> None:
    world.execute("ALTER ROLE chat_stats CONNECTION LIMIT -1")


def make_every_statement_too_slow(world: World) -> None:
    world.execute(
        "BEGIN; ALTER TABLE chat_completion_requests RENAME TO hidden; "
        "CREATE VIEW chat_completion_requests AS SELECT * FROM hidden WHERE pg_sleep(5) IS NOT NULL; "
        "GRANT SELECT ON chat_completion_requests TO chat_stats; COMMIT"
    )


def make_statements_fast(world: World) -> None:
    world.execute(
        "BEGIN; DROP VIEW chat_completion_requests; "
        "ALTER TABLE hidden RENAME TO chat_completion_requests; COMMIT"
    )


def fail_over_to_read_only(world: World) -> None:
    """A failover as clients see it: all connections end, and the next server is a standby."""
    world.execute("ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()", SEND_AWAY)


def promote(world: World) -> None:
    world.execute("ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()")


def kill_worker(world: World) -> None:
    assert world.worker is not None
    world.worker.send(signal.SIGKILL)
    world.worker.wait()


def start_worker(world: World) -> None:
    assert world.worker is not None
    log = world.worker.log
    world.start_worker(log.with_name(f"worker-{time.monotonic_ns()}.log"))


def freeze_worker(world: World) -> None:
    assert world.worker is not None
    world.worker.send(signal.SIGSTOP)


def thaw_worker(world: World) -> None:
    assert world.worker is not None
    world.worker.send(signal.SIGCONT)


def set_clock_back(world: World) -> None:
    """Date all entries an hour into the future, as after the clock was set back by an hour."""
    hour = timedelta(hours=1)
    for key in world.redis.scan_iter(f"{world.prefix}:v2:entry:*"):
        entry = decode(world.stored(key))
        world.redis.set(key, encode(replace(entry, computed_at=entry.computed_at + hour)), keepttl=True)
    key = f"{world.prefix}:v2:generation"
    last = decode_generation(world.stored(key))
    assert last is not None
    world.redis.set(key, replace(last, computed_at=last.computed_at + hour).encode())


def nothing(_world: World) -> None:
    """Do nothing: it recovers by itself."""


BREAKAGES = [
    Breakage("Redis is killed", kill_redis, start_redis),
    Breakage("Redis hangs", freeze_redis, thaw_redis),
    Breakage("Redis replies slowly", slow_redis_down, speed_redis_up),
    Breakage("Redis is restarted empty", restart_redis_empty, nothing),
    Breakage("Redis is restored from an old dump", restore_old_redis, nothing),
    Breakage("Redis has another password", change_password, restore_password),
    Breakage("Redis is full", fill_redis, empty_redis),
    Breakage("Postgres is killed", kill_postgres, start_postgres),
    Breakage("Postgres hangs", freeze_postgres, thaw_postgres),
    Breakage("Redis and Postgres hang", freeze_both, thaw_both),
    Breakage("Postgres accepts no more connections", allow_no_connection, allow_connections),
    Breakage("every statement takes too long", make_every_statement_too_slow, make_statements_fast),
    Breakage("Postgres fails over to a read-only server", fail_over_to_read_only, promote),
    Breakage("the worker is killed", kill_worker, start_worker),
    Breakage("the worker hangs", freeze_worker, thaw_worker),
    Breakage("the clock is set back", set_clock_back, nothing),
]
