"""Reading a request log of JSON lines."""

from pathlib import Path

import pytest

from chat_stats.service.errors import InvalidParameter
from chat_stats.worker.importer import json_lines
from chat_stats.worker.importer.json_lines import JsonLinesFile, open_log
from chat_stats.worker.importer.rows import BadLine, BadLines, CsvFile


def read(path: Path, text: str, *nested: str) -> tuple[list[str], list[object]]:
    path.write_text(text)
    file = JsonLinesFile(path, encoding="utf-8", nested=nested)
    return file.header, list(file.records())


def test_a_file_that_begins_with_an_object_is_json_lines_whatever_its_name(file: Path) -> None:
    options = {"encoding": "utf-8", "delimiter": ",", "columns": {}}
    for text, kind in (('\ufeff {"a": 1}\n', JsonLinesFile), ("a,b\n{,1\n", CsvFile)):
        file.write_text(text)
        assert type(open_log(file, **options)) is kind  # type: ignore[arg-type]


def test_the_header_has_the_keys_of_all_lines_and_numbers_keep_their_digits(file: Path) -> None:
    header, records = read(
        file, '{"a": 0.10000000000000000001, "b": null}\n\n{"c": true, "a": "1,\\n2"}\n{"a": 12e3, "d": [1]}'
    )
    assert header == ["a", "b", "c", "d"]
    assert records == [
        (1, ["0.10000000000000000001", "", "", ""]),
        (3, ["1,\n2", "", "true", ""]),
        (4, ["12e3", "", "", "[1]"]),
    ]


def test_a_name_with_dots_is_that_of_a_nested_value(file: Path) -> None:
    text = '{"usage": {"in": 7, "more": {"x": 1}}, "a.b": 2}\n{"usage": null}\n'
    header, records = read(file, text, "usage.in", "usage.more.x", "a.b", "of.none")
    assert header == ["usage", "a.b", "usage.in", "usage.more.x"]
    assert records[0] == (1, ['{"in": 7, "more": {"x": 1}}', "2", "7", "1"])
    assert records[1] == (2, ["", "", "", ""])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"a": 1', "is not JSON: "),
        ("[1]", "is not an object: '[1]'"),
        ('{"a": "\\u0000"}', "holds a NUL character"),
        ('{"a": "\\ud800"}', "half of a surrogate pair"),
        ("[" * 100_000, "is nested too deeply"),
    ],
)
def test_a_bad_line_is_named_and_those_around_it_are_read(file: Path, line: str, reason: str) -> None:
    _, (first, bad, last) = read(file, f'{{"a": 1}}\n{line}\n{{"a": 2}}\n')
    assert (first, last) == ((1, ["1"]), (3, ["2"]))
    assert isinstance(bad, BadLine)
    assert (bad.line, reason in bad.reason) == (2, True), bad


def test_a_file_without_any_object_is_refused_by_its_first_line(file: Path) -> None:
    file.write_text('{"a"\n')
    with pytest.raises(BadLines, match="line 1: is not JSON"):
        JsonLinesFile(file, encoding="utf-8")


def test_ids_as_keys_do_not_fill_the_memory(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("".join(f'{{"{number}": 1}}\n' for number in range(1_001)))
    with pytest.raises(InvalidParameter, match="more than 1,000 different keys"):
        JsonLinesFile(file, encoding="utf-8")
    monkeypatch.setattr(json_lines, "MAX_LINE", 100)
    file.write_text('{"a": 1}\n{"a": "' + "x" * 200 + '"}\n')
    with pytest.raises(BadLines, match="line 2: is longer than 100 characters"):
        JsonLinesFile(file, encoding="utf-8")
