"""Every example of the documentation runs, and gives its documented output."""

import asyncpg
import orjson
import pytest

from tests.conftest import run_migrations
from tests.docs.conftest import Run
from tests.docs.documents import DOCUMENTS, ROOT, Example, blocks, examples

EXAMPLES = [example for document in DOCUMENTS for example in examples(document)]
OF_GATEWAYS = blocks(ROOT / "docs" / "existing-gateway.md", "sql")
GATEWAYS = [block for block in OF_GATEWAYS if "CREATE TABLE providers" in block]


def test_there_are_examples() -> None:
    assert len(EXAMPLES) > 10
    assert len(GATEWAYS) == 3


@pytest.mark.parametrize(
    "example", EXAMPLES, ids=lambda example: f"{example.document}: {example.command[:60]}"
)
def test_an_example_gives_its_documented_output(run: Run, example: Example) -> None:
    output = run(example.command, fails=example.fails)
    if example.shown is not None:
        assert_alike(example.shown, orjson.loads(output))
    elif example.lines:
        first, *lines = output.splitlines()
        assert first == example.lines[0]
        if first.startswith("HTTP/"):
            assert names_of_headers(example.lines[1:]) <= names_of_headers(lines)


def names_of_headers(lines: list[str]) -> set[str]:
    return {line.partition(":")[0].lower() for line in lines if ":" in line}


def assert_alike(shown: object, given: object, place: str = "answer") -> None:
    """Compare names and types of values: the documented numbers differ."""
    if isinstance(shown, dict):
        assert isinstance(given, dict), place
        assert list(given) == list(shown), place
        for name, value in shown.items():
            assert_alike(value, given[name], f"{place}.{name}")
    elif isinstance(shown, list) and shown:
        assert isinstance(given, list), place
        assert given, place
        assert_alike(shown[0], given[0], f"{place}[0]")
    elif isinstance(shown, int | float) and not isinstance(shown, bool):
        assert isinstance(given, int | float), place


@pytest.mark.parametrize("ddl", GATEWAYS, ids=["integer ids", "no models.model_id", "uuids, partitions"])
async def test_a_documented_gateway_works_as_printed(empty_database: str, ddl: str) -> None:
    connection = await asyncpg.connect(empty_database)
    try:
        await connection.execute(ddl)
        await run_migrations(empty_database)
        has_identifier = "model_id text NOT NULL" in ddl
        await connection.execute("INSERT INTO providers (name, slug) VALUES ('One', 'one')")
        await connection.execute(
            f"INSERT INTO models ({'model_id,' if has_identifier else ''} provider_id, model_name, "
            f"provider_model_id) SELECT {repr('alpha') + ',' if has_identifier else ''} id, 'Alpha', "
            "'one/alpha' FROM providers"
        )
        await connection.execute(
            "INSERT INTO chat_completion_requests "
            f"({'request_id,' if has_identifier else ''} model_id, input_tokens, output_tokens, status) "
            f"SELECT {repr('r-1') + ',' if has_identifier else ''} id, 10, 5, 'completed' FROM models"
        )
        (row,) = await connection.fetch("SELECT * FROM get_models_with_requests()")
        assert row["model_identifier"] == ("alpha" if has_identifier else "one/alpha")
        assert orjson.loads(row["stats"])["total_tokens"] == 15
    finally:
        await connection.close()


async def test_views_stand_in_for_tables_of_other_names(empty_database: str) -> None:
    connection = await asyncpg.connect(empty_database)
    try:
        await connection.execute("""
            CREATE TABLE vendors (id int PRIMARY KEY, title text, code text);
            CREATE TABLE llms (id int PRIMARY KEY, vendor_id int, title text, upstream text);
            CREATE TABLE llm_calls (
                id int, llm_id int, tokens_in int, tokens_out int, took_ms int, state text, at timestamptz
            );
            INSERT INTO vendors VALUES (1, 'One', 'one');
            INSERT INTO llms VALUES (1, 1, 'Alpha', 'one/alpha');
            INSERT INTO llm_calls VALUES (1, 1, 10, 5, 100, 'ok', now());
        """)
        (views,) = [block for block in OF_GATEWAYS if "FROM vendors" in block]
        await connection.execute(views)
    finally:
        await connection.close()
    url = f"{empty_database}?options=-csearch_path%3Dchat_stats,public"
    await run_migrations(url)
    connection = await asyncpg.connect(url)
    try:
        (row,) = await connection.fetch("SELECT * FROM get_provider_request_stats()")
        assert (row["slug"], row["total_requests"]) == ("one", 1)
    finally:
        await connection.close()


async def test_the_spend_logs_of_litellm_can_be_read_as_printed(empty_database: str) -> None:
    connection = await asyncpg.connect(empty_database)
    try:
        await connection.execute("""
            CREATE TABLE "LiteLLM_SpendLogs" (
                request_id text PRIMARY KEY, api_key text NOT NULL DEFAULT '', spend double precision,
                prompt_tokens int DEFAULT 0, completion_tokens int DEFAULT 0, "startTime" timestamp(3),
                "endTime" timestamp(3), model text DEFAULT '', custom_llm_provider text DEFAULT '',
                "user" text DEFAULT '', team_id text, status text
            );
            INSERT INTO "LiteLLM_SpendLogs"
            SELECT 'chatcmpl-' || n, 'hash', 1.2e-05, 10, 5, '2026-01-05 12:00:00', '2026-01-05 12:00:01.5',
                   CASE WHEN n < 5 THEN 'gpt-4o' ELSE '' END,
                   CASE WHEN n < 3 THEN 'openai' WHEN n < 5 THEN 'azure' ELSE '' END, 'ann', NULL,
                   CASE n WHEN 1 THEN 'success' WHEN 5 THEN 'failure' END
            FROM generate_series(1, 5) AS n
        """)
        for block in OF_GATEWAYS:
            if "LiteLLM" in block:
                await connection.execute(block)
    finally:
        await connection.close()
    url = f"{empty_database}?options=-csearch_path%3Dchat_stats,public"
    await run_migrations(url)
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch("SELECT * FROM get_models_with_requests()")
        stats = [orjson.loads(row["stats"]) for row in rows]
        assert [row["model_name"] for row in rows] == ["gpt-4o", "gpt-4o"]
        assert {orjson.loads(row["provider"])["slug"] for row in rows} == {"azure", "openai"}
        assert [(each["total_requests"], each["total_tokens"]) for each in stats] == [(2, 30), (2, 30)]
        (total,) = await connection.fetch("SELECT * FROM get_chat_request_summary()")
        assert (total["total_requests"], total["successful_requests"]) == (5, 4)
        assert (total["avg_processing_time_ms"], float(total["total_cost_usd"])) == (1500, 6e-05)
    finally:
        await connection.close()
