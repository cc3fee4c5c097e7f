"""Reading a request log without a database: lines, columns, cells."""

import codecs
import os
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_stats.service.errors import InvalidParameter, SchemaError
from chat_stats.worker.importer.fields import Column, converter, find_columns
from chat_stats.worker.importer.load import slug_of
from chat_stats.worker.importer.records import ImportOptions, Requests
from chat_stats.worker.importer.rows import BadLine, BadLines, CsvFile

HEADER = "created_at,input_tokens,output_tokens,error_message\n"
MOMENT = datetime(2023, 11, 16, 18, 17, 3, tzinfo=UTC)


def column(name: str, kind: str = "text", **changes: Any) -> Column:
    fields = {"declared": kind, "is_enum": False, "not_null": False, "has_default": True, **changes}
    return Column("chat_completion_requests", name, kind, **fields)


TABLE = {
    column.name: column
    for column in (
        column("id", "int8"),
        column("input_tokens", "int8"),
        column("output_tokens", "int8"),
        column("processing_time_ms", "numeric"),
        column("status"),
        column("error_message"),
        column("created_at", "timestamptz"),
    )
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "log.csv"


def read(path: Path, text: str | bytes, *, delimiter: str = ",", encoding: str = "utf-8") -> list[object]:
    """Return the file's records and bad lines."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(CsvFile(path, encoding=encoding, delimiter=delimiter).records())


def requests(path: Path, text: str, **options: Any) -> list[Any]:
    """Return the values of the file's requests, or the bad lines."""
    path.write_text(text, newline="")
    file = CsvFile(path, encoding="utf-8", delimiter=",")
    return [
        entry if isinstance(entry, BadLine) else tuple(entry[2])
        for entry in Requests(file, ImportOptions(**options), TABLE)
    ]


# Lines and records


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_records_come_with_their_line_whatever_the_line_end(file: Path, end: str) -> None:
    assert read(file, end.join(["a,b", "1,2", "", "3,4"])) == [(2, ["1", "2"]), (4, ["3", "4"])]


def test_a_record_over_several_lines_has_the_number_of_its_first(file: Path) -> None:
    assert read(file, 'a,b\n1,"two\nlines"\n3,4\n') == [(2, ["1", "two\nlines"]), (4, ["3", "4"])]


def test_a_byte_order_mark_is_not_part_of_the_first_name(file: Path) -> None:
    file.write_bytes(codecs.BOM_UTF8 + b"a,b\n")
    assert CsvFile(file, encoding="utf8", delimiter=",").header == ["a", "b"]


def test_an_unclosed_quote_makes_only_its_own_line_bad(file: Path) -> None:
    bad = BadLine(3, "a quote is opened here and never closed")
    assert read(file, 'a,b\n1,2\n3,"4\n5,6\n7,8\n') == [
        (2, ["1", "2"]),
        bad,
        (4, ["5", "6"]),
        (5, ["7", "8"]),
    ]


def test_text_after_a_closing_quote_is_bad(file: Path) -> None:
    first, second = read(file, 'a,b\n1,"2"3\n4,5\n')
    assert isinstance(first, BadLine)
    assert str(first).startswith("line 2: wrong quoting: ")
    assert second == (3, ["4", "5"])


def test_a_field_without_end_is_not_read_into_memory(file: Path) -> None:
    lines = read(file, 'a,b\n1,"2\n' + "3,4\n" * 50_000)
    assert lines[0] == BadLine(2, "a field is longer than 131,072 characters: is a quote not closed?")
    assert len(lines) == 50_001


@pytest.mark.parametrize("before", [1, 5_000])
def test_an_invalid_byte_makes_only_its_own_line_bad(file: Path, before: int) -> None:
    lines = read(file, b"a,b\n" + b"1,2\n" * before + b"caf\xe9,2\n3,4\n")
    (bad,) = [line for line in lines if isinstance(line, BadLine)]
    assert bad.line == before + 2
    assert "is not utf-8 (byte 0xe9 at column 4); name the file's encoding with --encoding" in bad.reason
    assert len(lines) == before + 2


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-8", "UTF8"])
def test_other_encodings_are_read_when_named(file: Path, encoding: str) -> None:
    assert read(file, "a,b\ncafé,2\n".encode(encoding), encoding=encoding) == [(2, ["café", "2"])]


def test_a_file_in_utf_16_is_refused_at_its_first_line_unless_the_encoding_is_named(file: Path) -> None:
    with pytest.raises(BadLines, match=r"line 1: is not utf-8 .* --encoding, for instance cp1252 or utf-16"):
        read(file, "a,b\n1,2\n".encode("utf-16"))


def test_a_multi_byte_encoding_still_names_the_bad_line(file: Path) -> None:
    broken = "a,b\n1,2\n3,".encode("utf-16-le") + b"\x00\xdc" + "\n5,6\n".encode("utf-16-le")
    with pytest.raises(BadLines, match="line 3: is not utf-16-le"):
        read(file, broken, encoding="utf-16-le")


def test_a_nul_character_is_bad(file: Path) -> None:
    assert read(file, "a,b\n1,\0\n3,4\n") == [
        BadLine(2, "holds a NUL character, which Postgres cannot store"),
        (3, ["3", "4"]),
    ]


@pytest.mark.parametrize(("name", "character"), [(";", ";"), ("|", "|"), ("tab", "\t"), ("\\t", "\t")])
def test_delimiters(file: Path, name: str, character: str) -> None:
    assert read(file, f"a{character}b\n1{character}2\n", delimiter=name) == [(2, ["1", "2"])]


@pytest.mark.parametrize("delimiter", ["", ",,", '"', "\n", " "])
def test_an_invalid_delimiter_is_refused(file: Path, delimiter: str) -> None:
    with pytest.raises(InvalidParameter, match="a delimiter is one character") as refusal:
        read(file, "a,b\n", delimiter=delimiter)
    assert refusal.value.parameter == "delimiter"


@pytest.mark.parametrize("encoding", ["klingon", "base64", "a\0b"])
def test_an_unknown_encoding_is_refused(file: Path, encoding: str) -> None:
    with pytest.raises(InvalidParameter, match="unknown encoding"):
        read(file, "a,b\n", encoding=encoding)


def test_files_that_cannot_be_read_are_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter, match="does not exist"):
        CsvFile(file, encoding="utf-8", delimiter=",")
    with pytest.raises(InvalidParameter, match="not a regular file"):
        CsvFile(tmp_path, encoding="utf-8", delimiter=",")
    for nothing in ("", "\n\n"):
        with pytest.raises(InvalidParameter, match="is empty"):
            read(file, nothing)


