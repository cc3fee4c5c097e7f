"""Scopes as the command line gives them, and as the table keeps them.

A scope is kept with the declaration of each dimension. If the settings declare it otherwise by now, or not at
all, the key is refused: without the filter, or by another one, it would show what it must not.
"""

from collections.abc import Iterator, Sequence

import orjson

from chat_stats.service.catalogue.dimensions import Dimensions, parse_dimension
from chat_stats.service.catalogue.question_parameters import filters_given, parse_question
from chat_stats.service.catalogue.questions import Filter
from chat_stats.service.catalogue.scopes import Scope, within
from chat_stats.service.errors import InvalidParameter

#: Characters of a value. Rollups shorten longer ones than 128 to 128 and a hash: no other value may pass for
#: that of a scope.
LONGEST_VALUE = 127
_EDITED = "its scope is not one that `chat-stats key create` makes; revoke the key, and make another"


def parse_scope(texts: Sequence[str], known: Dimensions) -> Scope:
    """Read a scope from texts such as `user_id=42`; `InvalidParameter` says what is wrong."""
    if not texts:
        raise InvalidParameter(
            "scope", "give at least one --scope; keys that read everything are in CHAT_STATS_API_KEYS"
        )
    filters: dict[str, Filter] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator:
            raise InvalidParameter("scope", f"scope {text[:80]!r}: write it as dimension=value")
        parse_dimension("scope", name, known)
        if name in filters:
            raise InvalidParameter("scope", f"scope: {name} is given twice; a key has one value of each")
        filters[name] = _filter(name, value, known)
    return within((), tuple(filters.values()))


def encode_scope(scope: Scope) -> str:
    """Return the scope as `decode_scope` reads it."""
    parts = [
        {"dimension": each.dimension.name, "declared": str(each.dimension), "value": each.values[0]}
        for each in scope
    ]
    return orjson.dumps(parts).decode()


def decode_scope(text: str, known: Dimensions) -> Scope:
    """Read what `encode_scope` wrote; ValueError says why it cannot be applied.

    The table may have been edited by hand: what `parse_scope` would not have made is refused.
    """
    filters: dict[str, Filter] = {}
    for name, declared, value in _kept_parts(text):
        if name not in known:
            raise ValueError(f"the dimension {name} of its scope is not in CHAT_STATS_DIMENSIONS")
        if str(known[name]) != declared:
            raise ValueError(f"the dimension of its scope was {declared}, and is {known[name]} now")
        kept = Filter(known[name], (value,))
        try:
            is_sound = name not in filters and _filter(name, written((kept,))[name], known) == kept
        except InvalidParameter as error:
            raise ValueError(str(error)) from None
        if not is_sound:
            raise ValueError(_EDITED)
        filters[name] = kept
    if not filters:
        raise ValueError("it has no scope")
    return within((), tuple(filters.values()))


def _kept_parts(text: str) -> Iterator[tuple[str, str, str | None]]:
    """Yield name, declaration and value of each part."""
    try:
        parts = orjson.loads(text)
    except orjson.JSONDecodeError:  # nested too deep
        raise ValueError(_EDITED) from None
    for part in parts if isinstance(parts, list) else (None,):
        match part:
            case {
                "dimension": str(name),
                "declared": str(declared),
                "value": str() | None as value,
                **more,
            } if not more:
                yield name, declared, value
            case _:
                raise ValueError(_EDITED)


def written(scope: Scope) -> dict[str, str]:
    """Return the scope as requests and the command line give filters."""
    return {name: values[0] for name, values in filters_given(scope).items()}


def _filter(name: str, value: str, known: Dimensions) -> Filter:
    try:
        question = parse_question([(name, value)], known).question
    except InvalidParameter as error:
        raise InvalidParameter("scope", f"scope: {error}") from None
    if len(value) > LONGEST_VALUE:
        raise InvalidParameter("scope", f"scope: a value of {name} has at most {LONGEST_VALUE} characters")
    assert question is not None
    [filter_] = question.filters
    return filter_
