"""A standby is promoted under load: known answers are served, refreshes and folds go on."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from chat_stats.worker.local_servers import RedisServer, free_port
from tests.drills.load import load
from tests.drills.writer import Writer
from tests.processes import chat_stats, environment, running, until
from tests.scale.failovers import BRISK, FAILOVERS, FRESH_AGAIN_SECONDS, TARGETS, computed_after, failed
from tests.scale.patroni import patroni_pair
from tests.scale.standby import Pair, execute, pair

pytestmark = pytest.mark.slow

FILL = (
    "INSERT INTO providers (id, name, slug) VALUES (1, 'One', 'one')",
    "INSERT INTO models (id, provider_id, model_name) VALUES (1, 1, 'A'), (2, 1, 'B'), (3, 1, 'C')",
    "SELECT 1",
)


@pytest.mark.parametrize("number", range(FAILOVERS))
@pytest.mark.parametrize(
    "started", [pytest.param(pair, id="pg_ctl"), pytest.param(patroni_pair, id="Patroni")]
)
def test_no_known_answer_fails_and_no_fold_is_lost_or_doubled(
    server_folder: Path,
    redis: RedisServer,
    started: Callable[[Path], AbstractContextManager[Pair]],
    number: int,
) -> None:
    folder = server_folder / f"{started.__name__}-{number}"
    folder.mkdir()
    folder.chmod(0o755)
    port = free_port()
    with started(folder) as servers:
        env = environment(
            servers.either_url,
            redis.url,
            read_database_url=servers.standby.url(),
            cache_prefix=folder.name,
            **BRISK,
        )
        for command in (["migrate"], ["rollup", "enable"]):
            done = chat_stats(*command, env=env)
            assert done.returncode == 0, done.stderr
        execute(servers.primary.url(), *FILL)
        writer = Writer(f"{servers.either_url}?target_session_attrs=primary", per_second=50)
        with (
            running("worker", env=env, log=folder / "worker.log") as worker,
            running("serve", "--port", str(port), env=env, log=folder / "service.log") as service,
            load(100, lambda: (port, TARGETS[time.monotonic_ns() % len(TARGETS)])) as replies,
        ):
            writer.start()
            started_at = time.time()
            until(lambda: computed_after(replies, 0), seconds=60, what=worker.output)
            until(lambda: _folded_at(servers.primary.url()) > started_at, seconds=60, what=worker.output)
            known_at = time.time()
            promoted_at = servers.promote()
            new = servers.standby.url()
            until(lambda: computed_after(replies, promoted_at), seconds=60, what=worker.output)
            refreshed_seconds = time.time() - promoted_at
            until(lambda: _folded_at(new) > promoted_at, seconds=60, what=worker.output)
            refreshed = chat_stats("refresh", env=env)
            writer.stop()
        verified = chat_stats(
            "rollup", "verify", env=env
        )  # without the worker, whose upkeep has the same lock
        print(f"refreshed {refreshed_seconds:.1f} s after the promotion")  # noqa: T201  shown on failure, or with -s
    assert failed(replies, known_at) == []
    assert refreshed_seconds < 2 * FRESH_AGAIN_SECONDS
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert refreshed.returncode == 0, refreshed.stdout + refreshed.stderr
    assert "Traceback" not in worker.output() + service.output()


def _folded_at(url: str) -> float:
    return float(
        execute(url, "SELECT extract(epoch FROM folded_at)::float8 FROM chat_stats_rollup_state") or 0
    )
