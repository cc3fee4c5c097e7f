"""In every schema the functions, called as a dashboard calls them, give the hand-computed rows."""

import asyncpg
import pytest

from tests.sql import sample
from tests.sql.calls import rows_of
from tests.sql.conftest import MigratedGateway
from tests.sql.sample import END, START
from tests.sql.schemas import VARIANTS, Variant

pytestmark = [pytest.mark.every_postgres, pytest.mark.parametrize("variant", VARIANTS, ids=str)]


async def test_migrating_alters_and_drops_nothing_that_it_did_not_create(
    migrated: MigratedGateway, variant: Variant
) -> None:
    assert any("chat_completion_requests" in line for line in migrated.before)
    assert migrated.after_first == migrated.before
    assert migrated.after_second == migrated.before
    assert migrated.warnings == []


async def test_the_functions_give_the_expected_rows(reader: asyncpg.Connection, variant: Variant) -> None:
    for bounds, stats, providers, summary in (
        ((), sample.STATS_OF_ALL, sample.PROVIDERS_OF_ALL, sample.SUMMARY_OF_ALL),
        ((START, END), sample.STATS_OF_RANGE, sample.PROVIDERS_OF_RANGE, sample.SUMMARY_OF_RANGE),
    ):
        range_ = "$1, $2" if bounds else ""
        assert await rows_of(
            reader, f"get_provider_request_stats({range_})", *bounds
        ) == sample.provider_rows(variant, providers)
        assert await rows_of(reader, f"get_models_with_requests({range_})", *bounds) == sample.model_rows(
            variant, stats
        )
        assert await rows_of(reader, f"get_model_request_counts({range_})", *bounds) == sample.count_rows(
            variant, stats
        )
        cost = {} if variant.has_cost else {"total_cost_usd": None}
        assert await rows_of(reader, f"get_chat_request_summary({range_})", *bounds) == [summary | cost]

        and_range = ", $1, $2" if bounds else ""
        for provider in (1, 2, 3, 4):
            provider_id = variant.id("providers", provider)
            assert await rows_of(
                reader, f"get_models_with_requests_by_provider('{provider_id}'{and_range})", *bounds
            ) == sample.model_rows(variant, stats, provider=provider)
        for model, stats_of_model in stats.items():
            model_id = variant.id("models", model)
            assert await rows_of(reader, f"get_model_request_stats('{model_id}'{and_range})", *bounds) == [
                stats_of_model
            ]
