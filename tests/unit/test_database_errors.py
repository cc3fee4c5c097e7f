"""What of the database's errors reaches clients: our words, and names of the schema."""

import logging
from typing import Any

import asyncpg
import pytest

from chat_stats.service.database.errors import reading_error, unreachable

UNREAD = "unread; the log of chat-stats has the database's error"
SHOWN = [
    (
        "42P01",
        'relation "models" does not exist',
        'relation "models" does not exist; run: chat-stats migrate',
    ),
    ("42703", "column r.cost does not exist", "column r.cost does not exist; run: chat-stats migrate"),
    (
        "42501",
        "permission denied for table models",
        "permission denied for table models; grant the chat-stats role SELECT on the three tables",
    ),
    (
        "42P01",
        "Relation »/srv/models« existiert nicht",
        "a table, column or function is missing; run: chat-stats migrate",
    ),
    (
        "42501",
        "could not open /etc/passwd",
        "permission denied; grant the chat-stats role SELECT on the three tables",
    ),
    (
        "58P01",
        'could not open file "/srv/pg/base/1"',
        "unread; the log of chat-stats has the database's error",
    ),
    ("22P02", 'invalid input syntax: "secret"', UNREAD),
]


def error(state: str, message: str) -> Any:
    return asyncpg.PostgresError.new({"S": "ERROR", "V": "ERROR", "C": state, "M": message})


@pytest.mark.parametrize(("state", "message", "shown"), SHOWN)
def test_clients_get_our_words_and_names_of_the_schema(
    state: str, message: str, shown: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert str(reading_error(error(state, message), timed_out="late", failed="unread")) == shown
    assert (message in caplog.text) is (message not in shown)


def test_a_pooler_s_words_are_shown_unless_they_hold_a_path_or_an_address() -> None:
    assert str(unreachable(error("08P01", "Tenant or user not found"))).endswith(
        "it says 'Tenant or user not found'"
    )
    for text in ('could not load "/srv/tls.pem"', "no route to db://u:p@host", "C:\\pg\\data"):
        assert str(unreachable(error("XX000", text))).endswith("it says 'InternalServerError'")
