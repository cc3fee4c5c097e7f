"""The OpenAPI document of single requests matches the answers."""

from typing import Any

import asyncpg
import httpx
import pytest
from pydantic import BaseModel

from chat_stats.service.app import create_app
from chat_stats.service.explorer.schemas import PlotAnswer, RequestsAnswer
from chat_stats.service.settings import Settings

EXAMPLES = [
    (model, example)
    for model in (RequestsAnswer, PlotAnswer)
    for example in model.model_json_schema()["examples"]
]


async def test_answers_are_as_documented(client: httpx.AsyncClient, gateway: asyncpg.Connection) -> None:
    RequestsAnswer.model_validate_json((await client.get("/chat-requests?limit=2")).content)
    RequestsAnswer.model_validate_json((await client.get("/chat-requests?fields=status,id")).content)
    RequestsAnswer.model_validate_json((await client.get("/chat-requests?start_date=2020-01-01")).content)
    PlotAnswer.model_validate_json((await client.get("/chat-requests/plot-data")).content)


@pytest.mark.parametrize(("model", "example"), EXAMPLES)
def test_examples_are_answers(model: type[BaseModel], example: dict[str, Any]) -> None:
    model.model_validate(example)


def test_every_format_is_documented(settings: Settings) -> None:
    operation = create_app(settings).openapi()["paths"]["/api/monitoring/chat-requests"]["get"]
    assert set(operation["responses"]["200"]["content"]) == {
        "application/json",
        "text/csv",
        "application/x-ndjson",
        "application/vnd.apache.parquet",
    }
    assert set(operation["responses"]) == {
        "200",
        "304",
        "401",
        "403",
        "406",
        "413",
        "422",
        "429",
        "431",
        "503",
    }
    limit = next(each for each in operation["parameters"] if each["name"] == "limit")["schema"]
    assert limit == {"type": "integer", "minimum": 1, "maximum": 100_000, "title": "Limit"}
