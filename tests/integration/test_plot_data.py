"""`/chat-requests/plot-data` as a client sees it."""

from datetime import datetime
from itertools import pairwise
from typing import Any

import asyncpg
import httpx
import pytest

from chat_stats.service.explorer import explorer
from chat_stats.service.explorer.explorer import Explorer
from chat_stats.service.explorer.plot import _slots
from chat_stats.service.settings import Settings
from tests.integration.conftest import OpenClient

PATH = "/chat-requests/plot-data"


async def get(client: httpx.AsyncClient, **parameters: Any) -> dict[str, Any]:
    response = await client.get(PATH, params=parameters)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    arrays = body["data"]["plot_data"]
    assert len(arrays["tokens"]) == len(arrays["latency"]) == len(arrays["timestamps"])
    assert (
        len(arrays["tokens"]) == body["metadata"]["returned_count"] == body["metadata"]["sampling"]["points"]
    )
    moments = [datetime.fromisoformat(moment) for moment in arrays["timestamps"] if moment is not None]
    assert moments == sorted(moments)
    return body


@pytest.fixture
async def year(connection: asyncpg.Connection) -> asyncpg.Connection:
    """20,000 requests: 1,000 over a year, evenly, of model 1; and within an hour of May 18,000 of model 2,
    one in 300 failed, and 1,000 at one moment. `input_tokens` is the request's id."""
    await connection.execute("""
        INSERT INTO providers (id, name, slug) VALUES (1, 'One', 'one');
        INSERT INTO models (id, provider_id, model_name) VALUES (1, 1, 'Quiet'), (2, 1, 'Busy');
        INSERT INTO chat_completion_requests
            (id, model_id, created_at, status, input_tokens, output_tokens, processing_time_ms)
        SELECT
            n, CASE WHEN n <= 1000 THEN 1 ELSE 2 END,
            CASE
                WHEN n <= 1000 THEN '2026-01-01Z'::timestamptz + (n - 1) * interval '8 hours 45 minutes'
                WHEN n <= 19000 THEN '2026-05-01T10:00Z'::timestamptz + (n - 1000) * interval '0.2 s'
                ELSE '2026-05-01T12:00Z'
            END,
            CASE WHEN n % 300 = 0 THEN 'failed' ELSE 'completed' END, n, 0, n / 2.0
        FROM generate_series(1, 20000) AS n;
        ANALYZE;
    """)
    return connection


async def test_few_requests_are_all_returned(client: httpx.AsyncClient, gateway: asyncpg.Connection) -> None:
    body = await get(client)
    assert body["data"]["plot_data"]["tokens"] == [15, 11, 22, 33, 5, 0]
    assert body["data"]["plot_data"]["latency"] == [10, 100, 200, 301, 50, None]
    assert body["data"]["plot_data"]["timestamps"][0] == "2020-01-01T00:00:00Z"
    assert [row["id"] for row in body["data"]["recent_requests"]] == [5, 4, 3, 2, 1, 6]
    assert body["data"]["recent_requests"][0]["models"]["providers"]["slug"] == "one"
    metadata = body["metadata"]
    assert metadata["sampling"] == {"method": "all", "points": 6, "max_points": 2000, "per_slot": None}
    assert (metadata["recent_count"], metadata["total_count"]) == (6, 6)
    assert (metadata["compression"], metadata["format_version"]) == ("arrays", "1.0")


async def test_older_clients_find_both_parts_at_the_top(
    client: httpx.AsyncClient, gateway: asyncpg.Connection
) -> None:
    body = await get(client)
    assert body["recent_requests"] == body["data"]["recent_requests"]
    assert body["plot_data"] == body["data"]["plot_data"]


async def test_no_requests_give_empty_arrays(client: httpx.AsyncClient, gateway: asyncpg.Connection) -> None:
    body = await get(client, model_id=4711)
    assert body["data"] == {
        "recent_requests": [],
        "plot_data": {"tokens": [], "latency": [], "timestamps": []},
    }


async def test_many_requests_become_a_bounded_number_of_points(
    client: httpx.AsyncClient, year: asyncpg.Connection
) -> None:
    for points in (100, 2000, 5000):
        body = await get(client, points=points)
        metadata = body["metadata"]
        assert metadata["total_count"] == 20_000
        assert metadata["recent_count"] == 10
        assert metadata["sampling"]["method"] == "time_slots"
        tokens = body["data"]["plot_data"]["tokens"]
        assert 0.6 * points <= len(tokens) <= points
        assert len(set(tokens)) == len(tokens), "no request is a point twice"
        # Each point is a request as it is in the table.
        for number, latency in zip(tokens, body["data"]["plot_data"]["latency"], strict=True):
            assert latency == number / 2


async def test_quiet_times_are_complete_and_busy_ones_share_the_remaining_points(
    client: httpx.AsyncClient, year: asyncpg.Connection
) -> None:
    tokens = (await get(client, points=5000))["data"]["plot_data"]["tokens"]
    assert set(range(1, 1001)) <= set(tokens), "all of the quiet year"
    assert sum(1000 < number <= 19_000 for number in tokens) > 1000, "the hour is no single column"


