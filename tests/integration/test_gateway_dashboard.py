"""The dashboard over the SQL functions: each query runs as Grafana sends it, by a role that may only read."""

import json
import re
from collections import defaultdict
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from chat_stats.service.database.migrations import migrate
from chat_stats.service.settings import Settings
from chat_stats.worker.demo import sample
from tests.conftest import Connection
from tests.docs.documents import ROOT, blocks

DASHBOARD: dict[str, Any] = json.loads(
    (ROOT / "monitoring/grafana/dashboards/gateway-usage.json").read_text()
)
PROVISIONED = ROOT / "monitoring/grafana/provisioning/datasources/postgres.yml"
PANELS = {panel["title"]: panel for panel in DASHBOARD["panels"] if panel["type"] != "row"}
VARIABLES = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}

END = datetime.now(UTC).replace(microsecond=0)
START = END - timedelta(days=30)
TEXT = "%Y-%m-%dT%H:%M:%SZ"
#: `All` is sent as `allValue` says, without quotes.
ALL = object()
DEFAULTS: dict[str, Any] = {
    "bucket": "1d",
    "dimension": "model_id",
    "provider": ALL,
    "model": ALL,
    "filter": "{}",
    "timezone": "UTC",
}


def sent(sql: str, chosen: dict[str, Any]) -> str:
    """Replace macros and variables as Grafana does for its Postgres data source."""

    def value(found: re.Match[str]) -> str:
        variable = chosen[found[1]]
        if variable is ALL:
            return VARIABLES[found[1]]["allValue"]
        values = variable if isinstance(variable, list) else [variable]
        return ",".join("'" + each.replace("'", "''") + "'" for each in values)

    sql = re.sub(r"\$\{(\w+):sqlstring\}", value, sql)
    sql = sql.replace("$__timeFrom()", f"'{START.strftime(TEXT)}'").replace(
        "$__timeTo()", f"'{END.strftime(TEXT)}'"
    )
    assert "$" not in sql, "only these macros are used, and variables are always quoted"
    return sql


class Grafana:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def ask(self, title: str, **chosen: Any) -> list[asyncpg.Record]:
        (target,) = PANELS[title]["targets"]
        return await self._connection.fetch(sent(target["rawSql"], {**DEFAULTS, **chosen}))


@pytest.fixture
async def owner(empty_database: str) -> AsyncIterator[Connection]:
    """The demo's data, and a dimension that is declared."""
    await migrate(
        Settings(database_url=empty_database, dimensions="user_id", _env_file=None),
        create_tables=True,
        started=lambda _file: None,
        warned=lambda _message: None,
    )
    connection = await asyncpg.connect(empty_database)
    await sample.load(connection, count=2_000, end=END, loaded=lambda _done: None)
    yield connection
    await connection.close()


@pytest.fixture
async def grafana(owner: Connection, empty_database: str) -> AsyncIterator[Grafana]:
    """The role of the documentation."""
    (statements,) = [text for text in blocks(ROOT / "docs" / "metrics.md", "sql") if "CREATE ROLE" in text]
    role = await owner.fetchval("SELECT 'grafana_of_' || current_database()")
    password = "not-a-secret"
    await owner.execute(re.sub(r"\bgrafana\b", role, statements.replace("a password", password)))
    server = empty_database.partition("@")[2]
    connection = await asyncpg.connect(f"postgresql://{role}:{password}@{server}")
    try:
        yield Grafana(connection)
    finally:
        await connection.close()
        await owner.execute(f"DROP OWNED BY {role}")
        await owner.execute(f"DROP ROLE {role}")


async def test_every_query_runs_and_has_the_columns_that_its_panel_shows(grafana: Grafana) -> None:
    assert len(PANELS) == sum(panel["type"] != "row" for panel in DASHBOARD["panels"]), "titles differ"
    for title, panel in PANELS.items():
        (target,) = panel["targets"]
        rows = await grafana.ask(title)
        assert rows, title
        columns = dict(rows[0])
        if target["format"] == "time_series":
            assert [row["time"] for row in rows] == sorted(row["time"] for row in rows), title
            texts = {name for name, value in columns.items() if isinstance(value, str)}
            assert texts <= {"metric"}, title
            if "metric" in columns:
                assert len({(row["time"], row["metric"]) for row in rows}) == len(rows), title
        elif panel["type"] == "stat":
            assert (len(rows), len(columns)) == (1, 1), title
            assert rows[0][0] > 0, title


