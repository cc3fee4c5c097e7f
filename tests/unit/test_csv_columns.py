"""Reading a request log: which columns it has, and what their cells mean."""

from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pytest

from chat_stats.service.errors import InvalidParameter, SchemaError
from chat_stats.worker.importer.fields import converter, find_columns
from tests.unit.csv_log import MOMENT, column


@pytest.mark.parametrize(
    "header",
    [
        ["TIMESTAMP", "ContextTokens", "GeneratedTokens"],
        ["created_at", "input_tokens", "output_tokens"],
        ["Time", "Prompt Tokens", "completion-tokens"],
    ],
)
def test_columns_are_recognised_whatever_their_case_and_punctuation(header: list[str]) -> None:
    assert find_columns(header, {}) == {"created_at": 0, "input_tokens": 1, "output_tokens": 2}


def test_the_better_name_wins() -> None:
    assert find_columns(["date", "created_at", "input_tokens", "output_tokens"], {})["created_at"] == 1


def test_a_named_column_wins_and_is_not_taken_twice() -> None:
    header = ["time", "started", "input_tokens", "output_tokens"]
    found = find_columns(header, {"created_at": "started", "processing_time_ms": "time"})
    assert (found["created_at"], found["processing_time_ms"]) == (1, 0)
    with pytest.raises(InvalidParameter, match="no column is recognised as created_at"):
        find_columns(header, {"processing_time_ms": "time"})


def test_an_exact_name_is_distinguished_from_a_similar_one() -> None:
    header = ["created_at", "input_tokens", "InputTokens", "output_tokens"]
    assert find_columns(header, {"input_tokens": "InputTokens"})["input_tokens"] == 2
    with pytest.raises(InvalidParameter, match="2 columns 'input_tokens'"):
        find_columns(header, {})


def test_a_field_can_be_left_out() -> None:
    header = ["created_at", "input_tokens", "output_tokens", "user"]
    assert "user_id" in find_columns(header, {})
    assert "user_id" not in find_columns(header, {"user_id": ""})


def test_a_missing_column_names_the_option_and_the_existing_columns() -> None:
    with pytest.raises(InvalidParameter) as refusal:
        find_columns(["TIMESTAMP", "ContextTokens", "Answer"], {})
    assert refusal.value.parameter == "output_tokens_column"
    assert "--output-tokens-column" in str(refusal.value)
    assert "TIMESTAMP, ContextTokens, Answer" in str(refusal.value)
    with pytest.raises(InvalidParameter, match="--status-column: no column 'state'") as refusal:
        find_columns(["created_at", "input_tokens", "output_tokens"], {"status": "state"})
    assert refusal.value.parameter == "status_column"


def test_a_header_with_another_delimiter_says_so() -> None:
    with pytest.raises(InvalidParameter, match="is the delimiter ';'"):
        find_columns(["created_at;input_tokens;output_tokens"], {})


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2023-11-16 18:17:03", MOMENT),
        ("2023-11-16 18:17:03.9799600", MOMENT.replace(microsecond=979960)),
        ("2023-11-16T18:17:03.123456789Z", MOMENT.replace(microsecond=123456)),
        ("2023-11-16 20:17:03+02", MOMENT),
        ("2023-11-16 18:17:03 UTC", MOMENT),
        ("20231116T181703Z", MOMENT),
        ("2023-11-16", MOMENT.replace(hour=0, minute=0, second=0)),
        ("1700158623", MOMENT),
        ("1700158623.5", MOMENT.replace(microsecond=500000)),
        ("1700158623123", MOMENT.replace(microsecond=123000)),
        ("1700158623123456", MOMENT.replace(microsecond=123456)),
        ("1710111251234", datetime(2024, 3, 10, 22, 54, 11, 234000, tzinfo=UTC)),  # no compact date
    ],
)
def test_times(text: str, moment: datetime) -> None:
    assert converter("created_at", "when", column("created_at", "timestamptz"))(text) == moment
    plain = converter("created_at", "when", column("created_at", "timestamp"))(text)
    assert plain == moment.replace(tzinfo=None)


