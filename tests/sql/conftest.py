"""Gateways' databases in every schema variant, owned by a role that is no superuser."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count

import asyncpg
import pytest

from chat_stats.service.catalogue.aggregations import Query
from chat_stats.service.compute.computed import Computed
from chat_stats.service.compute.ladder import compute
from chat_stats.service.database.pool import Database
from chat_stats.service.settings import Settings
from chat_stats.worker.local_servers import PostgresServer
from tests.conftest import run_migrations
from tests.sql import sample
from tests.sql.catalogue import foreign_objects
from tests.sql.schemas import PLAIN, Variant

SHARED = "gateways"
PASSWORD = "not-a-secret"

_numbers = count(1)


@dataclass(frozen=True)
class Gateway:
    """A gateway's database; `url` is that of the role that owns its tables."""

    variant: Variant
    url: str
    #: The same database as superuser.
    admin_url: str


@dataclass(frozen=True)
class Role:
    name: str
    url: str


BuildGateway = Callable[..., Awaitable[Gateway]]
Ask = Callable[..., Awaitable[Computed]]


@dataclass(frozen=True)
class MigratedGateway(Gateway):
    """One that was migrated twice, and what it held of its own before and after each."""

    before: list[str]
    after_first: list[str]
    after_second: list[str]
    warnings: list[str]


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def build(postgres: PostgresServer, variant: Variant, *, empty: bool = False) -> Gateway:
    """Create an owner and the tables of `variant` with the sample in them; none if `empty`."""
    owner = f"gateway_{next(_numbers)}"
    database, schema = (SHARED, owner) if variant.schema is None else (owner, variant.schema)
    async with connect(postgres.url()) as admin:
        await admin.execute(f"CREATE ROLE {owner} LOGIN NOSUPERUSER PASSWORD '{PASSWORD}'")
        # Making a database takes longer than all the rest: most gateways share one.
        if not await admin.fetchval("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", database):
            await admin.execute(f"CREATE DATABASE {database} OWNER {owner}")
    gateway = Gateway(
        variant,
        f"postgresql://{owner}:{PASSWORD}@127.0.0.1:{postgres.port}/{database}",
        f"{postgres.url(database)}?search_path={owner}",
    )
    async with connect(gateway.admin_url) as admin:
        await admin.execute(
            f'CREATE SCHEMA IF NOT EXISTS "{schema}" AUTHORIZATION {owner};'
            f'ALTER ROLE {owner} IN DATABASE {database} SET search_path = "{schema}"'
        )
    async with connect(gateway.url) as connection:
        if not empty:
            statements = [*variant.ddl(), sample.inserts(variant), *variant.after]
            await connection.execute(";\n".join(statements))
        if variant.search_path is not None:
            await connection.execute(
                f"ALTER ROLE {owner} IN DATABASE {database} SET search_path = {variant.search_path}"
            )
    return gateway


@pytest.fixture
def build_gateway(postgres: PostgresServer) -> BuildGateway:
    """Builds gateways' databases that are not migrated yet."""
    return partial(build, postgres)


@pytest.fixture
async def gateway(build_gateway: BuildGateway) -> Gateway:
    """A plain gateway's database, not migrated yet."""
    return await build_gateway(PLAIN)


@pytest.fixture
async def owner(gateway: Gateway) -> AsyncIterator[asyncpg.Connection]:
    """A connection of the owner of the plain gateway's tables."""
    async with connect(gateway.url) as connection:
        yield connection


@pytest.fixture
async def live(gateway: Gateway) -> Gateway:
    """The plain gateway, migrated; for tests that change it."""
    await run_migrations(gateway.url)
    return gateway


@pytest.fixture(scope="session")
def migrated_gateways() -> dict[tuple[int, Variant], MigratedGateway]:
    """Migrated gateways by the port of their server, for tests that only read."""
    return {}


@pytest.fixture
async def migrated(
    postgres: PostgresServer,
    migrated_gateways: dict[tuple[int, Variant], MigratedGateway],
    variant: Variant,
) -> MigratedGateway:
    """The migrated gateway of the test's parameter `variant`; only for reading."""
    key = postgres.port, variant
    if key not in migrated_gateways:
        gateway = await build(postgres, variant)
        async with connect(gateway.url) as connection:
            before = await foreign_objects(connection)
            warnings = await run_migrations(gateway.url)
            after_first = await foreign_objects(connection)
            warnings += await run_migrations(gateway.url)
            after_second = await foreign_objects(connection)
        migrated_gateways[key] = MigratedGateway(
            variant, gateway.url, gateway.admin_url, before, after_first, after_second, warnings
        )
    return migrated_gateways[key]


@pytest.fixture
async def reader(migrated: MigratedGateway) -> AsyncIterator[asyncpg.Connection]:
    """A connection to `migrated`."""
    async with connect(migrated.url) as connection:
        yield connection


@pytest.fixture
async def database_of() -> AsyncIterator[Callable[[str], Awaitable[Database]]]:
    """Opens the service's own pool on a URL."""
    opened: list[Database] = []

    async def open_one(url: str) -> Database:
        database = Database(Settings(database_url=url, _env_file=None), application_name="tests")
        await database.open()
        opened.append(database)
        return database

    yield open_one
    for database in opened:
        await database.close()


@pytest.fixture
def ask(live: Gateway, database_of: Callable[[str], Awaitable[Database]]) -> Ask:
    """Computes a query by the ladder as the owner of `live`, or as the role of another URL."""

    async def compute_one(query: Query, *, url: str = live.url, timeout: float = 20) -> Computed:
        database = await database_of(url)
        async with database.snapshot(wait_seconds=5) as snapshot:
            return await compute(snapshot, query, timeout=timeout)

    return compute_one


@pytest.fixture
async def reading_role(live: Gateway, owner: asyncpg.Connection) -> Role:
    """A role that may use the schema of `live`, and read nothing in it yet."""
    schema = await owner.fetchval("SELECT current_schema()")
    async with connect(live.admin_url) as admin:
        await admin.execute(
            f"CREATE ROLE {schema}_reader LOGIN PASSWORD '{PASSWORD}';"
            f"GRANT USAGE ON SCHEMA {schema} TO {schema}_reader;"
            f"ALTER ROLE {schema}_reader SET search_path = {schema}"
        )
    return Role(f"{schema}_reader", live.url.replace(f"//{schema}:", f"//{schema}_reader:"))
