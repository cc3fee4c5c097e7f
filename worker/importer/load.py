"""Loads a request log, as CSV or JSON lines, into the gateway's tables: `chat-stats import FILE`.

The file is read twice: first to check every line without touching a table, then to load it with COPY in one
transaction. So a file with bad lines costs the database nothing, and a later failure (a full disk, a
constraint, a lost connection) leaves nothing behind. At most one batch is in memory.

Importing a file again loads its requests again: a log cannot tell a repetition from two equal requests.
"""

import asyncio
import re
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import asyncpg

from chat_stats.service.database.errors import ERRORS, OUTAGES, loading_error
from chat_stats.service.database.names import Names, begin
from chat_stats.service.database.pool import LOCK_CLASS, connect
from chat_stats.service.errors import ChatStatsError, DatabaseBusy, DatabaseUnavailable, SchemaError
from chat_stats.service.settings import Settings
from chat_stats.worker.importer.fields import FIELDS, Column
from chat_stats.worker.importer.json_lines import open_log
from chat_stats.worker.importer.records import REQUESTS, ImportOptions, Request, Requests, new_id
from chat_stats.worker.importer.rows import DESCRIBED_BAD_LINES, BadLine, BadLines, LogFile

__all__ = ["FIELDS", "BadLine", "BadLines", "ImportOptions", "ImportResult", "import_log"]

#: Called with the bytes read and their total; each of the two passes counts the whole file.
Progress = Callable[[int, int], None]

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Table = Mapping[str, Column]

#: Requests of one COPY. Errors, lost connections and Ctrl-C take effect between two of them.
BATCH = 20_000

#: Key of the lock that lets one import run at a time; two at once would create the same model twice.
LOCK = (LOCK_CLASS, zlib.crc32(b"import") & 0x7FFFFFFF)

_NEEDED = {
    "providers": ("id", "name", "slug"),
    "models": ("id", "provider_id", "model_name", "provider_model_id"),
    REQUESTS: (
        *("model_id", "input_tokens", "output_tokens", "processing_time_ms"),
        *("status", "created_at"),
    ),
}

_COLUMNS = """
SELECT a.attname, t.typname, format_type(a.atttypid, a.atttypmod) AS declared, t.typtype = 'e' AS is_enum,
       a.attnotnull, a.atthasdef OR a.attidentity <> '' AS has_default,
       pg_get_expr(e.adbin, e.adrelid) AS default_expression
FROM pg_attribute AS a
LEFT JOIN pg_attrdef AS e ON e.adrelid = a.attrelid AND e.adnum = a.attnum
JOIN pg_type AS d ON d.oid = a.atttypid
JOIN pg_type AS t ON t.oid = COALESCE(NULLIF(d.typbasetype, 0), d.oid)  -- of a domain, its base type
WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped
"""

# A load may take any time, but waits at most 10 s for a lock.
_SETTINGS = {
    "statement_timeout": "0",
    "transaction_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "lock_timeout": "10000",
}


@dataclass
class ImportResult:
    """What an import did. `columns` maps each field to the file's column it was read from."""

    loaded: int = 0
    skipped: int = 0
    bad_lines: list[BadLine] = field(default_factory=list)
    input_tokens: int = 0
    output_tokens: int = 0
    columns: dict[str, str] = field(default_factory=dict)
    ignored_columns: list[str] = field(default_factory=list)
    new_providers: list[str] = field(default_factory=list)
    new_models: list[str] = field(default_factory=list)


async def import_log(
    settings: Settings, path: Path, options: ImportOptions, *, progress: Progress = lambda _done, _total: None
) -> ImportResult:
    """Load the file's requests; create providers and models that do not exist yet.

    Raises `BadLines` (unless `options.skip_bad`), `InvalidParameter` with the wrong option or file,
    `SchemaError` when a table cannot take the requests, and `Unavailable`. Then nothing was loaded.
    """
    file = open_log(path, encoding=options.encoding, delimiter=options.delimiter, columns=options.columns)
    async with _connection(settings) as connection, connection.transaction():
        names = (await begin(connection)).names
        tables = {name: await _columns(connection, names, name) for name in _NEEDED}
    requests = Requests(file, options, tables[REQUESTS], settings.statuses)
    result = ImportResult(
        columns=requests.fields,
        ignored_columns=[name for name in file.header if name not in requests.fields.values()],
    )
    expected, wanted = await _check(file, requests, options, result, progress)
    if expected == 0:
        progress(2 * file.size, 2 * file.size)
        return result
    async with _connection(settings) as connection, _transaction(connection) as names:
        model_ids = await _model_ids(connection, names, wanted, tables, result)
        await _copy(connection, names, file, requests, model_ids, result, progress)
        if result.loaded != expected or file.has_changed():
            raise _changed(file)
    progress(2 * file.size, 2 * file.size)
    return result


async def _check(
    file: LogFile, requests: Requests, options: ImportOptions, result: ImportResult, progress: Progress
) -> tuple[int, dict[tuple[str, str], None]]:
    """Read the whole file; return the number of good requests, and their (provider, model) names."""
    good = 0
    names: dict[tuple[str, str], None] = {}
    for number, request in enumerate(requests):
        if isinstance(request, BadLine):
            result.skipped += 1
            if result.skipped <= DESCRIBED_BAD_LINES:
                result.bad_lines.append(request)
        else:
            good += 1
            names[request[1]] = None
        if number % BATCH == 0:
            progress(file.position, 2 * file.size)
            await asyncio.sleep(0)  # so that Ctrl-C works
    if result.skipped and not options.skip_bad:
        raise BadLines(result.bad_lines, result.skipped)
    return good, names


