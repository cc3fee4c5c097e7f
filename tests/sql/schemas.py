"""The gateways' schemas that chat-stats is held to: each variant says how its three tables look.

Ids of the sample are small numbers; `Variant.id()` gives them the variant's type in an order that stays.
"""

from dataclasses import dataclass
from itertools import cycle, product
from uuid import UUID

from tests.cases import sampled

#: Beyond the range of int.
BIGINT_BASE = 5_000_000_000


@dataclass(frozen=True)
class Variant:
    name: str
    provider_ids: str = "bigint"
    model_ids: str = "bigint"
    #: Type of chat_completion_requests.model_id; that of models.id when None.
    model_references: str | None = None
    request_ids: str = "bigint"
    tokens: str = "bigint"
    times: str = "numeric"
    costs: str = "numeric"
    created_at: str = "timestamptz"
    status: str = "text"
    #: What a request without a time or cost holds: NULL, or a number that is none.
    no_time: str | None = None
    no_cost: str | None = None
    has_model_id: bool = True
    #: request_id, error_message, user_id and cost_usd of the requests.
    has_optional_columns: bool = True
    partitioned: bool = False
    #: Schema of the tables; None: one of the owner's name, in a database that gateways share.
    schema: str | None = None
    #: The role's search_path; that schema alone when None.
    search_path: str | None = None
    #: Statements that run after the tables are filled.
    after: tuple[str, ...] = ()
    #: More columns of each of the tables.
    columns: str = ""

    def __str__(self) -> str:
        return self.name

    @property
    def has_cost(self) -> bool:
        return self.has_optional_columns

    def id(self, table: str, number: int) -> int | str:
        """Return the id of a row of `table` as it stands in a JSON answer."""
        match {"providers": self.provider_ids, "models": self.model_ids}.get(table, self.request_ids):
            case "uuid":
                return str(UUID(int=number << 96 | 0xABC))
            case "bigint" if self.model_references != "int":
                return BIGINT_BASE + number
            case _:
                return number

    def ddl(self) -> list[str]:
        """Return the statements that make the tables in the first schema of the search_path."""
        identifier = "model_id text," if self.has_model_id else ""
        optional = (
            f"request_id text, error_message text, user_id uuid, cost_usd {self.costs},"
            if self.has_optional_columns
            else ""
        )
        # A key of a partitioned table would have to hold created_at, which may be NULL here.
        key, partition_by = (
            ("", "PARTITION BY RANGE (created_at)") if self.partitioned else ("PRIMARY KEY", "")
        )
        return [
            *((_STATUS_TYPE,) if self.status == "request_status" else ()),
            f"CREATE TABLE providers (id {self.provider_ids} PRIMARY KEY, {self.columns} name varchar(80), "
            "slug text)",
            f"CREATE TABLE models (id {self.model_ids} PRIMARY KEY, {self.columns} "
            f"provider_id {self.provider_ids}, {identifier} model_name text, "
            "provider_model_id varchar(200))",
            f"CREATE TABLE chat_completion_requests (id {self.request_ids} {key}, {self.columns} "
            f"model_id {self.model_references or self.model_ids}, input_tokens {self.tokens}, "
            f"output_tokens {self.tokens}, processing_time_ms {self.times}, status {self.status}, "
            f"{optional} created_at {self.created_at}) {partition_by}",
            *(_PARTITIONS if self.partitioned else ()),
        ]


_STATUS_TYPE = (
    "CREATE TYPE request_status AS ENUM "
    "('completed', 'success', 'OK', 'Succeeded', 'failed', 'error', 'pending')"
)

_PARTITIONS = (
    "CREATE TABLE requests_2026_02 PARTITION OF chat_completion_requests "
    "FOR VALUES FROM ('2026-02-01') TO ('2026-03-01')",
    "CREATE TABLE requests_2026_03 PARTITION OF chat_completion_requests "
    "FOR VALUES FROM ('2026-03-01') TO ('2026-04-01')",
    "CREATE TABLE requests_others PARTITION OF chat_completion_requests DEFAULT",
    "CREATE INDEX ON chat_completion_requests (id)",
)

