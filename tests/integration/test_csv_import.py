"""`chat-stats import`: the rows of a request log in the gateway's tables."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from chat_stats.service.settings import Settings
from chat_stats.worker.importer import load as loading
from chat_stats.worker.importer.load import ImportOptions, import_log
from tests.integration.csv_loading import GOOD, HEADER, Connection, Load, counts
from tests.tools import TRACE, need


async def test_the_azure_trace_is_loaded_exactly(settings: Settings, connection: Connection) -> None:
    trace = need(TRACE)
    seen: list[tuple[int, int]] = []
    result = await import_log(
        settings, trace, ImportOptions(), progress=lambda done, total: seen.append((done, total))
    )
    assert (result.loaded, result.skipped, result.bad_lines) == (8819, 0, [])
    assert (result.input_tokens, result.output_tokens) == (18_059_974, 245_896)
    assert result.columns == {
        "created_at": "TIMESTAMP",
        "input_tokens": "ContextTokens",
        "output_tokens": "GeneratedTokens",
    }
    assert seen == sorted(seen)
    assert seen[-1] == (2 * trace.stat().st_size, 2 * trace.stat().st_size)

    row = await connection.fetchrow(
        "SELECT count(*), sum(input_tokens), sum(output_tokens), min(created_at), "
        "count(*) FILTER (WHERE status = 'completed') FROM chat_completion_requests"
    )
    first = datetime(2023, 11, 16, 18, 17, 3, 979960, tzinfo=UTC)
    assert row is not None
    assert tuple(row) == (8819, 18_059_974, 245_896, first, 8819)
    provider = await connection.fetchrow("SELECT * FROM get_provider_request_stats()")
    assert provider is not None
    assert (provider["name"], provider["slug"], provider["total_requests"]) == ("imported", "imported", 8819)
    model = await connection.fetchrow("SELECT * FROM get_models_with_requests()")
    assert model is not None
    assert model["model_name"] == model["model_identifier"] == "azure-llm-trace-2023-code"


async def test_every_field_goes_into_its_column(load: Load, connection: Connection) -> None:
    result = await load(
        "Request ID;Time;Model Name;Provider;Prompt_Tokens;Completion_Tokens;latency_ms;Status;cost;user;"
        "error;region\n"
        'r-1;2023-11-16T20:17:03+02:00;gpt-4;OpenAI;1;2;12.5;failed;0.25;ann;"too ""long"";\nsorry";eu\n'
        "r-2;1700158623;gpt-4;OpenAI;3;4;;;;;;us\n",
        delimiter=";",
    )
    assert result.ignored_columns == ["region"]
    assert (result.new_providers, result.new_models) == (["OpenAI"], ["gpt-4"])
    rows = await connection.fetch(
        "SELECT request_id, created_at, input_tokens, output_tokens, processing_time_ms, status, cost_usd, "
        "user_id, error_message FROM chat_completion_requests ORDER BY id"
    )
    moment = datetime(2023, 11, 16, 18, 17, 3, tzinfo=UTC)
    assert [tuple(row) for row in rows] == [
        ("r-1", moment, 1, 2, Decimal("12.5"), "failed", Decimal("0.25"), "ann", 'too "long";\nsorry'),
        ("r-2", moment, 3, 4, None, None, None, None, None),
    ]


async def test_several_models_in_a_file(load: Load, connection: Connection) -> None:
    result = await load(
        "created_at,input_tokens,output_tokens,provider,model\n"
        "2023-11-16,1,1,OpenAI,gpt-4\n2023-11-16,2,1,openai,gpt-4\n"
        "2023-11-16,4,1,OpenAI,gpt-5\n2023-11-16,8,1,Together AI,gpt-4\n"
    )
    assert result.new_providers == ["OpenAI", "Together AI"]
    assert result.new_models == ["gpt-4", "gpt-5", "gpt-4"]
    rows = await connection.fetch(
        "SELECT p.slug, m.model_name, m.provider_model_id, m.model_id, sum(r.input_tokens)::int "
        "FROM chat_completion_requests AS r JOIN models AS m ON m.id = r.model_id "
        "JOIN providers AS p ON p.id = m.provider_id GROUP BY 1, 2, 3, 4 ORDER BY 5"
    )
    assert [tuple(row) for row in rows] == [
        ("openai", "gpt-4", "gpt-4", "gpt-4", 3),
        ("openai", "gpt-5", "gpt-5", "gpt-5", 4),
        ("together-ai", "gpt-4", "gpt-4", "gpt-4", 8),
    ]


async def test_names_for_all_requests_override_the_columns_of_the_file(
    load: Load, connection: Connection
) -> None:
    text = "created_at,input_tokens,output_tokens,provider,model\n2023-11-16,1,1,OpenAI,gpt-4\n"
    result = await load(text, provider="Mine", model="own-1")
    assert (result.new_providers, result.new_models) == (["Mine"], ["own-1"])
    assert result.ignored_columns == ["provider", "model"]


async def test_existing_providers_and_models_are_reused(load: Load, connection: Connection) -> None:
    await connection.execute(
        "INSERT INTO providers (id, name, slug) VALUES (7, 'Open AI Inc.', 'openai'), (8, 'Other', 'other');"
        "INSERT INTO models (id, provider_id, model_name, provider_model_id) VALUES "
        "(70, 7, 'GPT 4', 'gpt-4'), (71, 7, 'gpt-4', NULL), (72, 7, 'gpt-5', NULL), (80, 8, 'gpt-4', 'gpt-4')"
    )
    result = await load(
        "created_at,input_tokens,output_tokens,provider,model\n"
        "2023-11-16,1,1,OpenAI,gpt-4\n2023-11-16,1,1,OpenAI,gpt-5\n"
    )
    assert (result.new_providers, result.new_models) == ([], [])
    assert await counts(connection) == (2, 4, 2)
    rows = await connection.fetch("SELECT model_id FROM chat_completion_requests ORDER BY 1")
    assert [row[0] for row in rows] == [70, 72]


async def test_a_second_import_loads_the_requests_again(load: Load, connection: Connection) -> None:
    await load(HEADER + GOOD)
    await load(HEADER + GOOD)
    assert await counts(connection) == (1, 1, 2)


async def test_a_file_with_only_a_header_loads_nothing(load: Load, connection: Connection) -> None:
    assert (await load(HEADER)).loaded == 0
    assert await counts(connection) == (0, 0, 0)


async def test_a_file_of_several_batches_is_loaded_whole(
    load: Load, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "BATCH", 10)
    for size in (9, 10, 11, 100):
        await connection.execute("TRUNCATE chat_completion_requests")
        assert (await load(HEADER + GOOD * size)).loaded == size
        assert (await counts(connection))[2] == size
