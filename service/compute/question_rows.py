"""The rows of a question's answer, from the figures of its groups."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from chat_stats.service.catalogue.figures import figure_of
from chat_stats.service.catalogue.questions import Question
from chat_stats.service.catalogue.rows import UNRESOLVED, Row
from chat_stats.service.compute.statement import Key

#: A group, the start of its interval in a series, and its figures.
Figures = tuple[Key, datetime | None, Row]
#: Id and name of each model and provider, by kind and id as text.
Labels = Mapping[str, Mapping[str, tuple[Any, str | None]]]


def number_type(name: str) -> type[int] | type[float]:
    """Return the type with which JSON shows a figure."""
    return int if figure_of(name).type == "int" else float


def shown(question: Question, figures: Row) -> Row:
    """Return the figures that are asked for, without that of the order."""
    return {name: figures[name] for name in question.figures}


def row_of(
    question: Question,
    key: Key,
    start: datetime | None,
    figures: Row,
    labels: Labels,
) -> Row:
    """Return the row of a group; ids of models and providers come with their names."""
    row: Row = {}
    if start is not None and question.bucket is not None:
        row["bucket_start"] = start
    for dimension, value in zip(question.group_by, key, strict=True):
        if dimension.is_id:
            id_, label = (UNRESOLVED, UNRESOLVED) if value is None else labels[dimension.kind][value]
            row[dimension.name] = id_
            row[dimension.name_field] = label
        else:
            row[dimension.name] = value
    return row | shown(question, figures)


def add_previous(
    question: Question,
    rows: list[Row],
    now: Sequence[Figures],
    before: Sequence[Figures],
) -> None:
    """Add to each row the one at the same place of the same group in the earlier range."""
    nothing = {name: number_type(name)(0) for name in question.figures}
    earlier: dict[tuple[Key, int], Row] = {}
    places: dict[Key, int] = {}
    for key, _, figures in before:
        places[key] = places.get(key, -1) + 1
        earlier[key, places[key]] = shown(question, figures)
    places = {}
    for row, (key, _, _) in zip(rows, now, strict=True):
        places[key] = places.get(key, -1) + 1
        add_change(row, earlier.get((key, places[key]), dict(nothing)))


def add_change(figures: Row, previous: Row) -> None:
    """Add the earlier figures, and by what share each has changed; null where it was 0."""
    figures["previous"] = previous
    figures["change"] = {
        name: round((figures[name] - value) / abs(value), 4) if value else None
        for name, value in previous.items()
    }


def value_row(question: Question, row: Row) -> Row:
    """Return the row of one value of a dimension."""
    [dimension] = question.group_by
    value = {"value": row[dimension.name]}
    if dimension.is_id:
        value["name"] = row[dimension.name_field]
    return {**value, "total_requests": row["total_requests"]}
