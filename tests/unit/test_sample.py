"""The demo's sample: the same every time, and shaped like a real gateway's traffic."""

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from chat_stats.worker.demo.names import MODELS, PROVIDERS
from chat_stats.worker.demo.sample import DAYS, Request, one_request, requests

END = datetime(2026, 1, 5, 12, 30, tzinfo=UTC)
RANDOM = random.Random(1)  # noqa: S311


@pytest.fixture(scope="module")
def rows() -> list[Request]:
    return list(requests(20_000, END))


def test_there_are_at_least_20_providers_and_200_models() -> None:
    assert len(PROVIDERS) >= 20
    assert len(MODELS) >= 200


def test_slugs_and_identifiers_are_unique() -> None:
    assert len({provider.slug for provider in PROVIDERS}) == len(PROVIDERS)
    assert len({model.model_id for model in MODELS}) == len(MODELS)
    assert len({(model.provider.slug, model.provider_model_id) for model in MODELS}) == len(MODELS)


def test_names_and_identifiers_look_like_those_of_real_models() -> None:
    mini = next(model for model in MODELS if model.model_id == "gpt-4o-mini")
    assert (mini.provider.name, mini.model_name) == ("OpenAI", "GPT-4o mini")
    assert mini.provider_model_id == "openai/gpt-4o-mini"
    assert all(" " not in model.provider_model_id + model.model_id for model in MODELS)


def test_the_same_end_gives_the_same_rows(rows: list[Request]) -> None:
    assert list(requests(20_000, END)) == rows


def test_another_end_shifts_the_rows() -> None:
    later = END + timedelta(days=30)
    assert all(later - timedelta(days=DAYS) <= row.created_at < later for row in requests(500, later))


@pytest.mark.parametrize("count", [0, 1, 7, 2160, 5000])
def test_there_are_exactly_as_many_rows_as_requested(count: int) -> None:
    assert sum(1 for _ in requests(count, END)) == count


def test_the_rows_cover_the_90_days_in_order(rows: list[Request]) -> None:
    assert END - timedelta(days=DAYS) <= rows[0].created_at < END - timedelta(days=DAYS - 1)
    assert END - timedelta(days=1) < rows[-1].created_at < END
    assert all(earlier.created_at <= later.created_at for earlier, later in pairwise(rows))


def test_request_ids_are_unique(rows: list[Request]) -> None:
    assert len({row.request_id for row in rows}) == len(rows)


def test_the_day_is_busier_than_the_night(rows: list[Request]) -> None:
    by_hour = Counter(row.created_at.hour for row in rows)
    assert sum(by_hour[hour] for hour in range(12, 18)) > 3 * sum(by_hour[hour] for hour in range(6))


def test_weekdays_are_busier_than_weekends(rows: list[Request]) -> None:
    by_day = Counter(row.created_at.weekday() for row in rows)
    assert max(by_day[5], by_day[6]) < min(by_day[day] for day in range(5))


def test_a_few_models_take_most_of_the_requests_and_some_none() -> None:
    by_model = Counter(row.model for row in requests(100_000, END))
    assert sum(count for _, count in by_model.most_common(20)) > 50_000
    assert 150 < len(by_model) < len(MODELS)


def test_some_providers_have_no_requests(rows: list[Request]) -> None:
    assert 0 < len(PROVIDERS) - len({row.model.provider for row in rows}) < 5


def test_latency_has_a_heavy_tail(rows: list[Request]) -> None:
    times = sorted(row.processing_time_ms for row in rows if row.processing_time_ms is not None)
    median, p99 = times[len(times) // 2], times[len(times) * 99 // 100]
    assert 500 < median < 10_000
    assert p99 > 5 * median


def test_a_few_percent_fail_with_a_message_and_without_output_or_cost(rows: list[Request]) -> None:
    failed = [row for row in rows if row.status == "failed"]
    assert 0.01 < len(failed) / len(rows) < 0.06
    assert all(row.error_message and row.output_tokens is None and row.cost_usd is None for row in failed)
    assert {row.processing_time_ms is None for row in failed} == {True, False}


def test_the_others_completed_with_tokens_time_and_cost(rows: list[Request]) -> None:
    completed = [row for row in rows if row.status != "failed"]
    assert {row.status for row in completed} == {"completed"}
    assert all(row.error_message is None for row in completed)
    assert all((row.input_tokens or 0) >= 1 and (row.output_tokens or 0) >= 1 for row in completed)
    assert all((row.processing_time_ms or 0) > 0 for row in completed)
    assert all(row.cost_usd is not None and row.cost_usd >= 0 for row in completed)


def test_a_new_request_is_made_at_the_given_moment() -> None:
    request = one_request(RANDOM, END)
    assert request.created_at == END
    assert request.model.popularity > 0


def test_requests_fail_far_more_often_while_their_provider_has_an_outage() -> None:
    slugs = {provider.slug for provider in PROVIDERS}
    failed = sum(one_request(RANDOM, END, slugs).status == "failed" for _ in range(2000))
    assert failed > 600
