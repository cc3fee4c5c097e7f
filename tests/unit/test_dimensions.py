"""How dimensions and kinds of errors are declared, and what that is refused."""

import pytest

from chat_stats.service.catalogue.dimensions import known_dimensions
from chat_stats.service.catalogue.error_kinds import DEFAULT, parse_error_kinds
from chat_stats.service.errors import SettingsError
from chat_stats.service.settings import load_settings


def test_built_in_dimensions_need_no_declaration() -> None:
    assert list(known_dimensions()) == ["provider_id", "model_id", "status", "error_kind"]


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ("user_id", ("user_id", "user_id", None)),
        (" user = user_id ", ("user", "user_id", None)),
        ("who=UserId", ("who", "UserId", None)),
        ("team=metadata->>team", ("team", "metadata", "team")),
        ("team=metadata->>'Team of Teams'", ("team", "metadata", "Team of Teams")),
        ("team = metadata ->> org.team", ("team", "metadata", "org.team")),
    ],
)
def test_a_dimension_is_a_column_or_a_key_of_a_json_column(
    declared: str, expected: tuple[str, str, str | None]
) -> None:
    known = list(known_dimensions(declared).values())
    assert len(known) == 5
    assert (known[-1].name, known[-1].column, known[-1].key) == expected


@pytest.mark.parametrize(
    "declared",
    [
        "UserId",  # a name of our own for it: name=UserId
        "user-id",
        "1st",
        "a=b=c",
        "a=lower(b)",
        "a=b->c",
        "a=b->>",
        "a=b->>'x",
        "a=b->>x'; DROP TABLE models; --",
        'a="b"',
        "a=b; c",
        "a=" + "b" * 64,
        "a" * 42,
        "total_requests",
        "successful",
        "status",
        "model_id=other",
        "model_name=other",
        "window",
        "limit",
        "previous",
        "cost_usd",
        "not_user",
        "user_id, user_id",
        "user_id, user_id=other",
        ", ".join(f"d{number}" for number in range(31)),
    ],
)
def test_a_declaration_that_means_nothing_or_something_else_stops_the_start(declared: str) -> None:
    with pytest.raises(SettingsError, match="CHAT_STATS_DIMENSIONS: "):
        load_settings(database_url="postgresql://x/x", dimensions=declared, _env_file=None)


@pytest.mark.parametrize(
    ("declared", "complaint"),
    [
        ("timeout", "not name=phrase"),
        ("Timeout=timed out", "not name=phrase"),
        ("other=x", "there already"),
        ("a=x;a=y", "there already"),
        ("a=x||y", "no letter and no digit"),
        ("a=%", "no letter and no digit"),
        ("a=" + "x" * 101, "100 characters"),
        (";".join(f"k{number}=x" for number in range(31)), "30 kinds"),
        ("a=" + "|".join(f"x{number}" for number in range(301)), "300 phrases"),
    ],
)
def test_kinds_of_errors_that_cannot_be_told_apart_stop_the_start(declared: str, complaint: str) -> None:
    with pytest.raises(SettingsError, match=f"CHAT_STATS_ERROR_KINDS: .*{complaint}"):
        load_settings(database_url="postgresql://x/x", error_kinds=declared, _env_file=None)


def test_no_pattern_has_a_character_that_sql_or_like_would_read_otherwise() -> None:
    kinds = parse_error_kinds(DEFAULT + r"; a=it's|b\_c%|x" "y|[z]*")
    patterns = [pattern for kind in kinds for pattern in kind.patterns()]
    assert not [pattern for pattern in patterns if set(pattern) & set("'\"\\_[]*")]
    assert patterns[-4:] == ["% it s %", "% b  c%", "% xy %", "%  z   %"]


@pytest.mark.parametrize(
    ("queries", "complaint"),
    [
        ("group_by=usr", "unknown dimension 'usr'"),
        ("group_by=status&format=csv", "format"),
        ("group_by=user_id group_by=status&limit=0", "limit"),
    ],
)
def test_a_question_to_keep_that_cannot_be_asked_stops_the_start(queries: str, complaint: str) -> None:
    with pytest.raises(SettingsError, match=f"CHAT_STATS_QUERIES: .*{complaint}"):
        load_settings(database_url="postgresql://x/x", dimensions="user_id", queries=queries, _env_file=None)
