{% import 'macros/rollups.sql.j2' as kept %}
-- What is kept of requests that chat-stats rollup purge deleted: their sums, in 15-minute buckets.
--
-- The rollup is derived data: it equals what is in the requests plus what is in here, and can be made from both
-- again. So it goes on being audited, repaired, switched off and on, with no exception for times that were purged.
SELECT chat_stats_run($run$
DO $migration$
DECLARE
    model_id_type text := (
        SELECT CASE WHEN a.atttypid IN ('int2'::regtype, 'int4'::regtype) THEN 'bigint'
                    ELSE format_type(a.atttypid, NULL) END
        FROM pg_attribute AS a
        WHERE a.attrelid = 'gateway_schema.chat_completion_requests'::regclass AND a.attname = 'model_id'
    );
    reader text;
BEGIN
    -- A row for each model and UTC day; its 15-minute slots (0 to 95) as parallel arrays, those without any
    -- request left out; and the histogram of each slot.
    EXECUTE format($table$
        CREATE TABLE IF NOT EXISTS stats_schema.chat_stats_purged (
            model_id %1$s NOT NULL,
            day date NOT NULL,
            {{ kept.slots_definition() | indent(12) }}
            PRIMARY KEY (model_id, day)
        )
    $table$, model_id_type);
    -- Of a measure that is new, nothing is known of requests that are gone.
{% for m in measures %}
    IF NOT EXISTS (
        SELECT FROM pg_attribute AS a
        WHERE a.attrelid = 'stats_schema.chat_stats_purged'::regclass
          AND a.attname = 'slot_{{ m.name }}' AND NOT a.attisdropped
    ) THEN
        ALTER TABLE stats_schema.chat_stats_purged ADD COLUMN slot_{{ m.name }} {{ m.type }}[];
        UPDATE stats_schema.chat_stats_purged
        SET slot_{{ m.name }} = array_fill(0::{{ m.type }}, ARRAY[cardinality(slots)]);
        ALTER TABLE stats_schema.chat_stats_purged ALTER COLUMN slot_{{ m.name }} SET NOT NULL;
    END IF;
{% endfor %}
    CREATE INDEX IF NOT EXISTS chat_stats_purged_day_idx ON stats_schema.chat_stats_purged (day);

    -- The partitions of the requests, as upkeep last saw them: of one that is gone since, the statistics are kept.
    CREATE TABLE IF NOT EXISTS stats_schema.chat_stats_partitions (
        partition oid PRIMARY KEY,
        starts timestamptz NOT NULL,
        ends timestamptz NOT NULL,
        attached boolean NOT NULL
    );

    -- A role that is granted all requests may read the sums of those that are gone: else its statistics would end.
    FOR reader IN
        SELECT a.grantee::regrole::text
        FROM pg_class AS c
        CROSS JOIN LATERAL aclexplode(c.relacl) AS a
        WHERE c.oid = 'gateway_schema.chat_completion_requests'::regclass AND a.privilege_type = 'SELECT'
          AND NOT c.relrowsecurity
          AND NOT stats_schema.chat_stats_has_by_default(a.grantee, 'r'::"char", c.relowner, c.relnamespace)
    LOOP
        EXECUTE format('GRANT SELECT ON stats_schema.chat_stats_purged TO %s', reader);
    END LOOP;
    PERFORM stats_schema.chat_stats_close_tables();
END
$migration$;
$run$);
