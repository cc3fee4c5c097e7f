{% import 'macros/requests.sql.j2' as requests %}
{% import 'macros/rollups.sql.j2' as kept %}
{# What one request `r` adds, or takes away. #}
{% macro change(sign) -%}
{% for m in measures %}
{% if m.by_status %}
CASE WHEN stats_schema.chat_stats_is_{{ m.kind }}(r.status) THEN {{ sign }}1::bigint ELSE 0::bigint END
{%- elif m.kind == 'sum' %}
COALESCE({{ sign }}r.{{ m.column.called }}, 0::numeric)
{%- elif m.kind == 'count' %}
CASE WHEN r.{{ m.column.called }} IS NULL THEN 0::bigint ELSE {{ sign }}1::bigint END
{%- else %}
{{ sign }}1::bigint
{%- endif %}
{{ ',\n' if not loop.last -}}
{% endfor %}
{%- endmacro %}
{% macro changes(rows, sign) -%}
SELECT
    {{ kept.all_dims('r.', further=false) }}stats_schema.chat_stats_bucket(r.created_at), stats_schema.chat_stats_bin(r.time_ms),
    {{ change(sign) | indent(4) }},
    CASE WHEN r.time_ms IS NULL THEN 0::bigint ELSE {{ sign }}1::bigint END
FROM {{ requests.absent() }}
CROSS JOIN LATERAL (
    SELECT
        {{ kept.read_dims(strict=true, further=false) | indent(8) }}COALESCE(created_at, NULL::timestamptz) AS created_at, concat(status) AS status,
        {{ requests.checked_numbers() | indent(8) }}
    FROM {{ rows }}
) AS r
{%- endmacro %}
{% set columns = (built_in_dimensions | list) + ['bucket', 'bin'] + (measures | map(attribute='name') | list) + ['n'] %}
{% set columns_of_deltas = columns | join(', ') %}
{# The shard of the deltas that is beside that of a model. #}
{% macro shard(model) -%}
get_shard_id_for_distribution_column('stats_schema.chat_stats_shard_deltas'::regclass, {{ model }})
{%- endmacro %}
{# What the first of the rows adds, or takes away, and how many there are. #}
{% macro first_of(rows, sign, into) -%}
SELECT u.*, (SELECT count(*) FROM {{ rows }}) AS rows
INTO {{ into }}
FROM (
    {{ changes(rows, sign) | indent(4) }}
) AS u ({{ columns_of_deltas }})
{%- endmacro %}
{# Appends records to `shard`. #}
{% macro append(records) -%}
EXECUTE 'INSERT INTO stats_schema.chat_stats_shard_deltas_' || shard || ' ({{ columns_of_deltas }}) VALUES '
    '{% for record in records %}{% set first = loop.index0 * columns | length %}({% for name in columns %}${{ first + loop.index }}{{ ', ' if not loop.last }}{% endfor %}){{ ', ' if not loop.last }}{% endfor %}'
USING {% for record in records %}{% for name in columns %}{{ record }}.{{ name }}{{ ', ' if not loop.last }}{% endfor %}{{ ', ' if not loop.last }}{% endfor %}
{%- endmacro %}
{# The changes of transition tables, each with its sign, as an array of each column; NULL where nothing changes. #}
{% macro summed_up(of) -%}
SELECT {% for name in columns %}array_agg(s.{{ name }}) AS {{ name }}{{ ', ' if not loop.last }}{% endfor %}

INTO changed
FROM (
    SELECT {{ kept.all_dims(further=false) }}bucket, bin, {{ each('sum({name}){cast} AS {name}') }}, sum(n)::bigint AS n
    FROM (
{% for rows, sign in of %}
        {{ changes(rows, sign) | indent(8) }}
{{ '        UNION ALL\n' if not loop.last -}}
{% endfor %}
    ) AS u ({{ columns_of_deltas }})
    GROUP BY {{ kept.all_dims(further=false) }}bucket, bin
    HAVING {{ kept.changed('u') }} OR sum(n) <> 0
) AS s
{%- endmacro %}
-- As chat_stats_record_changes(), on Citus: there a statement of a writer fires the triggers of the shards that it
-- changes, on their nodes. Each appends to the shard of chat_stats_shard_deltas that is beside its own, by its name: a
-- node sends no query on from within one. TRUNCATE alone fires on the table itself, where the statement was given.
--
-- A statement that names the shard is planned once only where the function has it as it is, so for INSERTs it has one for
-- each shard that there is when it is installed, in groups: each name that is compared costs memory. Others are parsed and
-- planned each time: those of UPDATE and DELETE, of shards that were split since, and of all where there are more than 64,
-- since each session of a node compiles the function for each shard. So they are as simple as can be, above all where a
-- statement changes one request, as nearly all of a gateway do.
--
-- It must never fail: what cannot be counted leaves a row with the reason, and from then on the functions scan. So is what
-- a session changes in a shard of its own node: there, the savepoint of a block with a handler would have to be set on
-- other nodes, too, amid what they are sent.
SELECT chat_stats_install('chat_stats_record_shard_changes', $install$
DO $compose$
DECLARE
    shards bigint[];
BEGIN
    IF to_regclass('pg_catalog.pg_dist_shard') IS NOT NULL THEN  -- (planned only where there is Citus)
        shards := ARRAY(
            SELECT s.shardid FROM pg_dist_shard AS s
            WHERE s.logicalrelid = to_regclass('stats_schema.chat_stats_shard_deltas') ORDER BY s.shardid
        );
    END IF;
    EXECUTE replace($definition$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_record_shard_changes()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER  -- writers of requests need no rights on our tables
AS $function$
DECLARE
    -- (No variable has the type of a column: without the table, the function would not compile, and the write fail.)
    inserted record;
    shard bigint;
    -- What one request takes away that is updated, and what it adds; and what many do, an array of each column.
    former record;
    one record;
    changed record;
    reason text;
    -- The shard to append to, with its schema; and whether the table itself is truncated.
    beside text;
    is_distributed boolean := false;
BEGIN
    IF NOT starts_with(current_setting('application_name'), 'citus_internal ') THEN
        reason := 'the session has a shard of chat_completion_requests on its own node';
    ELSIF TG_OP <> 'TRUNCATE' THEN
        BEGIN
            IF TG_OP = 'INSERT' THEN
                SELECT model_id INTO inserted FROM new_rows LIMIT 1;
                IF NOT FOUND THEN
                    RETURN NULL;
                END IF;
                shard := {{ shard('inserted.model_id') }};
                -- each shard
                {{ first_of('new_rows', '', 'one') | indent(16) }};
                IF one.rows = 1::bigint THEN
                    {{ append(['one']) | indent(20) }};
                    RETURN NULL;
                END IF;
                {{ summed_up([('new_rows', '')]) | indent(16) }};
            ELSIF TG_OP = 'DELETE' THEN
                {{ summed_up([('old_rows', '-')]) | indent(16) }};
            ELSE
                {{ first_of('new_rows', '', 'one') | indent(16) }};
                IF one.rows = 1::bigint THEN
                    {{ first_of('old_rows', '-', 'former') | indent(20) }};
                    IF former.bucket IS DISTINCT FROM one.bucket OR former.bin IS DISTINCT FROM one.bin
                       OR ({{ each('former.{name} + one.{name}') }}) <> ({% for m in measures %}0{{ ', ' if not loop.last }}{% endfor %}) THEN
                        shard := {{ shard('one.model_id') }};
                        {{ append(['former', 'one']) | indent(24) }};
                    END IF;
                    RETURN NULL;
                END IF;
                {{ summed_up([('old_rows', '-'), ('new_rows', '')]) | indent(16) }};
            END IF;
            IF changed.n IS NOT NULL THEN
                EXECUTE 'INSERT INTO stats_schema.chat_stats_shard_deltas_' || {{ shard('changed.model_id[1]') }} || ' ({{ columns_of_deltas }}) '
                    'SELECT * FROM unnest({% for name in columns %}${{ loop.index }}{{ ', ' if not loop.last }}{% endfor %})'
                USING {% for name in columns %}changed.{{ name }}{{ ', ' if not loop.last }}{% endfor %};
            END IF;
            RETURN NULL;
        EXCEPTION WHEN OTHERS THEN
            reason := SQLERRM;
        END;
    END IF;

    IF to_regclass('pg_catalog.pg_dist_shard') IS NOT NULL THEN
        beside := (
            SELECT c.relnamespace::regnamespace::text || '.chat_stats_shard_deltas_' || d.shardid
            FROM pg_dist_shard AS r
            JOIN pg_dist_shard AS d
                ON d.logicalrelid = to_regclass('stats_schema.chat_stats_shard_deltas')
                AND d.shardminvalue = r.shardminvalue
            JOIN pg_class AS c ON c.oid = d.logicalrelid
            WHERE r.shardid = substring(TG_TABLE_NAME FROM '_(\d{1,18})$')::bigint
        );
        is_distributed := beside IS NULL AND TG_OP = 'TRUNCATE' AND EXISTS (
            SELECT FROM pg_dist_partition AS p WHERE p.logicalrelid = TG_RELID
        );
    END IF;
    IF beside IS NULL AND NOT is_distributed THEN
        -- A table that is not distributed any more: only the coordinator has this one.
        IF to_regclass('stats_schema.chat_stats_uncounted') IS NOT NULL THEN
            INSERT INTO stats_schema.chat_stats_uncounted (relation, reason)
            VALUES (TG_RELID, 'chat_completion_requests is not distributed any more');
        END IF;
        RETURN NULL;
    END IF;
    IF TG_OP = 'TRUNCATE' THEN
        reason := NULL;
        -- Shards that were moved have this trigger, too; and so have partitions, which have the rows.
        IF beside IS NOT NULL OR (SELECT c.relkind FROM pg_class AS c WHERE c.oid = TG_RELID) = 'p'::"char" THEN
            RETURN NULL;
        END IF;
        BEGIN
            IF current_setting('transaction_isolation') IN ('repeatable read', 'serializable') THEN
                RAISE EXCEPTION 'TRUNCATE in a % transaction takes requests that are younger than its snapshot',
                    upper(current_setting('transaction_isolation'));
            ELSIF row_security_active(TG_RELID) THEN
                RAISE EXCEPTION 'row level security hides requests from the owner of chat_stats_record_shard_changes()';
            END IF;
            EXECUTE replace($taken$
                INSERT INTO stats_schema.chat_stats_shard_deltas ({{ columns_of_deltas }})
                SELECT {{ kept.all_dims(further=false) }}bucket, bin, {{ each('sum({name}){cast}') }}, sum(n)::bigint
                FROM (
                    {{ changes('TRUNCATED', '-') | indent(20) }}
                ) AS u ({{ columns_of_deltas }})
                GROUP BY {{ kept.all_dims(further=false) }}bucket, bin
            $taken$, 'TRUNCATED', TG_RELID::regclass::text);
        EXCEPTION WHEN OTHERS THEN
            reason := SQLERRM;
        END;
        IF reason IS NOT NULL THEN
            INSERT INTO stats_schema.chat_stats_shard_deltas (model_id, trouble)
            SELECT r.model_id, reason FROM gateway_schema.chat_completion_requests AS r LIMIT 1;
        END IF;
        RETURN NULL;
    END IF;

    -- By a model of the shard: Citus takes no row for its own otherwise.
    EXECUTE 'INSERT INTO ' || beside || ' (model_id, trouble) SELECT model_id, $1 FROM '
        || CASE TG_OP WHEN 'DELETE' THEN 'old_rows' ELSE 'new_rows' END || ' LIMIT 1'
    USING reason;
    RETURN NULL;
END
$function$
    $definition$, '-- each shard', COALESCE((
        SELECT E'IF false THEN\n    NULL;\n' || string_agg(g.appends, '' ORDER BY g.last) || 'END IF;'
        FROM (
            SELECT
                max(s.shard) AS last,
                format(E'ELSIF shard <= %s THEN\nIF false THEN\n    NULL;', max(s.shard)) || string_agg(
                    replace($append$
ELSIF shard = SHARD THEN
    INSERT INTO stats_schema.chat_stats_shard_deltas_SHARD ({{ columns_of_deltas }})
    {{ changes('new_rows', '') | indent(4) }};
    RETURN NULL;$append$, 'SHARD', s.shard::text), '' ORDER BY s.shard
                ) || E'\nEND IF;\n' AS appends
            FROM unnest(shards) WITH ORDINALITY AS s (shard, place)
            WHERE cardinality(shards) <= 64
            GROUP BY (s.place - 1) / 8
        ) AS g
    ), ''));
END
$compose$;

-- It writes with its owner's rights: no other role may hang it on a table of its own.
REVOKE EXECUTE ON FUNCTION stats_schema.chat_stats_record_shard_changes() FROM PUBLIC;
$install$);
