"""Objects that a role with CREATE on a schema plants there, to run with the rights of others.

Each fits some call better than what pg_catalog has: an operator or a function for exactly the types of the call, where
pg_catalog has one for others or for any. Each tells in the server's log when it runs, which no rollback undoes and
which works in transactions that are read-only.
"""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from service.migrations import SQL
from worker.local_servers import PostgresServer

ROOT = SQL.parent

TYPES = (
    *("int2", "int4", "int8", "numeric", "float8", "text", "varchar", "name", '"char"', "bool"),
    *("date", "timestamptz", "timestamp", "interval", "uuid", "oid", "regclass", "regtype", "jsonb"),
    *("int2[]", "int8[]", "numeric[]", "text[]", "name[]", "oid[]"),
)

_COMPARISONS = ("=", "<>", "<", "<=", ">", ">=", "~~", "!~~", "~", "@>", "<@", "&&")
_ARITHMETIC = ("+", "-", "*", "/", "%", "||", "->>")

#: Operators for each pair of types: {schema}, {types}, {comparisons} and {arithmetic} are put in.
_OPERATORS = """
DO $plant$
DECLARE
    left_type regtype; right_type regtype; operator text; kind text;
BEGIN
    FOR left_type, right_type IN
        SELECT l::regtype, r::regtype FROM unnest({types}) AS l CROSS JOIN unnest({types}) AS r
    LOOP
        FOREACH kind IN ARRAY ARRAY['bool', left_type::text] LOOP
            EXECUTE format(
                $f$CREATE OR REPLACE FUNCTION {schema}.%I(%s, %s) RETURNS %s LANGUAGE plpgsql IMMUTABLE AS
                $b$BEGIN RAISE LOG USING MESSAGE = %L; RETURN NULL; END$b$$f$,
                'operator_' || kind, left_type, right_type, kind,
                format('{mark}: operator of %s and %s', left_type, right_type)
            );
        END LOOP;
        FOREACH operator IN ARRAY {comparisons} || {arithmetic} LOOP
            CONTINUE WHEN EXISTS (
                SELECT FROM pg_operator AS o
                WHERE o.oprname = operator AND o.oprleft = left_type AND o.oprright = right_type
                  AND o.oprnamespace IN ('pg_catalog'::regnamespace, '{schema}'::regnamespace)
            );
            EXECUTE format(
                'CREATE OPERATOR {schema}.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = {schema}.%I)',
                operator, left_type, right_type,
                'operator_' || CASE WHEN operator = ANY ({comparisons}) THEN 'bool' ELSE left_type::text END
            );
        END LOOP;
    END LOOP;
END
$plant$
"""

