"""A cache key goes with the fields of its aggregation's answer, and with nothing else."""

from dataclasses import replace
from typing import Any

import pytest
from pydantic import Field, create_model

from chat_stats.service.catalogue.aggregation import register
from chat_stats.service.catalogue.aggregations import AGGREGATIONS, Query
from chat_stats.service.catalogue.schemas import Metadata, ModelRow, Stats

COUNTS = AGGREGATIONS["counts"]
[COUNT_ROW] = COUNTS.data.__args__
MORE = create_model("CountRow", __base__=COUNT_ROW, cached_tokens=(int, ...))
OTHER_TYPE = create_model("CountRow", __base__=COUNT_ROW, request_count=(float, ...))
DESCRIBED = create_model("CountRow", __base__=COUNT_ROW, request_count=(int, Field(description="How many.")))


@pytest.mark.parametrize("row", [MORE, OTHER_TYPE], ids=["another field", "another type"])
def test_other_fields_of_a_row_are_another_key(row: Any) -> None:
    assert replace(COUNTS, data=list[row]).key_name != COUNTS.key_name


def test_another_field_within_a_nested_object_is_another_key() -> None:
    models = AGGREGATIONS["models"]
    stats = create_model("Stats", __base__=Stats, cached_tokens=(int, ...))
    row = create_model("ModelRow", __base__=ModelRow, stats=(stats, ...))
    assert replace(models, data=list[row]).key_name != models.key_name


def test_another_field_of_the_metadata_is_another_key() -> None:
    class MoreMetadata(COUNTS.metadata):  # type: ignore[name-defined, misc]
        total_tokens: int

    assert replace(COUNTS, metadata=MoreMetadata).key_name != COUNTS.key_name


def test_what_documents_an_answer_is_no_part_of_its_key() -> None:
    other = replace(COUNTS, data=list[DESCRIBED], purpose="Other words.", example=([], {}))
    assert other.key_name == COUNTS.key_name


def test_an_aggregation_that_changes_or_is_added_leaves_the_keys_of_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = {name: Query(name).key() for name in AGGREGATIONS}
    monkeypatch.setitem(AGGREGATIONS, "counts", replace(COUNTS, data=list[MORE]))
    monkeypatch.setitem(AGGREGATIONS, "more", replace(COUNTS, name="more"))
    after = {name: Query(name).key() for name in AGGREGATIONS}
    assert {name for name in before if before[name] != after[name]} == {"counts"}


def test_two_aggregations_of_one_name_are_refused() -> None:
    with pytest.raises(AssertionError, match="two aggregations are named counts"):
        register(COUNTS)


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_the_metadata_that_an_aggregation_adds_is_in_its_schema(name: str) -> None:
    aggregation = AGGREGATIONS[name]
    data, totals = aggregation.example
    added = set(aggregation.metadata.model_fields) - set(Metadata.model_fields)
    assert set(Query(name).metadata(data, totals)) == set(totals) == added
