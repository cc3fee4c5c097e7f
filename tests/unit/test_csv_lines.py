"""Reading a request log: its lines and records, encodings and delimiters."""

import codecs
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_stats.service.errors import InvalidParameter
from chat_stats.worker.importer.rows import BadLine, BadLines, CsvFile
from tests.unit.csv_log import HEADER, read


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