#: Overloads of the functions {names} of the schema {of}: with each type in place of one argument, or of all that may
#: have any type; and with fewer or more arguments than they have.
_FUNCTIONS = """
DO $plant$
DECLARE
    found record; type regtype; place int; arguments text[]; called text; result text; made record;
BEGIN
    CREATE TEMPORARY TABLE wanted (name name, aggregate bool, setof bool, arguments text[], result text);
    FOR found IN
        SELECT
            p.proname AS name, p.prokind = 'a' AS aggregate, p.proretset AS setof, p.prorettype::regtype::text AS result,
            p.pronargdefaults AS defaults, p.provariadic <> 0 AS variadic,
            ARRAY(SELECT t::regtype::text FROM unnest(p.proargtypes) AS t) AS arguments
        FROM pg_proc AS p
        WHERE p.pronamespace = '{of}'::regnamespace AND p.proname = ANY ({names}) AND p.prokind <> 'p'
          AND p.prorettype NOT IN ('cstring'::regtype, 'internal'::regtype, 'trigger'::regtype)
          AND NOT p.proargtypes::oid[] && ARRAY['internal', 'cstring']::regtype[]::oid[]
    LOOP
        IF found.variadic THEN
            found.arguments := array_remove(found.arguments, found.arguments[cardinality(found.arguments)]);
        END IF;
        FOREACH type IN ARRAY {types}::regtype[] LOOP
            arguments := ARRAY(
                SELECT CASE WHEN a IN ('anyarray', 'anycompatiblearray') THEN format_type(type, NULL) || '[]'
                            WHEN a ~ '^"?any' THEN format_type(type, NULL) ELSE a END
                FROM unnest(found.arguments) WITH ORDINALITY AS t (a, n) ORDER BY n
            );
            result := CASE WHEN found.result IN ('anyarray', 'anycompatiblearray') THEN format_type(type, NULL) || '[]'
                           WHEN found.result ~ '^any' THEN format_type(type, NULL) ELSE found.result END;
            INSERT INTO wanted VALUES (found.name, found.aggregate, found.setof, arguments, result);
            FOR place IN 1 .. cardinality(arguments) LOOP
                arguments[place] := format_type(type, NULL);
                INSERT INTO wanted VALUES (found.name, found.aggregate, found.setof, arguments, result);
                arguments[place] := found.arguments[place];
            END LOOP;
            IF found.variadic THEN
                FOR place IN 1 .. 3 LOOP
                    arguments := arguments || format_type(type, NULL);
                    INSERT INTO wanted VALUES (found.name, found.aggregate, found.setof, arguments, result);
                    INSERT INTO wanted
                    VALUES (found.name, found.aggregate, found.setof, ARRAY['text']::text[] || arguments, result);
                END LOOP;
            END IF;
        END LOOP;
        FOR place IN cardinality(found.arguments) - found.defaults .. cardinality(found.arguments) - 1 LOOP
            INSERT INTO wanted VALUES (found.name, false, found.setof, found.arguments[1:place], found.result);
        END LOOP;
    END LOOP;
    FOR made IN SELECT DISTINCT * FROM wanted AS w WHERE NOT array_to_string(w.arguments, ' ') ~ 'any|\\[\\]\\[\\]' LOOP
        called := made.name || '(' || array_to_string(made.arguments, ', ') || ')';
        CONTINUE WHEN to_regprocedure('pg_catalog.' || called) IS NOT NULL
            OR to_regprocedure('{schema}.' || called) IS NOT NULL OR cardinality(made.arguments) = 0
               AND made.aggregate;
        BEGIN
            EXECUTE format(
                $f$CREATE FUNCTION {schema}.%I(%s) RETURNS %s LANGUAGE plpgsql IMMUTABLE AS
                $b$BEGIN RAISE LOG USING MESSAGE = %L; RETURN%s; END$b$$f$,
                CASE WHEN made.aggregate THEN 'step_' || made.name ELSE made.name END,
                array_to_string(CASE WHEN made.aggregate THEN ARRAY['numeric'] ELSE '{{}}' END || made.arguments, ', '),
                CASE WHEN made.aggregate THEN 'numeric' WHEN made.setof THEN 'SETOF ' || made.result
                     ELSE made.result END,
                '{mark}: function ' || called, CASE WHEN made.setof AND NOT made.aggregate THEN '' ELSE ' NULL' END
            );
            IF made.aggregate THEN
                EXECUTE format(
                    'CREATE AGGREGATE {schema}.%I(%s) (SFUNC = {schema}.%I, STYPE = numeric)',
                    made.name, array_to_string(made.arguments, ', '), 'step_' || made.name
                );
            END IF;
        EXCEPTION WHEN OTHERS THEN
            RAISE DEBUG 'not planted: %, %', called, SQLERRM;  -- not each combination of types makes sense
        END;
    END LOOP;
    DROP TABLE wanted;
END
$plant$
"""

#: Types with names of pg_catalog's.
_TYPES = "; ".join(
    f"CREATE DOMAIN {{schema}}.{name} AS int4 CHECK (false)"
    for name in ("int2", "int8", "numeric", "text", "name", "timestamptz", "date", "regclass", "oid", "jsonb")
)

#: Casts of a type that the role owns. (Implicit ones would make each comparison of two such values ambiguous.)
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
    files = [
        *(ROOT / "sql").rglob("*.sql"),
        *(ROOT / "service").rglob("*.sql"),
        *(ROOT / "service").rglob("*.py"),
    ]
    return sorted({name for file in files for name in re.findall(r"\b([a-z][a-z0-9_]+)\(", file.read_text())})


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
        await self._run(_OPERATORS, types=TYPES, comparisons=_COMPARISONS, arithmetic=_ARITHMETIC)

    async def functions(self, names: list[str], *, of: str = "pg_catalog") -> None:
        await self._run(_FUNCTIONS, types=TYPES, names=names, of=of)

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
