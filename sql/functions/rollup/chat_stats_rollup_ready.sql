{% import 'macros/rollups.sql.j2' as kept %}
-- Whether the rollup may be read: its backfill is done, its triggers fire on every part of the requests, no write went
-- uncounted, the columns are those of which it was made, Citus does not hold the requests, or beside them what the triggers
-- append and the snapshot is not too old for that (chat_stats_unfolded()), and the caller may read its tables and sees all
-- of them and of the requests. Otherwise the functions scan.
SELECT chat_stats_install('chat_stats_rollup_ready', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_rollup_ready()
RETURNS boolean
LANGUAGE plpgsql
STABLE
AS $function$
BEGIN
    -- One after the other: the statement further down names tables that this one looks for.
    IF row_security_active('gateway_schema.chat_completion_requests') OR EXISTS (
        SELECT FROM unnest(ARRAY[
            'chat_stats_rollup_state', 'chat_stats_uncounted', {{ kept.tables(built_in) }}
        ]) AS t (name)
        WHERE NOT COALESCE(has_table_privilege(to_regclass('stats_schema.' || t.name), 'SELECT'), false)
           OR row_security_active(to_regclass('stats_schema.' || t.name)::oid)
    ) OR stats_schema.chat_stats_distribution() IS NOT NULL THEN
        RETURN false;
    ELSIF to_regclass('stats_schema.chat_stats_shard_deltas') IS NOT NULL AND (
        stats_schema.chat_stats_snapshot_age() > interval '5 minutes'
        OR NOT has_table_privilege('stats_schema.chat_stats_shard_deltas', 'SELECT')
        OR NOT has_table_privilege('stats_schema.chat_stats_batches', 'SELECT')
    ) THEN
        RETURN false;
    END IF;
    RETURN EXISTS (
        SELECT FROM stats_schema.chat_stats_rollup_state AS s
        WHERE s.ready AND s.columns = stats_schema.chat_stats_request_columns()
    ) AND NOT EXISTS (
        SELECT FROM stats_schema.chat_stats_request_tables() AS t
        WHERE t.firing < 4
           OR EXISTS (SELECT FROM stats_schema.chat_stats_uncounted AS u WHERE u.relation = t.relation)
    );
END
$function$;
$install$);
