"""Scopes: how they are read, and what is left of a request's filters within one."""

import json

import pytest

from chat_stats.service.catalogue.dimensions import known_dimensions
from chat_stats.service.catalogue.question_parameters import parse_question
from chat_stats.service.catalogue.questions import Filter
from chat_stats.service.catalogue.scopes import Scope, query_within, within
from chat_stats.service.errors import ChatStatsError, InvalidParameter
from chat_stats.service.keys.keys import hash_of, looks_scoped, new_key
from chat_stats.service.keys.scopes import decode_scope, encode_scope, parse_scope, written
from chat_stats.service.keys.table import check_name

KNOWN = known_dimensions("user_id, team=tags->>team")


def scope_of(*texts: str) -> Scope:
    return parse_scope(texts, KNOWN)


def filters_of(text: str) -> tuple[Filter, ...]:
    question = parse_question([part.split("=") for part in text.split("&") if part], KNOWN).question  # type: ignore[misc]
    assert question is not None
    return question.filters


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ((), "give at least one --scope"),
        (("user_id",), "write it as dimension=value"),
        (("company=1",), "unknown dimension 'company'; known: provider_id, model_id, status, error_kind"),
        (("user_id!=1",), "unknown dimension 'user_id!'"),
        (("not_user_id=1",), "unknown dimension"),
        (("=1",), "unknown dimension ''"),
        (("user_id=1", "user_id=2"), "user_id is given twice"),
        (("user_id=1", "user_id=1"), "user_id is given twice"),
        (("model_id=gpt",), "neither a whole number"),
        (("user_id=" + "x" * 128,), "at most 127 characters"),
    ],
)
def test_a_wrong_scope_is_refused_with_what_is_wrong(texts: tuple[str, ...], said: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        parse_scope(texts, KNOWN)
    assert said in str(refused.value)


@pytest.mark.parametrize("name", ["", "  ", "x" * 101, "two\nlines", "\0"])
def test_a_wrong_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidParameter):
        check_name(name)


@pytest.mark.parametrize(
    "texts",
    [
        ("user_id=42",),
        ("user_id=",),
        ("user_id=__null__",),
        (r"user_id=\__null__",),
        ("model_id=unresolved",),
        ("model_id=7", "team=a=b", "user_id=ü, b"),
    ],
)
def test_a_scope_is_kept_as_it_was_given(texts: tuple[str, ...]) -> None:
    scope = scope_of(*texts)
    assert decode_scope(encode_scope(scope), KNOWN) == scope
    assert [f"{name}={value}" for name, value in written(scope).items()] == list(texts)


def test_a_scope_whose_dimension_changed_is_of_no_use() -> None:
    kept = encode_scope(scope_of("team=red"))
    for declared, said in (
        ("", "team of its scope is not in"),
        ("team=tags->>squad", "was team=tags->>team"),
    ):
        with pytest.raises(ValueError, match=said):
            decode_scope(kept, known_dimensions(declared))


def part(value: object, dimension: object = "user_id", **more: object) -> dict[str, object]:
    return {"dimension": dimension, "declared": dimension, "value": value, **more}


@pytest.mark.parametrize(
    "kept",
    [
        *(None, True, 5, "user_id=1", {}, [], {"user_id": "1"}, part("1")),
        *([None], [5], ["user_id"], [[]], [{}], [[part("1")]], [part("1"), None]),
        *([part(1)], [part(1.5)], [part(True)], [part([])], [part(["1"])], [part({})], [part("x" * 128)]),
        *([part("1", "company")], [part("1", "")], [part("1", None)], [part("1", ["user_id"])]),
        [{"dimension": "user_id"}],
        [{"dimension": "user_id", "declared": "user_id"}],
        [part("gpt", "model_id")],
        [part("1", negated=True)],
        [part("1"), part("2")],
        [part("1"), part("1")],
    ],
)
def test_a_scope_that_was_edited_by_hand_is_refused_as_a_whole(kept: object) -> None:
    with pytest.raises(ValueError, match=r"scope|neither a whole number") as refused:
        decode_scope(json.dumps(kept), KNOWN)
    assert type(refused.value) is ValueError


def test_a_scope_that_is_nested_too_deep_to_be_read_is_refused() -> None:
    with pytest.raises(ValueError, match="make another"):
        decode_scope("[" * 2000 + "]" * 2000, KNOWN)


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ("", {"user_id": ["42"]}),
        ("user_id=42", {"user_id": ["42"]}),
        ("user_id=7", {"user_id": []}),
        ("user_id=7&user_id=42", {"user_id": ["42"]}),
        ("user_id=__null__", {"user_id": []}),
        ("user_id!=42", {"user_id": ["42"], "user_id!": ["42"]}),
        ("not_user_id=7", {"user_id": ["42"], "user_id!": ["7"]}),
        ("status=failed", {"status": ["failed"], "user_id": ["42"]}),
    ],
)
def test_no_filter_of_a_request_widens_the_scope(given: str, left: dict[str, list[str]]) -> None:
    found = within(filters_of(given), scope_of("user_id=42"))
    assert {each.parameter: list(each.values) for each in found} == left
    assert within(found, scope_of("user_id=42")) == found


def test_a_question_that_was_parsed_without_its_scope_is_not_answered() -> None:
    scope = scope_of("user_id=42")
    items = [("group_by", "user_id")]
    assert query_within(parse_question(items, KNOWN, scope), scope).question is not None
    for text in ("", "user_id=42", "user_id=7"):
        query = parse_question([*items, *(tuple(text.split("=", 1)) for text in [text] if text)], KNOWN)  # type: ignore[list-item]
        with pytest.raises(ChatStatsError):
            query_within(query, scope)


def test_each_scope_has_cache_keys_of_its_own() -> None:
    scopes = [
        (),
        scope_of("user_id=1"),
        scope_of("user_id=2"),
        scope_of("team=1"),
        scope_of("user_id=1", "team=1"),
    ]
    keys = {parse_question([], KNOWN, scope).key() for scope in scopes}
    keys.add(parse_question([("user_id", "1")], KNOWN).key())
    assert len(keys) == len(scopes) + 1


def test_keys_are_long_random_and_told_from_others() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert {len(key) for key in keys} == {47}
    assert all(looks_scoped(key.encode()) for key in keys)
    assert not looks_scoped(b"secret")
    assert len(hash_of(b"x")) == 32
