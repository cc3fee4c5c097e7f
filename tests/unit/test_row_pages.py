"""The place where a page of rows ended is found again when the rows were computed again."""

import pytest

from chat_stats.service.catalogue.row_pages import check_cursor, cursor_of, rows_behind
from chat_stats.service.catalogue.rows import Row
from chat_stats.service.errors import InvalidParameter


def rows(*requests: tuple[int, int]) -> list[Row]:
    return [{"model_id": model_id, "stats": {"total_requests": total}} for model_id, total in requests]


ENDED_AT = cursor_of(rows((2, 50))[0], "-total_requests", "of some filters")


@pytest.mark.parametrize(
    ("now", "behind"),
    [
        (rows((1, 90), (2, 50), (3, 50), (4, 10)), [3, 4]),
        (rows((5, 95), (1, 90), (2, 50), (3, 50), (4, 10)), [3, 4]),
        (rows((2, 99), (1, 90), (3, 50), (4, 10)), [3, 4]),
        (rows((1, 90), (3, 50), (4, 10)), [3, 4]),
        (rows((1, 90), (4, 10)), [4]),
        (rows((1, 90), (3, 50)), [3]),
        (rows((1, 90)), []),
    ],
    ids=[
        "as it was",
        "with a row before it",
        "moved up",
        "gone",
        "gone with its equals",
        "gone, last",
        "only",
    ],
)
def test_the_next_page_begins_behind_its_place(now: list[Row], behind: list[int]) -> None:
    assert [row["model_id"] for row in rows_behind(ENDED_AT, now)] == behind


def test_a_cursor_of_another_order_or_of_other_filters_is_refused() -> None:
    check_cursor(ENDED_AT, "-total_requests", "of some filters")
    for order, filters in (("total_tokens", "of some filters"), ("-total_requests", "of others")):
        with pytest.raises(InvalidParameter, match="with its filters"):
            check_cursor(ENDED_AT, order, filters)
