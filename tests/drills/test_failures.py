"""Whatever breaks, under load: every request for a known answer gets it, and all is fresh again by itself."""

import gc
import time

import pytest

from tests.drills import drill as drills
from tests.drills.breakages import BREAKAGES, Breakage
from tests.drills.world import World
from tests.processes import until

MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def before(world: World) -> tuple[dict[str, int], list[int]]:
    """Connections and memory before anything broke, under the load that is usual here."""
    drills.run(world, "nothing", lambda: None, lambda: None)
    return world.connections(), world.memory()


@pytest.mark.parametrize("breakage", BREAKAGES, ids=lambda breakage: breakage.name)
def test_nobody_notices_when(world: World, before: object, breakage: Breakage) -> None:
    drill = drills.run(world, breakage.name, lambda: breakage.break_(world), lambda: breakage.mend(world))
    print(drills.HEADER, drills.report(drill), sep="\n")  # noqa: T201  shown when it fails, or with -s
    drills.check(world, drill)


def test_no_connection_was_leaked_and_memory_did_not_grow(
    world: World, before: tuple[dict[str, int], list[int]]
) -> None:
    connections, memory = before
    gc.collect()
    time.sleep(0.5)
    until(lambda: world.connections()["Postgres"] <= connections["Postgres"] + 20)
    assert world.connections()["Redis"] <= connections["Redis"] + 4 * 32
    grown = [after - then for then, after in zip(memory, world.memory(), strict=True)]
    assert max(grown) < 25 * MEGABYTE, grown