def test_a_file_that_this_user_must_not_read_is_refused_with_the_user(file: Path) -> None:
    file.write_text(HEADER)
    file.chmod(0)
    user = os.geteuid() or 10001
    try:
        os.seteuid(user)  # root could read it
        with pytest.raises(InvalidParameter, match=f"cannot be read by user {user}: Permission denied"):
            CsvFile(file, encoding="utf-8", delimiter=",")
    finally:
        os.seteuid(os.getuid())


def test_a_change_of_the_file_is_noticed(file: Path) -> None:
    file.write_text(HEADER)
    opened = CsvFile(file, encoding="utf-8", delimiter=",")
    assert not opened.has_changed()
    with file.open("a") as log:
        log.write("2023-11-16,1,2,\n")
    assert opened.has_changed()
    file.unlink()
    assert opened.has_changed()


@given(
    st.lists(
        st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=2),
        max_size=5,
    )
)
def test_a_file_that_the_csv_module_wrote_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]
) -> None:
    import csv

    path = tmp_path_factory.mktemp("csv") / "log.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, quoting=csv.QUOTE_ALL).writerows([["a", "b"], *rows])
    records = CsvFile(path, encoding="utf-8", delimiter=",").records()
    assert [record[1] for record in records if isinstance(record, tuple)] == rows


# Columns


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


# Cells


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
        ("numeric", "numeric", "fast", "is not a number"),
        ("numeric", "numeric", "1_0", "is not a number"),
        ("numeric", "numeric", "0,5", "is not a number"),
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


# Requests


def test_a_request_gets_its_values_and_the_default_status(file: Path) -> None:
    assert requests(file, HEADER + " 2023-11-16 18:17:03 , 1 ,2,\n") == [(MOMENT, 1, 2, None)]
    without_default = {**TABLE, "status": column("status", has_default=False)}
    opened = CsvFile(file, encoding="utf-8", delimiter=",")
    (request,) = Requests(opened, ImportOptions(), without_default)
    assert request == (2, ("imported", "log"), [MOMENT, 1, 2, None, "completed"])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("2023-11-16,1,2", "3 fields where the first line has 4"),
        ("2023-11-16,1,2,,", "5 fields where the first line has 4"),
        (",1,2,", "created_at is empty"),
        ("2023-11-16,,2,", "input_tokens is empty (--empty-tokens loads such requests without a count)"),
        ("2023-11-16,1,two,", "output_tokens 'two' is not a whole number"),
    ],
)
def test_a_bad_record_says_its_line_and_the_reason(file: Path, line: str, reason: str) -> None:
    assert requests(file, HEADER + f"{line}\n") == [BadLine(2, reason)]


def test_a_bad_record_over_several_lines_says_where_it_ends(file: Path) -> None:
    assert requests(file, HEADER + '2023-11-16,1,"2\n2023-11-16,3,4"\n') == [
        BadLine(2, "3 fields where the first line has 4; it goes on to line 3, is a quote not closed?")
    ]


def test_a_last_line_that_is_cut_off_is_bad(file: Path) -> None:
    (bad,) = requests(file, HEADER + "2023-11-16,1")
    assert str(bad) == (
        "line 2: 2 fields where the first line has 4; the file ends in this line, is it cut off?"
    )


def test_empty_tokens_are_unknown_with_the_option(file: Path) -> None:
    assert requests(file, HEADER + "2023-11-16 18:17:03,,2,\n", empty_tokens=True) == [
        (MOMENT, None, 2, None)
    ]


def test_a_cell_may_not_be_empty_if_the_table_requires_a_value(file: Path) -> None:
    file.write_text("created_at,input_tokens,output_tokens,status\n2023-11-16,1,2,\n")
    table = {**TABLE, "status": column("status", not_null=True)}
    (bad,) = Requests(CsvFile(file, encoding="utf-8", delimiter=","), ImportOptions(), table)
    assert bad == BadLine(2, "status is empty, and chat_completion_requests.status must have a value")


def test_a_name_for_all_and_a_column_of_names_exclude_each_other(file: Path) -> None:
    with pytest.raises(InvalidParameter, match="give either --model or --model-column, not both") as refusal:
        requests(file, HEADER, model="gpt", columns={"model": "error_message"})
    assert refusal.value.parameter == "model"


@pytest.mark.parametrize("name", ["", " ", "!?", "a\0b", "a\nb", "x" * 201])
def test_an_invalid_name_is_refused(file: Path, name: str) -> None:
    with pytest.raises(InvalidParameter, match="--provider: "):
        requests(file, HEADER, provider=name)


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("OpenAI", "openai"),
        (" Together  AI_2 ", "together-ai-2"),
        ("Fireworks.ai!", "fireworks-ai"),
        ("百度", "百度"),
    ],
)
def test_slugs(name: str, slug: str) -> None:
    assert slug_of(name) == slug
