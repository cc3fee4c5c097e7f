"""The functions that dashboards may call are documented with their parameters and columns."""

import re

import asyncpg

from tests.docs.documents import ROOT, blocks

DOCUMENT = ROOT / "docs" / "http-api.md"


async def test_every_public_function_is_documented_as_it_is(connection: asyncpg.Connection) -> None:
    rows = re.findall(r"^\| `(get_\w+)\((.*)\)` \| (.*) \|$", DOCUMENT.read_text(), re.MULTILINE)
    documented = {
        name: (parameters.split(", "), re.findall(r"`(\w+)`", columns)) for name, parameters, columns in rows
    }
    records = await connection.fetch("""
        SELECT p.proname AS name, p.proargnames AS names, p.proargmodes::text[] AS modes
        FROM pg_proc AS p
        WHERE p.pronamespace = current_schema()::regnamespace AND p.proname LIKE 'get\\_%'
    """)
    assert documented == {
        record["name"]: (
            [name for name, mode in zip(record["names"], record["modes"], strict=True) if mode == "i"],
            [name for name, mode in zip(record["names"], record["modes"], strict=True) if mode == "t"],
        )
        for record in records
    }


async def test_the_documented_calls_run(connection: asyncpg.Connection) -> None:
    statements = blocks(DOCUMENT, "sql")[0].strip().splitlines()
    called = {re.findall(r"get_\w+", statement)[0] for statement in statements}
    assert called == set(re.findall(r"^\| `(get_\w+)\(", DOCUMENT.read_text(), re.MULTILINE))
    for statement in statements:
        await connection.fetch(statement)
