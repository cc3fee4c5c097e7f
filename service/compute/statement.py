"""The statement that answers a question from the requests themselves, and its arguments.

What comes from a request is an argument, never text of the statement.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from chat_stats.service.catalogue.dimensions import Dimension
from chat_stats.service.catalogue.error_kinds import MESSAGE_CHARACTERS, OTHER, SEPARATORS
from chat_stats.service.catalogue.figures import figure_of, needed
from chat_stats.service.catalogue.kept_dimensions import KeptDimension, OwnRollup
from chat_stats.service.catalogue.measures import MEASURES
from chat_stats.service.catalogue.questions import Filter, Question
from chat_stats.service.catalogue.rollups import Rollup
from chat_stats.service.database.dimension_columns import ColumnType, ColumnTypes
from chat_stats.service.database.rendering import declared

MEASURE_NAMES = tuple(measure.name for measure in MEASURES)

Bounds = tuple[datetime | None, datetime | None]
#: The values of a group's dimensions.
Key = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Statement:
    text: str
    arguments: list[Any]


@dataclass(slots=True)
class _Arguments:
    values: list[Any] = field(default_factory=list)

    def add(self, value: Any, type_: str) -> str:
        """Return what stands for `value` in the statement."""
        self.values.append(value)
        return f"${len(self.values)}::{type_}"


@dataclass(frozen=True, slots=True)
class _Grouped:
    """A dimension as the template has it: an expression over a request, or over its model."""

    called: str
    expression: str | None
    resolved: str | None
    order: list[str]


def statement(
    question: Question,
    bounds: Bounds,
    types: ColumnTypes,
    *,
    functions: bool = False,
    own: OwnRollup | None = None,
    wanted: Sequence[Key] | None = None,
    sums: bool = False,
    purged: bool = True,
    whole: bool = False,
) -> Statement:
    """Return the statement for a question over a range; `wanted`: for these groups, whatever their order.

    `functions`: from what our functions return, for questions about models and providers alone. `own`: from
    that rollup, which has all dimensions of the question; `purged`: where it may have purged requests too;
    `whole`: it knows of all that were. `sums`: with the sums of all measures, by name.
    """
    arguments = _Arguments()
    asked = question.computed
    percentiles = any(figure_of(name).is_percentile for name in asked)
    as_rows = own is not None and wanted is None and _are_rows(own, question)
    read = [
        _grouped(dimension, place, types, arguments, own, as_rows=as_rows)
        for place, dimension in enumerate(question.read, start=1)
    ]
    dimensions = read[: len(question.group_by)]
    counted = [
        (place, dimension.distinct, grouped)
        for place, (dimension, grouped) in enumerate(zip(question.read, read, strict=True), start=1)
        if dimension in question.distinct
    ]
    of_groups: list[str] = []
    of_requests = [] if functions or own else _time_conditions(bounds, arguments)
    of_own = (
        None
        if own is None
        else _of_own(
            own, question, read, bounds, arguments, of_groups, as_rows=as_rows, purged=purged, whole=whole
        )
    )
    for filter_ in question.filters if own is None else ():
        _add_filter(filter_, types, arguments, None if functions else of_requests, of_groups)
    if question.prefix is not None and own is None:
        _add_prefix(question.prefix, question.group_by[0], types, arguments, of_requests, of_groups)
    chooses = bool(dimensions) and wanted is None
    is_ranged = bool(question.bucket or functions or (of_own is not None and not of_own.all_time))
    by_figure = question.order.by if question.order.by in asked else None
    text = declared().statement(
        "asked/groups.sql",
        MEASURE_NAMES if sums else needed(asked),
        functions=functions,
        own=of_own,
        models=_uses_models(question),
        members="model" if any(each.kind == "model" for each in question.dimensions) else "provider",
        grouping=dimensions,
        read=read,
        counted=counted,
        grouped=1 + len([each for each in read if each.expression]) + _uses_models(question),
        interval=question.bucket,
        timezone=arguments.add(question.timezone, "text") if question.bucket else None,
        start=arguments.add(bounds[0], "timestamptz") if is_ranged else None,
        end=arguments.add(bounds[1], "timestamptz") if is_ranged else None,
        of_requests=of_requests,
        of_groups=of_groups,
        asked=asked,
        sums=sums,
        percentiles=percentiles,
        by_figure=by_figure,
        by_percentile=by_figure is not None and figure_of(by_figure).is_percentile,
        direction=" DESC" if question.order.descending else "",
        order=_order(question, dimensions),
        wanted=None if wanted is None else _columns(wanted, len(dimensions), arguments),
        limit=arguments.add(question.limit, "bigint") if chooses else None,
        offset=arguments.add(question.offset, "bigint") if chooses else None,
        most_points=arguments.add(question.most_points, "bigint"),
    )
    return Statement(text, arguments.values)


def first_moment(question: Question, types: ColumnTypes) -> Statement:
    """Return the statement for when the first request was that the question's filters let through."""
    arguments = _Arguments()
    of_requests: list[str] = []
    of_groups: list[str] = []
    for filter_ in question.filters:
        _add_filter(filter_, types, arguments, of_requests, of_groups)
    text = declared().statement(
        "asked/first_moment.sql", (), of_requests=of_requests, of_groups=of_groups, models=bool(of_groups)
    )
    return Statement(text, arguments.values)