async def _model_ids(
    connection: Connection,
    names: Names,
    wanted: Mapping[tuple[str, str], None],
    tables: Mapping[str, Table],
    result: ImportResult,
) -> dict[tuple[str, str], object]:
    """Return the id of each model by (provider's name, model's name); create missing ones."""
    providers: dict[str, object] = {}
    models: dict[tuple[object, str], object] = {}
    ids: dict[tuple[str, str], object] = {}
    for provider, model in wanted:
        slug = slug_of(provider)
        if slug not in providers:
            found = await connection.fetchval(
                names.fill(
                    "SELECT id FROM gateway_schema.providers "
                    "WHERE slug IN ($1, $2) ORDER BY slug = $1 DESC, id LIMIT 1"
                ),
                provider,
                slug,
            )
            if found is None:
                row: dict[str, object] = {"name": provider, "slug": slug}
                found = await _insert(connection, names, "providers", tables["providers"], row)
                result.new_providers.append(provider)
            providers[slug] = found
        key = (providers[slug], model)
        if key not in models:
            found = await connection.fetchval(
                names.fill(
                    "SELECT id FROM gateway_schema.models "
                    "WHERE provider_id = $1 AND (provider_model_id = $2 OR model_name = $2) "
                    "ORDER BY provider_model_id = $2 DESC NULLS LAST, id LIMIT 1"
                ),
                *key,
            )
            if found is None:
                row = {"provider_id": key[0], "model_name": model, "provider_model_id": model}
                if (column := tables["models"].get("model_id")) is not None and column.is_text:
                    row["model_id"] = model
                found = await _insert(connection, names, "models", tables["models"], row)
                result.new_models.append(model)
            models[key] = found
        ids[provider, model] = models[key]
    return ids


def slug_of(name: str) -> str:
    return re.sub(r"[\W_]+", "-", name.casefold()).strip("-")


async def _insert(
    connection: Connection, names: Names, table: str, columns: Table, row: dict[str, object]
) -> object:
    if not columns["id"].has_default:
        row = {"id": new_id(columns["id"])(), **row}
    places = ", ".join(f"${number}" for number in range(1, len(row) + 1))
    statement = f"INSERT INTO gateway_schema.{table} ({', '.join(row)}) VALUES ({places}) RETURNING id"  # noqa: S608
    return await connection.fetchval(names.fill(statement), *row.values())


async def _copy(
    connection: Connection,
    names: Names,
    file: LogFile,
    requests: Requests,
    model_ids: Mapping[tuple[str, str], object],
    result: ImportResult,
    progress: Progress,
) -> None:
    good = (request for request in requests if not isinstance(request, BadLine))
    while batch := list(islice(good, BATCH)):
        if any(model not in model_ids for _line, model, _values in batch):
            raise _changed(file)
        try:
            await connection.copy_records_to_table(
                REQUESTS,
                schema_name=names.gateway[REQUESTS],
                columns=["model_id", *requests.columns],
                records=[(model_ids[model], *values) for _line, model, values in batch],
            )
        except asyncpg.PostgresError as error:
            if (bad := _refused(error, batch)) is not None:
                raise BadLines([bad], 1) from error
            raise
        result.loaded += len(batch)
        for _line, _model, values in batch:
            given, answered = requests.tokens(values)
            result.input_tokens += given
            result.output_tokens += answered
        progress(file.size + file.position, 2 * file.size)


def _changed(file: LogFile) -> ChatStatsError:
    return ChatStatsError(f"{file.path} changed while it was imported; nothing was loaded")


def _refused(error: asyncpg.PostgresError, batch: list[Request]) -> BadLine | None:
    """Return the line that the database refuses, if the error names one."""
    # The wording of this context depends on the server's language; the table's name and the number do not.
    place = re.search(rf"^COPY {REQUESTS}\D*(\d+)", getattr(error, "context", None) or "", re.MULTILINE)
    if place is None or isinstance(error, asyncpg.NotNullViolationError):
        return None
    line = batch[int(place.group(1)) - 1][0]
    return BadLine(line, f"the database refuses it: {error}")


async def _columns(connection: Connection, names: Names, table: str) -> Table:
    records = await connection.fetch(_COLUMNS, names.fill(f"gateway_schema.{table}"))
    columns = {name: Column(table, name, *rest) for name, *rest in records}
    if not columns:
        raise SchemaError(f"the database lacks the table {table}; run: chat-stats migrate")
    if missing := [name for name in _NEEDED[table] if name not in columns]:
        raise SchemaError(f"the table {table} lacks the column(s) {', '.join(missing)}")
    return columns


@asynccontextmanager
async def _connection(settings: Settings) -> AsyncIterator[Connection]:
    """Connect, and translate errors of the database into ours."""
    connection = await connect(settings, application_name="chat-stats import")
    try:
        yield connection
    except ERRORS as error:
        raise loading_error(error, "the import") from error
    finally:
        with suppress(OSError, asyncpg.InterfaceError):
            await connection.close(timeout=settings.connect_timeout_seconds)


@asynccontextmanager
async def _transaction(connection: Connection) -> AsyncIterator[Names]:
    """Commit, or roll back after an error. A lock allows one import at a time."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        names = (await begin(connection, _SETTINGS)).names
        if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1, $2)", *LOCK):
            raise DatabaseBusy("another import into this database is under way")
        yield names
    except BaseException:
        with suppress(*ERRORS):
            await transaction.rollback()
        raise
    try:
        await transaction.commit()
    except OUTAGES as error:
        raise DatabaseUnavailable(
            "the connection was lost during the commit: check whether the requests are there before you retry"
        ) from error