async def test_the_same_requests_give_the_same_points_and_new_ones_move_none(
    client_of: OpenClient, settings: Any, year: asyncpg.Connection
) -> None:
    before = (await get(await client_of(settings), points=500, model_id=1))["data"]["plot_data"]
    assert before == (await get(await client_of(settings), points=500, model_id=1))["data"]["plot_data"]
    await year.execute(
        "INSERT INTO chat_completion_requests (id, model_id, created_at, input_tokens) "
        "VALUES (30000, 1, '2026-12-31T20:00Z', 30000)"
    )
    after = (await get(await client_of(settings), points=500, model_id=1))["data"]["plot_data"]
    assert len(set(before["tokens"]) - set(after["tokens"])) <= 4


async def test_every_filter_holds_for_points_recent_requests_and_counts(
    client: httpx.AsyncClient, year: asyncpg.Connection
) -> None:
    cases: list[tuple[dict[str, Any], range]] = [
        ({"model_id": 2}, range(1001, 20_001)),
        ({"model_name": "quie"}, range(1, 1001)),
        ({"status": "failed", "provider_id": 1}, range(300, 20_001, 300)),
        ({"start_date": "2026-05-01T10:00:00Z", "end_date": "2026-05-01T10:30:00Z"}, range(1000, 10_000)),
    ]
    for filters, expected in cases:
        body = await get(client, points=50, **filters)
        tokens = body["data"]["plot_data"]["tokens"]
        assert 30 <= len(tokens) <= 50
        # The half hour may have one or two quiet requests more.
        assert len(set(tokens) - set(expected)) <= (2 if "start_date" in filters else 0)
        assert abs(body["metadata"]["total_count"] - len(expected)) <= (2 if "start_date" in filters else 0)
        assert {row["input_tokens"] for row in body["data"]["recent_requests"]} <= set(expected)


async def test_polling_is_answered_from_memory_and_with_304(
    client: httpx.AsyncClient, gateway: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chat_stats.service.explorer.explorer.PLOT_SECONDS", 3600)
    first = await client.get(PATH)
    second = await client.get(PATH, headers={"If-None-Match": first.headers["etag"]})
    assert second.status_code == 304
    assert first.json()["metadata"]["cache"] == "miss"
    assert first.headers["cache-status"] == "chat-stats; fwd=miss; stored"
    assert second.headers["cache-status"].startswith("chat-stats; hit; ttl=")
    assert second.headers["cache-control"] == "public, max-age=3599"  # of an hour, rounded down
    third = (await client.get(PATH)).json()["metadata"]
    assert (third["cache"], third["computed_at"]) == ("hit", first.json()["metadata"]["computed_at"])
    assert third["cache_age_seconds"] > 0


@pytest.mark.parametrize("points", ["9", "5001", "many"])
async def test_points_out_of_range_are_refused(
    client: httpx.AsyncClient, gateway: asyncpg.Connection, points: str
) -> None:
    response = await client.get(PATH, params={"points": points})
    assert response.status_code == 422
    assert response.json()["parameter"] == "points"
    assert "from 10 to 5000" in response.json()["detail"]


def test_slots_cover_the_range_and_are_powers_of_two_wide() -> None:
    for first, length, most in ((0, 1, 5), (-5, 10, 2), (10**15, 10**13, 499), (-(10**15), 7, 3)):
        slots = _slots(first, first + length, most)
        width = slots[0][1] - slots[0][0]
        assert width & (width - 1) == 0
        assert slots[0][0] <= first < slots[0][1]
        assert slots[-1][0] < first + length <= slots[-1][1]
        assert all(before[1] == after[0] for before, after in pairwise(slots))
        assert len(slots) <= most or width >= length


async def test_without_the_database_the_last_plot_is_served_as_stale(
    client: httpx.AsyncClient, gateway: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chat_stats.service.explorer.explorer.PLOT_SECONDS", 0)
    known = await get(client)
    assert known["metadata"]["cache"] == "miss"
    await client._transport.app.state.services.database.close()  # type: ignore[attr-defined]
    headers = (await client.get(PATH)).headers
    assert headers["cache-status"].startswith("chat-stats; hit; ttl=")
    assert headers["cache-control"] == "public, no-cache"
    stale = await get(client)
    assert (stale["metadata"]["cache"], stale["data"]) == ("stale", known["data"])
    assert stale["metadata"]["computed_at"] == known["metadata"]["computed_at"]
    assert (await client.get(PATH, params={"model_id": 1})).status_code == 503


async def test_plots_in_memory_are_bounded_in_bytes(
    settings: Settings, year: asyncpg.Connection, client_of: OpenClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explorer, "PLOTS_KEPT_BYTES", 250_000)
    client = await client_of(settings)
    kept: Explorer = client._transport.app.state.services.explorer  # type: ignore[attr-defined]
    for points in range(1000, 1010):
        await get(client, points=points)
        assert kept._plots
        assert sum(plot.size for plot in kept._plots.values()) <= 250_000
    assert len(kept._plots) < 10
    monkeypatch.setattr(explorer, "PLOTS_KEPT_BYTES", 1)
    await get(client, points=900)
    assert len(kept._plots) == 1  # the last one stays, however large