@dataclass(frozen=True, slots=True)
class _Own:
    """How the templates read a rollup of the operator's own: `macros/own_reading.sql.j2`."""

    rollup: Rollup
    all_time: bool
    #: Whether each group is a row of it, beside changes.
    as_rows: bool
    #: Its columns and what they are called.
    selected: list[tuple[str, str]]
    #: The same of the requests at ragged edges: expressions, and what they are called.
    read: list[tuple[str, str]]
    #: Whether each group has one row of it for each day.
    single_rows: bool
    #: Whether there may be something of purged requests.
    purged: bool
    #: Whether it is about all requests of its range, so that the rollup by nothing has its totals.
    of_everything: bool
    conditions: list[str] = field(default_factory=list)
    of_requests: list[str] = field(default_factory=list)


def _of_own(
    own: OwnRollup,
    question: Question,
    dimensions: Sequence[_Grouped],
    bounds: Bounds,
    arguments: _Arguments,
    of_groups: list[str],
    *,
    as_rows: bool,
    purged: bool,
    whole: bool,
) -> _Own:
    uses_models = _uses_models(question)
    selected = [("model_id", "model_id")] if uses_models else []
    read = [("q.model_id", "model_id")] if uses_models else []
    for dimension, grouped in zip(question.read, dimensions, strict=True):
        if grouped.expression is not None:
            selected.append((_own_dimension(own, dimension).column, grouped.called))
            read.append((grouped.expression, grouped.called))
    found = _Own(
        own.rollup,
        bounds == (None, None),
        as_rows,
        selected,
        read,
        _has_single_rows(own, question),
        purged,
        whole and not question.filters and question.prefix is None,
    )
    for filter_ in question.filters:
        if filter_.dimension.is_id:
            models = _add_id_filter(filter_, arguments, of_groups)
            if models is not None:
                found.conditions.append(f"t.model_id = ANY ({models})")
                found.of_requests.append(f"q.model_id = ANY ({models})")
            continue
        values = [value for value in filter_.values if value is not None]
        has_null = None in filter_.values
        listed = "NULL::text[]"
        if values or not has_null:  # as rollups keep them
            given = arguments.add(values, "text[]")
            listed = (
                "ARRAY(SELECT stats_schema.chat_stats_dimension_value(v.value) "  # noqa: S608  an argument
                f"FROM unnest({given}) AS v (value))"
            )
        kept = _own_dimension(own, filter_.dimension)
        for of, conditions in (
            (f"t.{kept.column}", found.conditions),
            (kept.expression(strict=False), found.of_requests),
        ):
            parts = [f"{of} = ANY ({listed})"] if values or not has_null else []
            parts += [f"{of} IS NULL"] if has_null else []
            conditions.append(f"({' OR '.join(parts)}){' IS NOT TRUE' if filter_.negated else ''}")
    if question.prefix is not None:
        [dimension] = question.group_by
        if dimension.is_id:
            _add_id_prefix(question.prefix, dimension, arguments, of_groups)
        else:
            text = arguments.add(question.prefix, "text")
            kept = _own_dimension(own, dimension)
            found.conditions.append(f"starts_with(t.{kept.column}, {text})")
            found.of_requests.append(f"starts_with({kept.expression(strict=False)}, {text})")
    return found


def _are_rows(own: OwnRollup, question: Question) -> bool:
    """Return whether groups are rows of the rollup, of all time or a month, ordered by sums or values.

    (Those of models are, but for the ones that are unresolved.)
    """
    of_models = {"model_id"} if any(dimension.kind == "model" for dimension in question.group_by) else set()
    return (
        bool(question.group_by)
        and not question.bucket
        and not question.distinct
        and _by_sums(question)
        and not any(filter_.dimension.is_id for filter_ in question.filters)
        and not (question.prefix is not None and question.group_by[0].is_id)
        and _told_apart(own, question) | of_models == set(own.rollup.dimensions)
    )


def _has_single_rows(own: OwnRollup, question: Question) -> bool:
    """Return whether each group has one row of the rollup for each day, ordered by its sums or values."""
    return _told_apart(own, question) == set(own.rollup.dimensions) and _by_sums(question)


