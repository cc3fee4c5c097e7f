"""Reading a request log: requests with their values, and bad lines with the reason."""

from pathlib import Path

import pytest

from chat_stats.service.errors import InvalidParameter
from chat_stats.worker.importer.load import slug_of
from chat_stats.worker.importer.records import ImportOptions, Requests
from chat_stats.worker.importer.rows import BadLine, CsvFile
from tests.unit.csv_log import HEADER, MOMENT, TABLE, column, requests


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
