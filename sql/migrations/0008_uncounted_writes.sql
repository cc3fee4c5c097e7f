-- Writes that the triggers could not count, and of which columns the rollup was made: chat_stats_rollup_ready() says
-- what follows from them.
SELECT chat_stats_run($run$
DO $migration$
BEGIN
    -- By the table that was written. Writers append, so that none waits for another; upkeep deletes.
    IF to_regclass('stats_schema.chat_stats_uncounted') IS NULL THEN
        CREATE TABLE stats_schema.chat_stats_uncounted (
            relation oid NOT NULL,
            happened_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            reason text NOT NULL
        );
        -- Nothing is known of the writes while there was no such table. (Of a rollup that an earlier version made,
        -- `columns` is NULL: see below.)
        IF EXISTS (
            SELECT FROM pg_attribute AS a
            WHERE a.attrelid = 'stats_schema.chat_stats_rollup_state'::regclass
              AND a.attname = 'columns' AND NOT a.attisdropped
        ) THEN
            UPDATE stats_schema.chat_stats_rollup_state SET ready = false, backfilled_to = NULL;
        END IF;
    END IF;
    ALTER TABLE stats_schema.chat_stats_rollup_state ADD COLUMN IF NOT EXISTS columns jsonb;
    PERFORM stats_schema.chat_stats_close_tables();
END
$migration$;
$run$);