def _told_apart(own: OwnRollup, question: Question) -> set[str]:
    """Return the columns of the rollup that have one value in each group, but for those of models."""
    known = {filter_.dimension for filter_ in question.filters if _has_one_value(filter_)}
    return {
        kept.column
        for dimension in {*question.group_by, *known}
        if (kept := own.kept_as(dimension)) is not None
    }


def _has_one_value(filter_: Filter) -> bool:
    return not filter_.negated and len(filter_.values) == 1


def _by_sums(question: Question) -> bool:
    return question.order.by not in question.computed or not figure_of(question.order.by).is_percentile


def _own_dimension(own: OwnRollup, dimension: Dimension) -> KeptDimension:
    kept = own.kept_as(dimension)
    assert kept is not None, "the rollup was chosen for its dimensions"
    return kept


def request_conditions(filters: Sequence[Filter], types: ColumnTypes, arguments: list[Any]) -> Iterator[str]:
    """Yield what filters mean of a request `q`; what they compare with is appended to `arguments`.

    Those by models and providers are left out: a request alone does not tell.
    """
    for filter_ in filters:
        if not filter_.dimension.is_id:
            conditions: list[str] = []
            _add_filter(filter_, types, _Arguments(arguments), conditions, [])
            yield from conditions


def _uses_models(question: Question) -> bool:
    return any(dimension.is_id for dimension in question.dimensions)


def _time_conditions(bounds: Bounds, arguments: _Arguments) -> list[str]:
    return [
        f"q.created_at {operator} {arguments.add(bound, 'timestamptz')}"
        for operator, bound in zip((">=", "<"), bounds, strict=True)
        if bound is not None
    ]


def _grouped(
    dimension: Dimension,
    place: int,
    types: ColumnTypes,
    arguments: _Arguments,
    own: OwnRollup | None,
    *,
    as_rows: bool,
) -> _Grouped:
    key = f"s.d{place}" if as_rows else f"s.key[{place}]"
    by_text = f'{key} COLLATE "C"'
    if dimension.is_id:
        return _Grouped(f"d{place}", None, f"c.{dimension.kind}", [f"length({key})", by_text])
    if own is None:
        expression = _expression(dimension, types, arguments)
    else:
        expression = _own_dimension(own, dimension).expression(strict=False)
    # Numbers by their size: among those of one sign and length, the text's order is theirs.
    numbers = dimension.key is None and dimension.column is not None and types[dimension.column].is_integer
    return _Grouped(f"d{place}", expression, None, [f"length({key})", by_text] if numbers else [by_text])


def _expression(dimension: Dimension, types: ColumnTypes, arguments: _Arguments) -> str:
    """Return the value of a request `q` as text, by its type's output function and no cast."""
    if dimension.kind == "status":
        return 'CASE WHEN q.status IS NOT NULL THEN rtrim(concat(q.status) COLLATE "C") END'
    if dimension.kind == "error_kind":
        return _error_kind(dimension, arguments)
    column = _column(dimension)
    assert dimension.column is not None
    if dimension.key is not None:
        key = arguments.add(dimension.key, "text")
        if types[dimension.column].base == "jsonb":
            return f"({column} ->> {key})"
        return declared().statement("asked/json_field.sql", (), column=column, key=key).strip()
    text = f'concat({column}) COLLATE "C"'  # by its bytes, whatever collation the column has
    if types[dimension.column].is_padded:
        text = f"rtrim({text})"
    return f"CASE WHEN {column} IS NOT NULL THEN {text} END"


def _column(dimension: Dimension) -> str:
    quoted = str(dimension.column).replace('"', '""')
    return f'q."{quoted}"'


def _error_kind(dimension: Dimension, arguments: _Arguments) -> str:
    """Return the kind of a request that failed: of the first phrase that fits."""
    return (
        declared()
        .statement(
            "asked/error_kind.sql",
            (),
            kinds=[
                (arguments.add(kind.patterns(), "text[]"), arguments.add(kind.name, "text"))
                for kind in dimension.error_kinds
            ],
            other=arguments.add(OTHER, "text"),
            characters=MESSAGE_CHARACTERS,
            separators=arguments.add(SEPARATORS, "text"),
            blanks=arguments.add(" " * len(SEPARATORS), "text"),
        )
        .strip()
    )


def _add_filter(
    filter_: Filter,
    types: ColumnTypes,
    arguments: _Arguments,
    of_requests: list[str] | None,
    of_groups: list[str],
) -> None:
    """Add what the filter means of requests, and of groups; `of_requests` None: no requests are read."""
    values = [value for value in filter_.values if value is not None]
    has_null = None in filter_.values
    dimension = filter_.dimension
    if not dimension.is_id:
        assert of_requests is not None, "the functions know of models alone"
        of_requests.append(_among(dimension, values, has_null, types, arguments, negated=filter_.negated))
        return
    if of_requests is None:
        of_groups.append(_id_condition(filter_, arguments))
    elif (models := _add_id_filter(filter_, arguments, of_groups)) is not None:
        of_requests.append(f"q.model_id = ANY ({models})")