async def test_the_numbers_are_those_of_the_requests(grafana: Grafana, owner: Connection) -> None:
    counted = await owner.fetchrow(
        "SELECT count(*) AS requests, sum(cost_usd)::float8 AS cost FROM chat_completion_requests "
        "WHERE created_at >= $1 AND created_at < $2",
        START,
        END,
    )
    assert counted is not None
    assert (await grafana.ask("Requests"))[0][0] == counted["requests"]
    assert (await grafana.ask("Cost"))[0][0] == pytest.approx(counted["cost"])
    for dimension in ("provider_id", "model_id", "status", "error_kind", "user_id"):
        rows = await grafana.ask("Requests by $dimension", dimension=dimension)
        assert sum(row["requests"] for row in rows) == counted["requests"], dimension
        series = {row["metric"] for row in rows}
        assert len(series) <= 11
        assert ("others" in series) == (dimension in ("model_id", "user_id", "provider_id")), dimension
        costs = await grafana.ask("Cost by $dimension", dimension=dimension)
        assert sum(row["cost"] or 0 for row in costs) == pytest.approx(counted["cost"])
    failed = sum(row["failed"] for row in await grafana.ask("Errors by kind"))
    assert failed == sum(row["failed"] for row in await grafana.ask("Failures by $dimension")) > 0
    assert failed == sum(row["Failed"] for row in await grafana.ask("Where errors come from"))


async def test_the_variables_filter_whatever_they_hold(grafana: Grafana, owner: Connection) -> None:
    by_provider: dict[str, dict[str, int]] = defaultdict(dict)
    for row in await owner.fetch(
        "SELECT m.provider_id::text AS provider, m.id::text AS model, count(*) AS requests "
        "FROM chat_completion_requests AS q JOIN models AS m ON m.id = q.model_id "
        "WHERE q.created_at >= $1 AND q.created_at < $2 GROUP BY 1, 2",
        START,
        END,
    ):
        by_provider[row["provider"]][row["model"]] = row["requests"]
    first, second, *_ = sorted(by_provider)
    models = sorted(by_provider[first])[:2]

    async def requests(**chosen: Any) -> int:
        rows = await grafana.ask("Models", **chosen)
        return sum(row["Requests"] for row in rows)

    assert await requests(provider=[first, second]) == sum(
        sum(by_provider[each].values()) for each in (first, second)
    )
    assert await requests(model=models) == sum(by_provider[first][each] for each in models)
    one_status = await requests(provider=[first], filter='{"status!": ["completed"]}')
    assert 0 < one_status < sum(by_provider[first].values())
    assert await requests(filter='{"user_id": ["o\'brien"]}') == 0
    slowest = await grafana.ask("Slowest models", model=models)
    assert len(slowest) == len(models)
    lines = {row["metric"] for row in await grafana.ask("p95 by provider", provider=[first])}
    assert len(lines) == 1

    for name, listed in (("provider", len(by_provider)), ("model", sum(map(len, by_provider.values())))):
        rows = await owner.fetch(sent(VARIABLES[name]["query"], DEFAULTS))
        assert list(rows[0].keys()) == ["__text", "__value"]
        assert len(rows) >= listed


async def test_the_documented_role_can_write_nothing(grafana: Grafana) -> None:
    for statement in ("DELETE FROM models", "CREATE TABLE planted (id int)"):
        with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.ReadOnlySQLTransactionError)):
            await grafana._connection.execute(statement)


def test_the_data_source_is_a_variable_and_is_provisioned_for_that_role() -> None:
    text = json.dumps(DASHBOARD)
    assert set(re.findall(r'"uid": "([^"]+)"', text)) == {"chat-stats-gateway", "${datasource}"}
    types = {"grafana-postgresql-datasource"}
    assert set(re.findall(r'"type": "([^"]+-datasource)"', text)) == types
    assert VARIABLES["datasource"]["query"] in types
    provisioned = PROVISIONED.read_text()
    assert "type: grafana-postgresql-datasource" in provisioned
    compose = (ROOT / "docker-compose.yml").read_text()
    for variable in re.findall(r"\$\{?([A-Z_]+)", provisioned):
        assert f"{variable}: " in compose, variable


def test_it_stands_beside_the_first_dashboard() -> None:
    folder = Path(ROOT / "monitoring/grafana/dashboards")
    others = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    assert (
        len({each["uid"] for each in others}) == len({each["title"] for each in others}) == len(others) == 2
    )
