"""Real processes over real servers."""

from itertools import count
from pathlib import Path

import pytest

from chat_stats.worker.local_servers import RedisServer
from tests.processes import environment

_numbers = count(1)


@pytest.fixture
def env(database_url: str, redis: RedisServer) -> dict[str, str]:
    """Settings for a migrated database and a part of Redis of its own, refreshed each second."""
    return environment(
        database_url,
        redis.url,
        cache_prefix=f"acceptance-{next(_numbers)}",
        refresh_interval_seconds=1,
        windows="24h,all",
        admin_token="let-me-in",
    )


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"