@pytest.mark.parametrize(
    "text",
    ["yesterday", "16/11/2023", "2023-02-30", "2023-11-16 25:00:00", "18:17:03", "0001-01-01T00:00:00Z",
     "9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00+05:00", "17001586", "nan"],
)  # fmt: skip
def test_wrong_times(text: str) -> None:
    with pytest.raises(ValueError, match=f"^when '{text[:10].replace('+', '.')}.* is not "):
        converter("created_at", "when", column("created_at", "timestamptz"))(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("007", 7), ("12.0", 12), ("+5", 5), ("9223372036854775807", 2**63 - 1)],
)
def test_tokens(text: str, number: int) -> None:
    for kind in ("int8", "numeric"):
        value = converter("input_tokens", "tokens", column("input_tokens", kind))(text)
        assert value == number
        assert isinstance(value, int if kind == "int8" else Decimal)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("-1", "is negative"),
        ("1.5", "is not a whole number"),
        ("1.8E+07", "is not a whole number"),
        ("1_000", "is not a whole number"),
        ("1,000", "is not a whole number"),
        ("١٢", "is not a whole number"),
        ("NaN", "is not a whole number"),
        ("9223372036854775808", "is greater than 9,223,372,036,854,775,807"),
        ("9" * 5000, "is greater than"),
    ],
)
def test_wrong_tokens(text: str, reason: str) -> None:
    for kind in ("int8", "numeric"):
        with pytest.raises(ValueError, match=reason):
            converter("output_tokens", "tokens", column("output_tokens", kind))(text)


def test_tokens_must_fit_into_a_column_of_32_bits() -> None:
    convert = converter("input_tokens", "tokens", column("input_tokens", "int4"))
    assert convert("2147483647") == 2147483647
    with pytest.raises(ValueError, match="greater than 2,147,483,647"):
        convert("2147483648")


@pytest.mark.parametrize(
    ("kind", "declared", "text", "value"),
    [
        ("numeric", "numeric", "12.3456789012345678901", Decimal("12.3456789012345678901")),
        ("numeric", "numeric(10,2)", "12.345", Decimal("12.35")),
        ("numeric", "numeric(30,12)", "123456789012345678.5", Decimal("123456789012345678.5")),
        ("numeric", "numeric", "1.2e-05", Decimal("0.000012")),
        ("int4", "integer", "12.5", 13),
        ("int4", "integer", "12.4999", 12),
        ("float8", "double precision", "12.5", 12.5),
    ],
)
def test_amounts(kind: str, declared: str, text: str, value: object) -> None:
    converted = converter("processing_time_ms", "ms", column("processing_time_ms", kind, declared=declared))(
        text
    )
    assert (converted, type(converted)) == (value, type(value))


@pytest.mark.parametrize(
    ("kind", "declared", "text", "reason"),
    [
        ("numeric", "numeric", "NaN", "is not a finite number"),
        ("numeric", "numeric", "-Infinity", "is not a finite number"),
        ("numeric", "numeric", "sNaN", "is not a finite number"),
        ("numeric", "numeric", "fast", "is not a number such as 0.0125"),
        ("numeric", "numeric", "1_0", "is not a number such as 0.0125"),
        ("numeric", "numeric", "0,5", "is not a number such as 0.0125"),
        ("numeric", "numeric", "-0.01", "is negative"),
        ("numeric", "numeric", "1e999999", "is out of range for numeric"),
        ("numeric", "numeric", "1e-999999", "is out of range for numeric"),
        ("numeric", "numeric(5,2)", "999.995", r"is out of range for numeric\(5,2\)"),
        ("int4", "integer", "2147483647.5", "is out of range for integer"),
        ("float8", "double precision", "inf", "is not a finite number"),
    ],
)
def test_wrong_amounts(kind: str, declared: str, text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^usd '.*' {reason}$"):
        converter("cost_usd", "usd", column("cost_usd", kind, declared=declared))(text)


@pytest.mark.parametrize(
    ("field", "text", "stored"),
    [
        ("status", "200.0", "200"),
        ("status", "429.00", "429"),
        ("status", "v1.0", "v1.0"),
        ("user_id", "200.0", "200.0"),
    ],
)
def test_a_status_code_loses_the_decimals_that_table_tools_add(field: str, text: str, stored: str) -> None:
    assert converter(field, field, column(field, "text"))(text) == stored


def test_texts_go_into_columns_of_other_types_when_they_fit() -> None:
    name = "0b3f4b4e-8f6b-4a57-9d41-8a5f9a3c2d10"
    assert converter("user_id", "user", column("user_id", "uuid"))(name) == UUID(name)
    assert converter("user_id", "user", column("user_id", "int4"))("42") == 42
    short = converter("user_id", "user", column("user_id", "varchar", declared="character varying(3)"))
    assert short("abc") == "abc"
    with pytest.raises(ValueError, match="is longer than 3 characters"):
        short("abcd")
    with pytest.raises(ValueError, match="is not a UUID"):
        converter("user_id", "user", column("user_id", "uuid"))("not a number")


@pytest.mark.parametrize(
    ("field", "kind"), [("created_at", "text"), ("input_tokens", "float8"), ("status", "bool")]
)
def test_a_column_of_a_type_that_cannot_hold_the_field_is_named(field: str, kind: str) -> None:
    with pytest.raises(SchemaError, match=rf"chat_completion_requests\.{field} is of type {kind}"):
        converter(field, "x", column(field, kind))
