"""Objects that a role with CREATE on a schema plants there, to run with the rights of others.

Each fits some call better than what pg_catalog has: an operator or a function for exactly the types of the
call, where pg_catalog has one for others or for any. When it runs, it writes to the server's log, which no
rollback undoes and which works in read-only transactions.
"""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from chat_stats.service.database.rendering import RENDERED, SQL, declared
from chat_stats.worker.local_servers import PostgresServer

TYPES = (
    *("int2", "int4", "int8", "numeric", "float8", "text", "varchar", "name", '"char"', "bool"),
    *("date", "timestamptz", "timestamp", "interval", "uuid", "oid", "regclass", "regtype", "jsonb"),
    *("int2[]", "int8[]", "numeric[]", "text[]", "name[]", "oid[]"),
)

_COMPARISONS = ("=", "<>", "<", "<=", ">", ">=", "~~", "!~~", "~", "@>", "<@", "&&")
_ARITHMETIC = ("+", "-", "*", "/", "%", "||", "->>")

#: Types with names of pg_catalog's.
_TYPES = "; ".join(
    f"CREATE DOMAIN {{schema}}.{name} AS int4 CHECK (false)"
    for name in ("int2", "int8", "numeric", "text", "name", "timestamptz", "date", "regclass", "oid", "jsonb")
)

#: Casts of a type that the role owns. Implicit ones would make comparisons of its values ambiguous for all.
_CASTS = """
CREATE FUNCTION {schema}.from_owned({schema}.{type}) RETURNS text LANGUAGE plpgsql IMMUTABLE AS
    $$BEGIN RAISE LOG '{mark}: cast to text'; RETURN NULL; END$$;
CREATE FUNCTION {schema}.to_owned(text) RETURNS {schema}.{type} LANGUAGE plpgsql IMMUTABLE AS
    $$BEGIN RAISE LOG '{mark}: cast from text'; RETURN NULL; END$$;
CREATE CAST ({schema}.{type} AS text) WITH FUNCTION {schema}.from_owned({schema}.{type}) AS ASSIGNMENT;
CREATE CAST (text AS {schema}.{type}) WITH FUNCTION {schema}.to_owned(text) AS ASSIGNMENT
"""


def called_names() -> list[str]:
    """Return the names that our SQL calls, and those of our own functions' registry."""
    texts = [
        RENDERED.read_text(),
        *declared().statements().values(),
        *(file.read_text() for file in (SQL.parent / "service").rglob("*.py")),
    ]
    return sorted({name for text in texts for name in re.findall(r"\b([a-z][a-z0-9_]+)\(", text)})


def _sql(name: str) -> str:
    return (Path(__file__).parent / f"planted_{name}.sql").read_text()


def _array(values: object) -> str:
    return "ARRAY[" + ", ".join(f"'{value}'" for value in values) + "]"  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Planter:
    """A role that may create objects in `schema`, and nothing else."""

    connection: asyncpg.Connection
    schema: str
    log: Path
    #: What its objects write to the log.
    mark: str

    async def operators(self) -> None:
        await self._run(_sql("operators"), types=TYPES, comparisons=_COMPARISONS, arithmetic=_ARITHMETIC)

    async def functions(self, names: list[str], *, of: str = "pg_catalog") -> None:
        await self._run(_sql("functions"), types=TYPES, names=names, of=of)

    async def types(self) -> None:
        await self._run(_TYPES)

    async def casts(self, type_: str) -> None:
        await self._run(_CASTS, type=type_)

    async def _run(self, statements: str, **values: object) -> None:
        filled = {name: value if isinstance(value, str) else _array(value) for name, value in values.items()}
        await self.connection.execute(statements.format(schema=self.schema, mark=self.mark, **filled))

    async def count(self) -> int:
        """Return how many routines and operators it has planted."""
        return int(
            await self.connection.fetchval(
                "SELECT (SELECT count(*) FROM pg_proc WHERE proowner = $1::regrole) "
                "+ (SELECT count(*) FROM pg_operator WHERE oprowner = $1::regrole)",
                self.mark,
            )
        )

    def ran(self) -> set[str]:
        """Return what the log says of objects that ran."""
        return set(re.findall(rf"\bLOG:  {self.mark}: (.*)", self.log.read_text(errors="replace")))


@asynccontextmanager
async def planter(postgres: PostgresServer, admin_url: str, schema: str) -> AsyncIterator[Planter]:
    """Make the role; it looks up names in pg_catalog alone, so that it does not meet its own objects."""
    role = f"{schema}_planter"
    admin = await asyncpg.connect(admin_url)
    await admin.execute(f"CREATE ROLE {role} LOGIN; GRANT USAGE, CREATE ON SCHEMA {schema} TO {role}")
    try:
        await admin.execute(f"SET SESSION AUTHORIZATION {role}; SET search_path = pg_catalog")
        yield Planter(admin, schema, postgres.folder / "postgres.log", role)
    finally:
        await admin.close()
