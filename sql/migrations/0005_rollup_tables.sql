-- The tables of the rollup. They stay empty until `chat-stats rollup enable`.
--
-- Each carries model_id, and its key begins with it, so that a distributed Postgres can keep them beside
-- the requests. Sums are numeric, and integers as keys bigint: no row that the requests accept may be one that
-- these refuse, even where their int became bigint since.
SELECT chat_stats_run($run$
DO $migration$
DECLARE
    model_id_type text := (
        SELECT CASE WHEN a.atttypid IN ('int2'::regtype, 'int4'::regtype) THEN 'bigint'
                    ELSE format_type(a.atttypid, NULL) END  -- without a length, which may grow
        FROM pg_attribute AS a
        WHERE a.attrelid = 'gateway_schema.chat_completion_requests'::regclass AND a.attname = 'model_id'
    );
    tables text[] := ARRAY[
        'chat_stats_deltas', 'chat_stats_rollup_slots', 'chat_stats_rollup_days', 'chat_stats_rollup_months',
        'chat_stats_rollup_lifetime', 'chat_stats_purged'
    ];
    dropped text;
    incomplete boolean;
    planted text := (
        SELECT string_agg(format('%s (owner: %s)', c.oid::regclass, c.relowner::regrole), ', ')
        FROM pg_class AS c
        WHERE c.relnamespace::regnamespace || '.' = 'stats_schema.' AND c.relname LIKE 'chat\_stats\_%'
          AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
          AND stats_schema.chat_stats_is_planted(
              c.relowner, c.relnamespace, 'gateway_schema.chat_completion_requests'::regclass::oid
          )
    );
BEGIN
    IF planted IS NOT NULL THEN
        RAISE EXCEPTION 'tables have our names, but belong to others, whose triggers would run with our rights: %', planted
            USING ERRCODE = 'insufficient_privilege', HINT = 'Drop them, or change their owner.';
    END IF;
    -- Where the ids have another type now, all of it is to be made from the requests again.
    IF EXISTS (
        SELECT FROM unnest(tables) AS t (name)
        JOIN pg_attribute AS a ON a.attrelid = to_regclass('stats_schema.' || t.name) AND a.attname = 'model_id'
        WHERE format_type(a.atttypid, NULL) <> model_id_type
    ) THEN
        IF to_regclass('stats_schema.chat_stats_purged') IS NOT NULL THEN
            IF EXISTS (SELECT FROM stats_schema.chat_stats_purged) THEN
                RAISE EXCEPTION 'chat_completion_requests.model_id is of type % now, and chat_stats_purged keeps the '
                    'statistics of purged requests by ids of another type', model_id_type
                    USING HINT = 'Give its column model_id that type and the new ids; or drop that table, to do without.';
            END IF;
        END IF;
        PERFORM set_config('lock_timeout', '200', true);  -- writers wait behind this
        FOREACH dropped IN ARRAY tables LOOP
            EXECUTE format('DROP TABLE IF EXISTS stats_schema.%I', dropped);
        END LOOP;
    END IF;
    incomplete := EXISTS (
        SELECT FROM unnest(tables) AS t (name)
        WHERE t.name <> 'chat_stats_purged' AND to_regclass('stats_schema.' || t.name) IS NULL
    );

    -- What the triggers append: a signed change of one model in one 15-minute bucket, by one statement.
    -- bucket is NULL for requests without created_at. `times` lists the times, to be counted with the sign of
    -- `timed`, where there are several; one alone is time_ms itself.
    EXECUTE format($table$
        CREATE TABLE IF NOT EXISTS stats_schema.chat_stats_deltas (
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
        CREATE TABLE IF NOT EXISTS stats_schema.chat_stats_rollup_slots (
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
        CREATE TABLE IF NOT EXISTS stats_schema.chat_stats_rollup_days (
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
    CREATE INDEX IF NOT EXISTS chat_stats_rollup_slots_day_idx ON stats_schema.chat_stats_rollup_slots (day);
    CREATE INDEX IF NOT EXISTS chat_stats_rollup_days_day_idx ON stats_schema.chat_stats_rollup_days (day);

    EXECUTE format($table$
        CREATE TABLE IF NOT EXISTS stats_schema.chat_stats_rollup_months (
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
        CREATE TABLE IF NOT EXISTS stats_schema.chat_stats_rollup_lifetime (
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
    ALTER TABLE stats_schema.chat_stats_rollup_months SET (toast_tuple_target = 128);
    ALTER TABLE stats_schema.chat_stats_rollup_lifetime SET (toast_tuple_target = 128);

    -- One row. `ready` since the backfill is done: only then are the rollups read.
    CREATE TABLE IF NOT EXISTS stats_schema.chat_stats_rollup_state (
        only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
        enabled_at timestamptz,
        backfilled_to timestamptz,
        ready boolean NOT NULL DEFAULT false,
        folded_at timestamptz,
        audited_at timestamptz,
        drift bigint NOT NULL DEFAULT 0
    );
    INSERT INTO stats_schema.chat_stats_rollup_state DEFAULT VALUES ON CONFLICT DO NOTHING;
    IF incomplete THEN  -- a table that was dropped comes back empty
        UPDATE stats_schema.chat_stats_rollup_state SET ready = false, backfilled_to = NULL;
    END IF;
    PERFORM stats_schema.chat_stats_close_tables();
END
$migration$;
$run$);
