"""A cluster of Citus, and databases on it."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.conftest import run_migrations
from tests.scale.citus import DISTRIBUTE, TABLES, Cluster, cluster, run
from tests.tools import CITUS, need

_numbers = count(1)


@pytest.fixture(scope="module")
def citus(server_folder: Path, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    found = need(CITUS)
    folder = server_folder / f"citus_{request.module.__name__.rpartition('.')[2]}"
    folder.mkdir()
    folder.chmod(0o755)
    with cluster(folder, found, workers=2, spare=2) as servers:
        yield servers


@pytest.fixture
async def distributed(citus: Cluster) -> str:
    """The URL of a gateway's database without any request, distributed by model, and migrated."""
    url = await citus.create_database(f"distributed_{next(_numbers)}")
    await run(url, TABLES, *DISTRIBUTE)
    await run_migrations(url)
    return url
