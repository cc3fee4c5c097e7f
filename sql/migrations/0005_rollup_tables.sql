-- The tables of the rollup. They stay empty until `chat-stats rollup enable`.
--
-- Each carries model_id, and its key begins with it, so that a distributed Postgres can keep them beside
-- the requests. Sums are numeric, and integers as keys bigint: no row that the requests accept may be one that
-- these refuse, even where their int became bigint since.
DO $migration$
DECLARE
    model_id_type text := (
        SELECT CASE WHEN a.atttypid IN ('int2'::regtype, 'int4'::regtype) THEN 'bigint'
                    ELSE format_type(a.atttypid, a.atttypmod) END
        FROM pg_attribute AS a
        WHERE a.attrelid = 'chat_completion_requests'::regclass AND a.attname = 'model_id'
    );
    incomplete boolean;
    narrow record;
BEGIN
    -- A first layout kept the slots in the rows of their days. All of it can be made anew from the requests.
    IF EXISTS (
        SELECT FROM pg_attribute AS a
        WHERE a.attrelid = to_regclass('chat_stats_rollup_days') AND a.attname = 'slots' AND NOT a.attisdropped
    ) THEN
        DROP TABLE chat_stats_rollup_days;
    END IF;
    IF model_id_type = 'bigint' THEN  -- which an earlier version did not see to
        FOR narrow IN
            SELECT a.attrelid::regclass AS name
            FROM unnest(ARRAY[
                'chat_stats_deltas', 'chat_stats_rollup_slots', 'chat_stats_rollup_days', 'chat_stats_rollup_months',
                'chat_stats_rollup_lifetime', 'chat_stats_purged'
            ]) AS t (name)
            JOIN pg_attribute AS a ON a.attrelid = to_regclass(t.name) AND a.attname = 'model_id'
            WHERE a.atttypid IN ('int2'::regtype, 'int4'::regtype)
        LOOP
            EXECUTE format('ALTER TABLE %s ALTER model_id TYPE bigint', narrow.name);
        END LOOP;
        -- The functions that return rows of theirs: as if created for other ids, so that new ones replace them.
        FOR narrow IN
            SELECT p.oid::regprocedure AS name
            FROM pg_proc AS p
            CROSS JOIN LATERAL unnest(p.proargnames, p.proallargtypes) AS u (argument, argument_type)
            WHERE p.pronamespace = quote_ident(current_schema())::regnamespace
              AND p.proname LIKE 'chat\_stats\_%' AND p.proname NOT IN ('chat_stats_usage', 'chat_stats_models')
              AND obj_description(p.oid, 'pg_proc') LIKE 'chat-stats;%'
              AND u.argument = 'model_id' AND u.argument_type IN ('int2'::regtype, 'int4'::regtype)
        LOOP
            EXECUTE format('COMMENT ON FUNCTION %s IS %L', narrow.name, 'chat-stats; a narrower model_id');
        END LOOP;
    END IF;
    incomplete := EXISTS (
        SELECT FROM unnest(ARRAY[
            'chat_stats_deltas', 'chat_stats_rollup_slots', 'chat_stats_rollup_days', 'chat_stats_rollup_months',
            'chat_stats_rollup_lifetime'
        ]) AS t (name)
        WHERE to_regclass(name) IS NULL
    );

    -- What the triggers append: a signed change of one model in one 15-minute bucket, by one statement.
    -- bucket is NULL for requests without created_at. `times` lists the times, to be counted with the sign of
    -- `timed`, where there are several; one alone is time_ms itself.
    EXECUTE format($table$
        CREATE TABLE IF NOT EXISTS chat_stats_deltas (
            model_id %1$s NOT NULL,
            bucket timestamptz,
            requests bigint NOT NULL,
            successful bigint NOT NULL,
            input_tokens numeric NOT NULL,
            output_tokens numeric NOT NULL,
            timed bigint NOT NULL,
            time_ms numeric NOT NULL,
            cost_usd numeric NOT NULL,
            times numeric[]
        )
    $table$, model_id_type);

    -- The 15-minute slots (0 to 95) of a UTC day, in order, as parallel arrays: one row where there would be up to
    -- 96. Those without any change are left out. Likewise the histogram of each slot.
    EXECUTE format($table$
        CREATE TABLE IF NOT EXISTS chat_stats_rollup_slots (
            model_id %1$s NOT NULL,
            day date NOT NULL,
            slots smallint[] NOT NULL,
            slot_requests bigint[] NOT NULL,
            slot_successful bigint[] NOT NULL,
            slot_input_tokens numeric[] NOT NULL,
            slot_output_tokens numeric[] NOT NULL,
            slot_timed bigint[] NOT NULL,
            slot_time_ms numeric[] NOT NULL,
            slot_cost_usd numeric[] NOT NULL,
            bin_slots smallint[] NOT NULL,
            bins smallint[] NOT NULL,
            counts bigint[] NOT NULL,
            PRIMARY KEY (model_id, day)
        )
    $table$, model_id_type);

    -- Totals of a UTC day, apart from its slots: ranges of weeks read many of these rows, and of the slots only
    -- those of the two days at their ends.
    EXECUTE format($table$
        CREATE TABLE IF NOT EXISTS chat_stats_rollup_days (
            model_id %1$s NOT NULL,
            day date NOT NULL,
            requests bigint NOT NULL,
            successful bigint NOT NULL,
            input_tokens numeric NOT NULL,
            output_tokens numeric NOT NULL,
            timed bigint NOT NULL,
            time_ms numeric NOT NULL,
            cost_usd numeric NOT NULL,
            PRIMARY KEY (model_id, day)
        )
    $table$, model_id_type);

    -- For ranges over all models: without them, they read the whole of the other index.
    CREATE INDEX IF NOT EXISTS chat_stats_rollup_slots_day_idx ON chat_stats_rollup_slots (day);
    CREATE INDEX IF NOT EXISTS chat_stats_rollup_days_day_idx ON chat_stats_rollup_days (day);

    EXECUTE format($table$
        CREATE TABLE IF NOT EXISTS chat_stats_rollup_months (
            model_id %1$s NOT NULL,
            month date NOT NULL,
            requests bigint NOT NULL,
            successful bigint NOT NULL,
            input_tokens numeric NOT NULL,
            output_tokens numeric NOT NULL,
            timed bigint NOT NULL,
            time_ms numeric NOT NULL,
            cost_usd numeric NOT NULL,
            bins smallint[] NOT NULL,
            counts bigint[] NOT NULL,
            PRIMARY KEY (model_id, month)
        )
    $table$, model_id_type);

    EXECUTE format($table$
        CREATE TABLE IF NOT EXISTS chat_stats_rollup_lifetime (
            model_id %1$s PRIMARY KEY,
            requests bigint NOT NULL,
            successful bigint NOT NULL,
            input_tokens numeric NOT NULL,
            output_tokens numeric NOT NULL,
            timed bigint NOT NULL,
            time_ms numeric NOT NULL,
            cost_usd numeric NOT NULL,
            bins smallint[] NOT NULL,
            counts bigint[] NOT NULL
        )
    $table$, model_id_type);

    -- Whoever adds up totals passes over the histograms: out of line, they are not in the way.
    ALTER TABLE chat_stats_rollup_months SET (toast_tuple_target = 128);
    ALTER TABLE chat_stats_rollup_lifetime SET (toast_tuple_target = 128);

    -- One row. `ready` since the backfill is done: only then are the rollups read.
    CREATE TABLE IF NOT EXISTS chat_stats_rollup_state (
        only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
        enabled_at timestamptz,
        backfilled_to timestamptz,
        ready boolean NOT NULL DEFAULT false,
        folded_at timestamptz,
        audited_at timestamptz,
        drift bigint NOT NULL DEFAULT 0
    );
    INSERT INTO chat_stats_rollup_state DEFAULT VALUES ON CONFLICT DO NOTHING;
    IF incomplete THEN  -- a table that was dropped comes back empty
        UPDATE chat_stats_rollup_state SET ready = false, backfilled_to = NULL;
    END IF;
    PERFORM chat_stats_close_tables();
END
$migration$;
