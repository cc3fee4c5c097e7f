"""A question has one cache key however it is written, and shares it with no other."""

import base64
from typing import Any
from urllib.parse import parse_qsl

import orjson
import pytest

from chat_stats.service.catalogue.aggregation import Query
from chat_stats.service.catalogue.dimensions import known_dimensions
from chat_stats.service.catalogue.question_parameters import _checksum, parse_question, parse_values
from chat_stats.service.errors import InvalidParameter

KNOWN = known_dimensions("user_id, team=labels->>team")


def question(text: str) -> Query:
    return parse_question(parse_qsl(text, keep_blank_values=True), KNOWN)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("measures=total_requests,total_tokens", "measures=total_tokens,total_requests,total_tokens"),
        ("status=a&status=b&user_id=x", "user_id=x&status=b&status=a&status=b"),
        ("model_id=007", "model_id=7"),
        ("limit=100&order_by=-total_requests&window=all", ""),
        ("group_by=", ""),
        ("_=17", ""),
        ("not_status=a", "status!=a"),
        ("compare=2026-01-01&window=7d", "compare=2026-01-01T00:00:00Z&window=7d"),
    ],
)
def test_what_means_the_same_has_one_key(one: str, other: str) -> None:
    assert question(one).key() == question(other).key()
    assert question(one) == question(other)


def test_what_means_something_else_has_another_key() -> None:
    texts = (
        "", "window=7d", "window=1h", "start_date=2026-01-01", "measures=total_requests", "group_by=status",
        "group_by=status,user_id", "group_by=user_id,status", "status=a", "status=b", "status!=a",
        "status=a&status=b", "user_id=a", "team=a", "status=__null__", "status=",
        "status=%5C__null__", "order_by=total_requests", "order_by=-total_tokens", "limit=99", "bucket=1d",
        "bucket=1h", "bucket=1d&timezone=Europe/Berlin", "window=7d&compare=previous",
        "window=7d&compare=2026-01-01", "model_id=1", "provider_id=1", "model_id=unresolved", "model_id!=1",
    )  # fmt: skip
    keys = [question(text).key() for text in texts]
    values = [
        parse_values(parse_qsl(text), KNOWN).key()
        for text in ("", "name=status", "name=user_id", "name=user_id&prefix=u", "name=user_id&limit=5")
    ]
    assert len({*keys, *values}) == len(keys) + len(values)


def test_a_key_has_a_bounded_length() -> None:
    long = "&".join(f"user_id={'x' * 490}{number}" for number in range(100))
    assert len(question(long).key()) < 100


def test_another_definition_of_a_dimension_is_another_key() -> None:
    other = known_dimensions("user_id, team=labels->>squad", "odd=x")
    for text in ("group_by=team", "team=a", "group_by=error_kind"):
        assert parse_question(parse_qsl(text), other).key() != question(text).key()
    assert parse_question(parse_qsl("group_by=user_id"), other).key() == question("group_by=user_id").key()


def cursor(payload: Any, text: str = "group_by=status") -> str:
    """Return a cursor with the right checksum, whatever is in it."""
    query = question(text)
    assert query.question is not None
    raw = orjson.dumps(payload)
    return base64.urlsafe_b64encode(_checksum(raw, query.question, query.range) + raw).rstrip(b"=").decode()


MOMENT = "2026-01-01T00:00:00Z"


@pytest.mark.parametrize(
    "payload",
    [
        ["1; DROP TABLE models", MOMENT],
        [True, MOMENT],
        [1.5, MOMENT],
        [0, MOMENT],
        [-1, MOMENT],
        [2**60, MOMENT],
        [1, "2026-01-01T00:00:00"],
        [1, "0001-01-01T00:00:00Z"],
        [1, None],
        [1],
        {"offset": 1},
        "1",
    ],
)
def test_a_forged_cursor_is_refused(payload: Any) -> None:
    with pytest.raises(InvalidParameter) as caught:
        question(f"group_by=status&cursor={cursor(payload)}")
    assert caught.value.parameter == "cursor"


def test_a_cursor_is_good_for_its_question_alone() -> None:
    good = cursor([5, MOMENT])
    found = question(f"group_by=status&cursor={good}").question
    assert found is not None
    assert found.offset == 5
    for other in ("group_by=user_id", "group_by=status&limit=5", "group_by=status&window=7d", ""):
        with pytest.raises(InvalidParameter):
            question(f"{other}&cursor={good}")
