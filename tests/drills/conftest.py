"""One world for all drills: starting it costs more than any of them."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.drills import world as worlds
from tests.drills.world import World


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run drills alone: they count and time answers under load."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.alone)
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="chat-stats-drills-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # Postgres runs as another user when we are root
        with worlds.world(folder) as world:
            yield world