_STATUSES = cycle(["text", "varchar(20)", "request_status"])
_MOMENTS = cycle(["timestamptz", "timestamp"])

#: Every combination of what the contract lists; statuses and kinds of timestamp take turns.
PRODUCT = [
    Variant(
        f"{ids} ids, {tokens} tokens, {times} times, {'with' if has_model_id else 'no'} models.model_id",
        provider_ids=ids,
        model_ids=ids,
        request_ids=ids,
        tokens=tokens,
        times=times,
        has_model_id=has_model_id,
        status=next(_STATUSES),
        created_at=next(_MOMENTS),
    )
    for ids, tokens, times, has_model_id in product(
        ("uuid", "int", "bigint"), ("int", "bigint"), ("int", "numeric"), (True, False)
    )
]

_NEIGHBOURS = (
    "CREATE TABLE invoices (id int PRIMARY KEY, created_at timestamptz, model_id int)",
    "CREATE INDEX invoices_created_at_idx ON invoices (created_at)",
    "CREATE VIEW recent_requests AS SELECT * FROM chat_completion_requests WHERE created_at > '2026-03-01'",
    "CREATE MATERIALIZED VIEW requests_of_models AS "
    "SELECT model_id, count(*) FROM chat_completion_requests GROUP BY 1",
    "CREATE INDEX requests_by_status ON chat_completion_requests (status) WHERE status <> 'completed'",
    "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
    "CREATE TRIGGER touched BEFORE INSERT ON chat_completion_requests FOR EACH ROW EXECUTE FUNCTION touch()",
    "CREATE FUNCTION get_model_request_total(p_model_id int) RETURNS bigint LANGUAGE sql AS "
    "'SELECT 1::bigint'",
    "ALTER TABLE chat_completion_requests ADD FOREIGN KEY (model_id) REFERENCES models NOT VALID",
    "ALTER TABLE models ADD FOREIGN KEY (provider_id) REFERENCES providers ON DELETE CASCADE NOT VALID",
    "COMMENT ON COLUMN models.model_name IS 'shown to people'",
    "GRANT SELECT ON models TO PUBLIC",
)

SPECIAL = [
    Variant(
        "every optional column missing",
        has_model_id=False,
        has_optional_columns=False,
    ),
    Variant("only the optional columns of the requests missing", has_optional_columns=False),
    Variant("NaN for no time and no cost", no_time="NaN", no_cost="NaN"),
    Variant("times and costs beyond reason", no_time="1e30", no_cost="-1e30"),
    Variant(
        "infinite times and costs, double precision",
        times="double precision",
        costs="double precision",
        no_time="Infinity",
        no_cost="-Infinity",
    ),
    Variant("another type for every id", provider_ids="int", model_ids="uuid", request_ids="bigint"),
    Variant("int references to bigint models", model_references="int"),
    Variant("the schema public", schema="public"),
    Variant("a schema with a capital and a space", schema="My Gateway"),
    Variant(
        "functions in a schema of their own",
        schema="public",
        search_path="stats, public",
        after=("CREATE SCHEMA stats",),
    ),
    Variant(
        "tables in two schemas, decoys of the same names behind them",
        schema="gateway",
        search_path="stats, gateway, archive",
        after=(
            "CREATE SCHEMA stats",
            "CREATE SCHEMA archive",
            "CREATE TABLE archive.providers (id text, name text, slug text)",
            "CREATE TABLE archive.models (id text)",
            "ALTER TABLE chat_completion_requests SET SCHEMA archive",
        ),
    ),
    Variant("partitioned requests", partitioned=True),
    Variant(
        "partitioned requests, uuid ids, no models.model_id",
        provider_ids="uuid",
        model_ids="uuid",
        request_ids="uuid",
        partitioned=True,
        has_model_id=False,
        status="request_status",
    ),
    Variant(
        "unrelated columns, tables, views, functions and triggers",
        columns="region text, usage int, total_requests int DEFAULT 7, deleted_at timestamptz,",
        after=_NEIGHBOURS,
    ),
]

VARIANTS = [*sampled({variant.name: variant for variant in PRODUCT}), *SPECIAL]

PLAIN = Variant("plain")