def _add_id_filter(filter_: Filter, arguments: _Arguments, of_groups: list[str]) -> str | None:
    """Add the condition of a filter by models or providers; return the models that an index finds, if any."""
    of_groups.append(_id_condition(filter_, arguments))
    if filter_.negated or None in filter_.values:
        return None
    ids, kind = arguments.add(list(filter_.values), "text[]"), filter_.dimension.kind
    return f"ARRAY(SELECT c.model_id FROM catalogue AS c WHERE c.{kind} = ANY ({ids}))"  # noqa: S608


def _id_condition(filter_: Filter, arguments: _Arguments) -> str:
    values = [value for value in filter_.values if value is not None]
    of = f"c.{filter_.dimension.kind}"
    return _condition(of, values, None in filter_.values, arguments, negated=filter_.negated)


def _among(
    dimension: Dimension,
    values: list[str],
    has_null: bool,
    types: ColumnTypes,
    arguments: _Arguments,
    *,
    negated: bool,
) -> str:
    type_ = types[dimension.column] if dimension.column and dimension.key is None else None
    # Compared as the column's own type where that can be, so that an index of the column serves.
    as_column = None if type_ is None else _as_column(values, type_)
    if as_column is None:
        expression = _expression(dimension, types, arguments)
        return _condition(expression, values, has_null, arguments, negated=negated)
    compared, name = as_column
    return _condition(_column(dimension), compared, has_null, arguments, negated=negated, type_=name)


def _as_column(values: list[str], type_: ColumnType) -> tuple[list[Any], str] | None:
    """Return the values as a column of that type holds them, those that it cannot hold left out."""
    if type_.is_text:
        return values, "text[]"
    if type_.is_integer:
        return [number for value in values if (number := _integer(value)) is not None], "bigint[]"
    if type_.base == "uuid":
        return [uuid for value in values if (uuid := _uuid(value)) is not None], "uuid[]"
    return None


def _integer(value: str) -> int | None:
    try:
        number = int(value)
    except ValueError:
        return None
    return number if str(number) == value and -(2**63) <= number < 2**63 else None


def _uuid(value: str) -> UUID | None:
    try:
        uuid = UUID(value)
    except ValueError:
        return None
    return uuid if str(uuid) == value.lower() else None


def _condition(
    of: str,
    values: Sequence[Any],
    has_null: bool,
    arguments: _Arguments,
    *,
    negated: bool,
    type_: str = "text[]",
) -> str:
    if len(values) == 1 and not has_null:  # so that an index gives its rows in order
        parts = [f"{of} = {arguments.add(values[0], type_.removesuffix('[]'))}"]
    else:
        parts = [f"{of} = ANY ({arguments.add(list(values), type_)})"] if values or not has_null else []
    if has_null:
        parts.append(f"{of} IS NULL")
    return f"({' OR '.join(parts)}){' IS NOT TRUE' if negated else ''}"


def _add_prefix(
    prefix: str,
    dimension: Dimension,
    types: ColumnTypes,
    arguments: _Arguments,
    of_requests: list[str],
    of_groups: list[str],
) -> None:
    if dimension.is_id:
        _add_id_prefix(prefix, dimension, arguments, of_groups)
    else:
        text = arguments.add(prefix, "text")
        of_requests.append(f"starts_with({_expression(dimension, types, arguments)}, {text})")


def _add_id_prefix(prefix: str, dimension: Dimension, arguments: _Arguments, of_groups: list[str]) -> None:
    text = arguments.add(prefix, "text")
    name = f'starts_with(lower(c.{dimension.name_field} COLLATE "default"), lower({text}))'
    of_groups.append(f"(starts_with(c.{dimension.kind}, {text}) OR {name})")


def _order(question: Question, dimensions: Sequence[_Grouped]) -> list[str]:
    """Return by what groups are ordered after a figure, if by one: their dimensions, NULL last."""
    order = {each.name: grouped.order for each, grouped in zip(question.group_by, dimensions, strict=True)}
    first = order.pop(question.order.by, [])
    direction = " DESC" if question.order.descending else ""
    return [
        *(f"{part}{direction} NULLS LAST" for part in first),
        *(f"{part} NULLS LAST" for parts in order.values() for part in parts),
    ]


def _columns(wanted: Iterable[Key], count: int, arguments: _Arguments) -> list[str]:
    keys = list(wanted)
    return [arguments.add([key[place] for key in keys], "text[]") for place in range(count)]
