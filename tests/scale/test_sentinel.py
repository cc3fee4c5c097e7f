"""A Sentinel's failover under load: local copies answer on, and what follows is fresh again."""

import time
from collections import Counter
from datetime import datetime
from pathlib import Path

import pytest

from chat_stats.worker.local_servers import free_port
from tests.drills.load import Reply, load
from tests.processes import chat_stats, environment, running, until
from tests.scale.sentinels import sentinels

pytestmark = pytest.mark.slow

#: What the worker keeps computed.
TARGETS = [f"/api/monitoring/chat-requests/{name}?window=all" for name in ("counts", "summary", "models")]
#: Seconds after which answers are to be fresh again; a machine under load gets twice that.
FRESH_AGAIN_SECONDS = 5.0


def test_no_hit_fails_while_a_replica_becomes_the_master(database_url: str, server_folder: Path) -> None:
    folder = server_folder / "sentinel"
    folder.mkdir()
    port = free_port()
    with sentinels(folder) as redis:
        env = environment(
            database_url,
            redis.url,
            windows="all",
            refresh_interval_seconds=1,
            fresh_seconds=3,
            local_cache_seconds=0.2,
        )
        with (
            running("worker", env=env, log=folder / "worker.log") as worker,
            running("serve", "--port", str(port), env=env, log=folder / "service.log") as service,
            load(100, lambda: (port, TARGETS[time.monotonic_ns() % len(TARGETS)])) as replies,
        ):
            until(lambda: _is_hit(replies), seconds=60, what=lambda: worker.output() + service.output())
            known_from = len(replies)
            failed_over_at = redis.fail_over()
            until(lambda: _computed_after(replies, failed_over_at), seconds=60, what=worker.output)
            fresh_seconds = time.time() - failed_over_at
            status = chat_stats("status", env=env)
        after = replies[known_from:]
    assert Counter(reply.status for reply in after) == {200: len(after)}
    assert {reply.metadata["cache"] for reply in after} <= {"hit", "stale"}
    assert fresh_seconds < 2 * FRESH_AGAIN_SECONDS
    assert status.returncode == 0, status.stdout
    assert "Traceback" not in worker.output() + service.output()


def _is_hit(replies: list[Reply]) -> bool:
    return len(replies) > 100 and all(
        reply.status == 200 and reply.metadata["cache"] == "hit" for reply in replies[-50:]
    )


def _computed_after(replies: list[Reply], moment: float) -> bool:
    return all(
        reply.status == 200
        and reply.metadata["cache"] == "hit"
        and datetime.fromisoformat(reply.metadata["computed_at"]).timestamp() > moment
        for reply in replies[-20:]
    )
