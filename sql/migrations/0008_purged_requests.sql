{% import 'macros/rollups.sql.j2' as kept %}
-- What is kept of requests that chat-stats rollup purge deleted: their sums, in 15-minute buckets, for each rollup.
--
-- A rollup is derived data: it equals what is in the requests plus what is in here, and can be made from both
-- again. So it goes on being audited, repaired, switched off and on, with no exception for times that were purged.
SELECT chat_stats_run($run$
DO $migration$
DECLARE
    types text[] := ARRAY(
        SELECT {{ kept.type_of('d.name', 'a.atttypid') }}
        FROM unnest({{ kept.dimension_names() }}) WITH ORDINALITY AS d (name, place)
        JOIN pg_attribute AS a ON a.attname = d.name
        WHERE a.attrelid = 'stats_schema.chat_stats_deltas'::regclass
        ORDER BY d.place
    );
    is_new boolean;
    reader text;
    published text;
BEGIN
    -- The sums of requests that others deleted, as `chat-stats rollup retain` says, a row for each: the triggers append
    -- them, and folds move them into the tables below.
    EXECUTE format($table$
        CREATE TABLE IF NOT EXISTS stats_schema.chat_stats_kept (
{% for name in dimensions %}
            {{ name }} %{{ loop.index }}$s,
{% endfor %}
            bucket timestamptz,
            {{ each('{name} {type} NOT NULL DEFAULT 0', 12) }}
        )
    $table$, VARIADIC types);
{% for name in dimensions if name not in built_in_dimensions %}
    IF NOT EXISTS (
        SELECT FROM pg_attribute AS a
        WHERE a.attrelid = 'stats_schema.chat_stats_kept'::regclass AND a.attname = '{{ name }}' AND NOT a.attisdropped
    ) THEN
        PERFORM set_config('lock_timeout', '200', true);  -- DELETEs write it
        ALTER TABLE stats_schema.chat_stats_kept ADD COLUMN {{ name }} text COLLATE "C";
    END IF;
{% endfor %}
{% for rollup in rollups %}

    -- A row for each UTC day (and value of the dimensions); its 15-minute slots (0 to 95) as parallel arrays, those
    -- without any request left out; and the histogram of each slot.
    is_new := to_regclass('stats_schema.{{ rollup.purged }}') IS NULL;
    EXECUTE format($table$
        CREATE TABLE IF NOT EXISTS stats_schema.{{ rollup.purged }} (
            {{ kept.dimensions_definition(rollup) | indent(12) -}}
            day date NOT NULL,
            {{ kept.slots_definition() | indent(12) }}
            UNIQUE NULLS NOT DISTINCT ({{ kept.dims(rollup) }}day)
        )
    $table$, VARIADIC types);
    -- Of a measure that is new, nothing is known of requests that are gone.
{% for m in measures %}
    IF NOT EXISTS (
        SELECT FROM pg_attribute AS a
        WHERE a.attrelid = 'stats_schema.{{ rollup.purged }}'::regclass
          AND a.attname = 'slot_{{ m.name }}' AND NOT a.attisdropped
    ) THEN
        ALTER TABLE stats_schema.{{ rollup.purged }} ADD COLUMN slot_{{ m.name }} {{ m.type }}[];
        UPDATE stats_schema.{{ rollup.purged }}
        SET slot_{{ m.name }} = array_fill(0::{{ m.type }}, ARRAY[cardinality(slots)]);
        ALTER TABLE stats_schema.{{ rollup.purged }} ALTER COLUMN slot_{{ m.name }} SET NOT NULL;
    END IF;
{% endfor %}
{% if rollup.dimensions %}
    CREATE INDEX IF NOT EXISTS {{ rollup.purged }}_day_idx ON stats_schema.{{ rollup.purged }} (day);
{% endif %}
{% if not rollup.built_in %}
    -- What was purged before, it does not know.
    IF is_new THEN
        UPDATE stats_schema.chat_stats_rollups SET ready = false, backfilled_to = NULL, whole_from = {{ kept.purged_until() | indent(8) }}
        WHERE name = '{{ rollup.name }}';
    END IF;
{% elif rollup.dimensions == ('model_id',) %}
    -- What version 0.1.0 kept is moved. Its own table is dropped last of all, once no function reads it.
    IF is_new AND to_regclass('stats_schema.chat_stats_purged') IS NOT NULL THEN
        INSERT INTO stats_schema.{{ rollup.purged }} (
            model_id, day, slots,
            {{ each('slot_{name}', 12) }},
            bin_slots, bins, counts
        )
        SELECT
            t.model_id, t.day, t.slots,
            {{ each("COALESCE(n.slot_{name}, array_fill(0::{type}, ARRAY[cardinality(t.slots)]))", 12) }},
            t.bin_slots, t.bins, t.counts
        FROM stats_schema.chat_stats_purged AS t
        CROSS JOIN LATERAL jsonb_populate_record(NULL::stats_schema.{{ rollup.purged }}, to_jsonb(t)) AS n;
    END IF;
{% elif finer(rollup) %}
    -- A rollup that is new has what is kept by further dimensions, summed up.
    IF is_new THEN
        INSERT INTO stats_schema.{{ rollup.purged }} AS t (
            {{ kept.dims(rollup) }}day, {{ kept.columns_of_slots() }}
        )
        {{ kept.summed_up(rollup, finer(rollup)) | indent(8) }};
    END IF;
{% endif %}
{% endfor %}
{% for m in measures %}
    IF NOT EXISTS (
        SELECT FROM pg_attribute AS a
        WHERE a.attrelid = 'stats_schema.chat_stats_kept'::regclass AND a.attname = '{{ m.name }}' AND NOT a.attisdropped
    ) THEN
        PERFORM set_config('lock_timeout', '200', true);  -- DELETEs write it
        ALTER TABLE stats_schema.chat_stats_kept ADD COLUMN {{ m.name }} {{ m.type }} NOT NULL DEFAULT 0;
    END IF;
{% endfor %}

    -- The partitions of the requests, as upkeep last saw them: of one that is gone since, the statistics are kept.
    CREATE TABLE IF NOT EXISTS stats_schema.chat_stats_partitions (
        partition oid PRIMARY KEY,
        starts timestamptz NOT NULL,
        ends timestamptz NOT NULL,
        attached boolean NOT NULL
    );

    -- Partitions that went under earlier versions left no trace of when.
    UPDATE stats_schema.chat_stats_rollup_state AS s
    SET purged_before = k.until
    FROM (
        SELECT (max(t.day) + 1)::timestamp AT TIME ZONE 'UTC' AS until
        FROM stats_schema.{{ rollup('model').purged }} AS t WHERE cardinality(t.slots) > 0
    ) AS k
    WHERE s.purged_before IS NULL AND k.until IS NOT NULL;

    -- A role that is granted all requests may read the sums of those that are gone: else its statistics would end.
    FOR reader IN
        SELECT a.grantee::regrole::text
        FROM pg_class AS c
        CROSS JOIN LATERAL aclexplode(c.relacl) AS a
        WHERE c.oid = 'gateway_schema.chat_completion_requests'::regclass AND a.privilege_type = 'SELECT'
          AND NOT c.relrowsecurity
          AND NOT stats_schema.chat_stats_has_by_default(a.grantee, 'r'::"char", c.relowner, c.relnamespace)
    LOOP
        EXECUTE format(
            'GRANT SELECT ON {% for name in ['chat_stats_kept'] + (rollups | map(attribute='purged') | list) %}stats_schema.{{ name }}{{ ', ' if not loop.last }}{% endfor %} TO %s', reader
        );
    END LOOP;
    -- Of a table that is published, as by FOR ALL TABLES, Postgres updates and deletes no row that has no identity.
    FOR published IN
        SELECT format('%s', c.oid::regclass)
        FROM pg_class AS c
        WHERE c.relnamespace::regnamespace || '.' = 'stats_schema.' AND c.relname::text LIKE 'chat\_stats\_%'
          AND c.relkind = 'r'::"char" AND c.relreplident = 'd'::"char"
          AND NOT EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.oid AND i.indisprimary)
          AND EXISTS (
              SELECT FROM pg_publication AS p CROSS JOIN LATERAL pg_get_publication_tables(p.pubname) AS t
              WHERE t.relid = c.oid AND (p.pubupdate OR p.pubdelete)
          )
    LOOP
        PERFORM set_config('lock_timeout', '200', true);  -- writers wait behind this
        EXECUTE format('ALTER TABLE %s REPLICA IDENTITY FULL', published);
    END LOOP;
    PERFORM stats_schema.chat_stats_close_tables();
END
$migration$;
$run$);
