"""Service and worker before and after row level security hides rows from their role."""

import asyncpg
import pytest

from chat_stats.service.errors import RowsHidden
from chat_stats.service.explorer import explorer
from chat_stats.service.settings import Settings
from tests.integration.conftest import OpenClient, OpenFlow

pytestmark = pytest.mark.every_postgres

HIDE = "ALTER TABLE models ENABLE ROW LEVEL SECURITY"
SHOW = "ALTER TABLE models DISABLE ROW LEVEL SECURITY"
DETAIL = "row level security hides rows of models from the role "
STATISTICS = ("providers", "models", "models/1", "counts", "summary", "timeseries?bucket=1d")
SINGLE = ("", "?limit=5000", "?format=csv", "?format=ndjson", "?format=parquet", "/plot-data")


async def test_every_answer_that_is_not_cached_is_a_problem_that_says_so(
    as_reader: Settings, gateway: asyncpg.Connection, client_of: OpenClient
) -> None:
    client = await client_of(as_reader)
    await gateway.execute(HIDE)
    paths = [f"/{name}" for name in STATISTICS] + list(SINGLE)
    for path in paths:
        response = await client.get(f"/chat-requests{path}")
        assert response.status_code == 503, path
        problem = response.json()
        assert problem["title"] == "Rows hidden by row level security", path
        assert problem["detail"].startswith(DETAIL), path
        assert "BYPASSRLS" in problem["detail"]
    await gateway.execute(SHOW)
    for path in paths:
        assert (await client.get(f"/chat-requests{path}")).status_code == 200, path


async def test_cached_answers_are_served_as_stale(
    as_reader: Settings,
    gateway: asyncpg.Connection,
    client_of: OpenClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(explorer, "PLOT_SECONDS", 0.0)
    client = await client_of(as_reader)
    paths = ("/chat-requests/counts", "/chat-requests/summary", "/chat-requests/plot-data")
    known = [(await client.get(path)).json() for path in paths]
    await gateway.execute(HIDE)
    for _ in range(3):
        for path, before in zip(paths, known, strict=True):
            body = (await client.get(path)).json()
            assert body["data"] == before["data"]
            assert body["metadata"]["computed_at"] == before["metadata"]["computed_at"]
    assert body["metadata"]["cache"] == "stale"


async def test_readiness_names_row_level_security(
    as_reader: Settings, gateway: asyncpg.Connection, client_of: OpenClient
) -> None:
    client = await client_of(as_reader)
    await gateway.execute(HIDE)
    response = await client.get("http://test/health/ready")
    assert response.status_code == 503
    assert response.json()["postgres"]["ok"] is False
    assert response.json()["postgres"]["detail"].startswith(DETAIL)


async def test_a_refresh_publishes_nothing(
    as_reader: Settings, gateway: asyncpg.Connection, another_flow: OpenFlow
) -> None:
    flow = await another_flow(as_reader)
    assert (await flow.stats.refresh()) is not None
    before = await flow.cache.entries()
    await gateway.execute(HIDE)
    with pytest.raises(RowsHidden, match=DETAIL):
        await flow.stats.refresh()
    assert {key: entry.body for key, entry in (await flow.cache.entries()).items()} == {
        key: entry.body for key, entry in before.items()
    }
