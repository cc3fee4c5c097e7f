"""The parameters of questions, for the OpenAPI document: those of each declared dimension too."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import WithJsonSchema

from chat_stats.service.catalogue.dimensions import Dimensions
from chat_stats.service.catalogue.figures import DEFAULT_FIGURES, FIGURES
from chat_stats.service.catalogue.question_parameters import MAX_TEXT, NOT, NULL
from chat_stats.service.catalogue.questions import DEFAULT_LIMIT, MAX_GROUPS, MAX_LIMIT, PREVIOUS
from chat_stats.service.catalogue.rows import UNRESOLVED
from chat_stats.service.catalogue.timerange import WINDOWS
from chat_stats.service.catalogue.timeseries import BUCKETS, MAX_POINTS
from chat_stats.service.explorer.exports import FORMATS
from chat_stats.service.routes import parameters

Schema = Mapping[str, Any]
Parameters = list[dict[str, Any]]


def _schema(declared: WithJsonSchema) -> Schema:
    assert declared.json_schema is not None
    return declared.json_schema


_MOMENT = _schema(parameters.MOMENT)
_LIMIT = _schema(parameters.whole_number(1, MAX_LIMIT))
_TEXT: Schema = {"type": "string", "maxLength": MAX_TEXT, "pattern": r"^[^\u0000]*$"}
_ID = _schema(parameters.MODEL)


def _one_of(values: Iterable[str]) -> Schema:
    return {"type": "string", "enum": list(values)}


def _listed(names: Iterable[str], example: str) -> Schema:
    name = f"({'|'.join(names)})"
    return {"type": "string", "pattern": f"^{name}(,{name})*$", "examples": [example]}


def _parameter(name: str, schema: Schema, description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}


def _time_parameters() -> Parameters:
    return [
        _parameter("window", _one_of(WINDOWS), "Preset window that ends now; `all` when nothing is given."),
        _parameter("start_date", _MOMENT, "Start of the range; without an offset it means UTC."),
        _parameter("end_date", _MOMENT, "End of the range, exclusive; but a date alone includes that day."),
    ]


def query_parameters(known: Dimensions) -> Parameters:
    orders = "|".join((*FIGURES, *known))
    return [
        *_time_parameters(),
        _parameter(
            "measures",
            _listed(FIGURES, "total_requests,total_cost_usd"),
            f"Comma-separated; {', '.join(DEFAULT_FIGURES)} when not given.",
        ),
        _parameter(
            "group_by",
            {**_listed(known, "status"), "pattern": rf"^$|{_listed(known, 'status')['pattern']}"},
            f"Up to {MAX_GROUPS} dimensions, comma-separated: a row for each combination of their values.",
        ),
        _parameter(
            "bucket",
            _one_of(BUCKETS),
            f"Each group has a row for each interval of this length; at most {MAX_POINTS:,} rows.",
        ),
        _parameter("timezone", _schema(parameters.TIMEZONE), "Of the intervals; UTC when not given."),
        _parameter(
            "order_by",
            {"type": "string", "pattern": f"^-?({orders})$", "examples": ["-total_cost_usd"]},
            "A measure, or a dimension of `group_by`; with - in descending order. Default: -total_requests.",
        ),
        _parameter("limit", _LIMIT, f"Most groups to return; {DEFAULT_LIMIT} when not given."),
        _parameter("cursor", _schema(parameters.CURSOR), "`next_cursor` of the page before."),
        _parameter(
            "compare",
            {"anyOf": [{"type": "string", "const": PREVIOUS}, _MOMENT]},
            f"`{PREVIOUS}`: each row has the figures of the range of equal length before. A date: those of "
            "the one that begins then.",
        ),
        _parameter("format", _one_of(FORMATS), "Format of the answer; JSON when not given."),
        *filters(known),
    ]


def filters(known: Dimensions) -> Parameters:
    """Return the filters by dimension."""
    found = []
    for name, dimension in known.items():
        schema = {"type": "array", "items": _ID if dimension.is_id else _TEXT, "minItems": 1}
        none = (
            f"`{UNRESOLVED}`: whose model or provider does not exist"
            if dimension.is_id
            else f"`{NULL}`: that have none"
        )
        found += [
            _parameter(name, schema, f"Only requests with this {name}, or one of several. {none}."),
            _parameter(f"{NOT}{name}", schema, f"Only requests with another {name}; `{name}!` is the same."),
        ]
    return found


def value_parameters(known: Dimensions) -> Parameters:
    return [
        *_time_parameters(),
        _parameter("name", _one_of(known), "The dimension whose values are asked for."),
        _parameter(
            "prefix",
            _TEXT,
            "Only values that begin with it; of models and providers, also names, in any case.",
        ),
        _parameter("limit", _LIMIT, f"Most values to return; {DEFAULT_LIMIT} when not given."),
    ]
