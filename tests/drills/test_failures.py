"""During any failure under load, all cached answers are served, and all become fresh again without help."""

from typing import Any

import pytest

from chat_stats.service.settings import Settings
from tests.drills import drill as drills
from tests.drills.breakages import BREAKAGES, OURS, Breakage, nothing
from tests.drills.world import World
from tests.processes import until

MEGABYTE = 1_000_000
#: Connections of each pool; a process has one pool for the cache and one for the queue.
REDIS_CONNECTIONS = 32


@pytest.fixture(scope="module")
def memory_before(world: World) -> list[int]:
    """The services' memory before the first failure, under the usual load of a drill."""
    drills.run(world, Breakage("nothing", nothing, nothing))
    return world.memory()


@pytest.mark.parametrize("breakage", BREAKAGES, ids=lambda breakage: breakage.name)
def test_clients_notice_no_failure_when(world: World, memory_before: object, breakage: Breakage) -> None:
    drill = drills.run(world, breakage)
    print(drills.HEADER, drills.report(drill), sep="\n")  # noqa: T201  shown on failure, or with -s
    drills.check(world, drill)


def test_no_connection_was_leaked_and_memory_did_not_grow(world: World, memory_before: list[int]) -> None:
    until(
        lambda: world.query(f"SELECT count(*) FROM pg_stat_activity WHERE {OURS} AND xact_start < now()") == 0
    )
    most = Settings(database_url=world.postgres.url(), _env_file=None).max_live_computations + 3
    of_postgres = world.query(f"SELECT count(*) FROM pg_stat_activity WHERE {OURS}")
    assert of_postgres <= (len(world.services) + 1) * most
    clients: Any = world.redis.client_list()
    assert len(clients) <= (len(world.services) + 1) * 2 * REDIS_CONNECTIONS
    grown = [after - before for before, after in zip(memory_before, world.memory(), strict=True)]
    assert max(grown) < 25 * MEGABYTE, grown
