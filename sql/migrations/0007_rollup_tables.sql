{% import 'macros/rollups.sql.j2' as kept %}
{% import 'macros/compact.sql.j2' as compact %}
{% import 'macros/tiers.sql.j2' as made %}
-- The tables of the rollups. They stay empty until `chat-stats rollup enable`.
--
-- The key of each begins with its dimensions, so that a distributed Postgres can keep those that have model_id beside
-- the requests. NULL is a value of a dimension as any other. Sums are numeric, and integers as keys bigint: no row that
-- the requests accept may be one that these refuse, even where their int became bigint since.
SELECT chat_stats_run($run$
DO $migration$
DECLARE
    dimensions text[] := {{ kept.dimension_names() }};
    types text[] := ARRAY(
        SELECT CASE WHEN starts_with(d.name, 'by_') THEN 'text COLLATE "C"'
                    WHEN a.atttypid IN ('int2'::regtype, 'int4'::regtype) THEN 'bigint'
                    ELSE format_type(a.atttypid, NULL) END  -- without a length, which may grow
        FROM unnest(dimensions) WITH ORDINALITY AS d (name, place)
        LEFT JOIN pg_attribute AS a
            ON a.attrelid = 'gateway_schema.chat_completion_requests'::regclass AND a.attname = d.name
        ORDER BY d.place
    );
    purged text[] := ARRAY[{{ kept.purged_tables() }}];
    tables text[] := ARRAY[{{ kept.tables() }}];
    -- Those of version 0.1.0, which kept totals of models alone. (What it kept of purged requests is moved, further down.)
    former text[] := ARRAY[
        'chat_stats_rollup_slots', 'chat_stats_rollup_days', 'chat_stats_rollup_months', 'chat_stats_rollup_lifetime'
    ];
    dropped text;
    keeps_something boolean;
    incomplete boolean;
    incomplete_own text[] := '{}';
    other_ids boolean;
    measures text[] := ARRAY[{{ each("'{name}'") }}];
    present text[];
    other_measures boolean;
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
    other_ids := EXISTS (
        SELECT FROM unnest(tables || former || 'chat_stats_purged'::text) AS t (name)
        CROSS JOIN ROWS FROM (unnest(dimensions), unnest(types)) AS d (name, type)
        JOIN pg_attribute AS a ON a.attrelid = to_regclass('stats_schema.' || t.name) AND a.attname = d.name
        WHERE NOT starts_with(d.name, 'by_') AND format_type(a.atttypid, NULL) <> d.type
    );
    present := ARRAY(
        SELECT a.attname::text FROM pg_attribute AS a
        WHERE a.attrelid = to_regclass('stats_schema.chat_stats_deltas') AND a.attnum > 0 AND NOT a.attisdropped
          AND a.attname NOT IN ('bucket', 'times') AND a.attname <> ALL (dimensions)
          AND NOT starts_with(a.attname::text, 'by_')
    );
    other_measures := cardinality(present) > 0 AND NOT (present @> measures AND measures @> present);
    -- Where the ids have another type now, or others are the measures, all of it is to be made from the requests again.
    -- What is kept of purged requests cannot be: below, in a file of its own, it gets columns for further measures.
    IF other_ids OR other_measures THEN
        IF other_ids THEN
            FOREACH dropped IN ARRAY purged || 'chat_stats_purged'::text LOOP
                CONTINUE WHEN to_regclass('stats_schema.' || dropped) IS NULL;
                EXECUTE format('SELECT EXISTS (SELECT FROM stats_schema.%I)', dropped) INTO keeps_something;
                IF keeps_something THEN
                    RAISE EXCEPTION 'chat_completion_requests.model_id is of type % now, and % keeps the '
                        'statistics of purged requests by ids of another type', types[1], dropped
                        USING HINT = 'Give its column model_id that type and the new ids; or drop that table, to do without.';
                END IF;
            END LOOP;
        END IF;
        PERFORM set_config('lock_timeout', '200', true);  -- writers wait behind this
        FOREACH dropped IN ARRAY tables LOOP
            CONTINUE WHEN dropped = ANY (purged) AND NOT other_ids;
            EXECUTE format('DROP TABLE IF EXISTS stats_schema.%I', dropped);
        END LOOP;
    END IF;
    FOREACH dropped IN ARRAY former LOOP
        EXECUTE format('DROP TABLE IF EXISTS stats_schema.%I', dropped);
    END LOOP;
    incomplete := EXISTS (
        SELECT FROM unnest(ARRAY[{{ kept.tables(built_in) }}]) AS t (name)
        WHERE t.name <> ALL (purged) AND to_regclass('stats_schema.' || t.name) IS NULL
    ) OR to_regclass('stats_schema.chat_stats_uncounted') IS NULL;
{% for rollup in own_rollups %}
    IF EXISTS (
        SELECT FROM unnest(ARRAY[{{ kept.derived_tables([rollup]) }}]) AS t (name) WHERE to_regclass('stats_schema.' || t.name) IS NULL
    ) THEN
        incomplete_own := incomplete_own || '{{ rollup.name }}'::text;
    END IF;
{% endfor %}

    -- What the triggers append: a signed change of the requests of one value of each dimension in one 15-minute bucket,
    -- by one statement. bucket is NULL for requests without created_at. `times` lists the times, to be counted with the
    -- sign of `timed`, where there are several; one alone is time_ms itself. A trigger that does not know a measure yet
    -- still finds a value for it: no write may fail.
    EXECUTE format($table$
        CREATE TABLE IF NOT EXISTS stats_schema.chat_stats_deltas (
{% for name in dimensions %}
            {{ name }} %{{ loop.index }}$s,
{% endfor %}
            bucket timestamptz,
            {{ each('{name} {type} NOT NULL DEFAULT 0', 12) }},
            times numeric[]
        )
    $table$, VARIADIC types);

{% for name in dimensions if name not in built_in_dimensions %}
    IF NOT EXISTS (
        SELECT FROM pg_attribute AS a
        WHERE a.attrelid = 'stats_schema.chat_stats_deltas'::regclass AND a.attname = '{{ name }}' AND NOT a.attisdropped
    ) THEN
        PERFORM set_config('lock_timeout', '200', true);  -- writers wait behind this
        ALTER TABLE stats_schema.chat_stats_deltas ADD COLUMN {{ name }} text COLLATE "C";
    END IF;
{% endfor %}

    -- Of days, slots and totals are apart: ranges of weeks read many totals, and of the slots only those of the two days
    -- at their ends.
{% for rollup in rollups %}
{% for tier in rollup.tiers %}
{% set table = rollup.tables[tier.name] %}
    EXECUTE format($table$
        CREATE TABLE IF NOT EXISTS stats_schema.{{ table }} (
            {{ kept.dimensions_definition(rollup) | indent(12) -}}
            {{ tier.time }} {{ tier.type }} NOT NULL,
{% if not rollup.built_in %}
            {{ compact.definition(rollup, tier) | indent(12) }}
{% elif tier.holds == 'slots' %}
            {{ kept.slots_definition() | indent(12) }}
{% else %}
            {{ each('{name} {type} NOT NULL', 12) }},
{% if tier.name in rollup.binned %}
            bins smallint[] NOT NULL,
            counts bigint[] NOT NULL,
{% endif %}
{% endif %}
{% if tier.type == 'boolean' %}
            CHECK ({{ tier.time }}),
{% endif %}
            UNIQUE NULLS NOT DISTINCT ({{ kept.index_columns(rollup, tier) }})
        )
    $table$, VARIADIC types);
{% if (tier.time == 'day' or tier.time == 'month' and not rollup.built_in) and rollup.dimensions %}
    -- For ranges over all of them: without it, they read the whole of the other index.
    CREATE INDEX IF NOT EXISTS {{ table }}_{{ tier.time }}_idx ON stats_schema.{{ table }} ({{ tier.time }});
{% endif %}
{% if tier.name in rollup.binned %}
    -- Adding up totals passes over the histograms: out of line, they are not in the way{{ '; those of a few requests are not, in line' if not rollup.built_in }}.
    ALTER TABLE stats_schema.{{ table }} SET (toast_tuple_target = {{ 128 if rollup.built_in else 256 }});
{% endif %}
{% endfor %}
{% if not rollup.built_in %}
    -- An earlier form kept the totals of days apart, and wrote all out.
    IF to_regclass('stats_schema.chat_stats_rollup_{{ rollup.name }}_days') IS NOT NULL THEN
        PERFORM set_config('lock_timeout', '200', true);
        PERFORM FROM stats_schema.chat_stats_rollup_state FOR UPDATE;  -- the lock of chat_stats_fold()
        ALTER TABLE stats_schema.{{ rollup.tables.slots }}
            {{ each('ADD COLUMN IF NOT EXISTS {name} {type}', 12) }},
            ADD COLUMN IF NOT EXISTS slot smallint,
            {{ each('ALTER COLUMN slot_{name} DROP NOT NULL', 12) }},
            {% for name in ('slots', 'bin_slots', 'bins', 'counts') %}ALTER COLUMN {{ name }} DROP NOT NULL{{ ', ' if not loop.last }}{% endfor %};
        {{ made.totals_of_days(rollup) | indent(8) }};
        ALTER TABLE stats_schema.{{ rollup.tables.months }}
            {{ each('ALTER COLUMN {name} DROP NOT NULL', 12) }},
            ALTER COLUMN bins DROP NOT NULL, ALTER COLUMN counts DROP NOT NULL;
        DROP TABLE stats_schema.chat_stats_rollup_{{ rollup.name }}_days;
    END IF;
    IF EXISTS (  -- an earlier form had them
        SELECT FROM pg_attribute AS a
        WHERE a.attrelid = 'stats_schema.{{ rollup.tables.lifetime }}'::regclass AND a.attname = 'bins'
    ) THEN
        PERFORM set_config('lock_timeout', '200', true);
        PERFORM FROM stats_schema.chat_stats_rollup_state FOR UPDATE;
        ALTER TABLE stats_schema.{{ rollup.tables.lifetime }} DROP COLUMN bins, DROP COLUMN counts;
    END IF;
    IF NOT EXISTS (  -- as above
        SELECT FROM pg_attribute AS a
        WHERE a.attrelid = 'stats_schema.{{ rollup.tables.slots }}'::regclass AND a.attname = 'bins_ascend'
    ) THEN
        PERFORM set_config('lock_timeout', '200', true);
        ALTER TABLE stats_schema.{{ rollup.tables.slots }} ADD COLUMN bins_ascend boolean;
    END IF;
{% endif %}

{% endfor %}
    -- One row. `ready` since the backfill is done: only then are the rollups read.
    CREATE TABLE IF NOT EXISTS stats_schema.chat_stats_rollup_state (
        only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
        enabled_at timestamptz,
        backfilled_to timestamptz,
        ready boolean NOT NULL DEFAULT false,
        folded_at timestamptz,
        audited_at timestamptz,
        drift bigint NOT NULL DEFAULT 0,
        purged_before timestamptz,
        -- The age from which on deletes by others keep their statistics (NULL: none do), and of how many requests it was done.
        retain_older_than interval,
        retained_requests bigint NOT NULL DEFAULT 0,
        columns jsonb,  -- of the requests, when it was made: chat_stats_request_columns()
        -- How many audits there were, and how far back its two sweeps have come; NULL: they begin at the latest requests.
        audits bigint NOT NULL DEFAULT 0,
        audited_week_from timestamptz,
        audited_from timestamptz
    );
    IF NOT EXISTS (  -- version 0.1.0 lacks them; else this would lock the table, which DELETEs read
        SELECT FROM pg_attribute AS a
        WHERE a.attrelid = 'stats_schema.chat_stats_rollup_state'::regclass AND a.attname = 'retained_requests'
    ) THEN
        PERFORM set_config('lock_timeout', '200', true);
        ALTER TABLE stats_schema.chat_stats_rollup_state
            ADD COLUMN retain_older_than interval, ADD COLUMN retained_requests bigint NOT NULL DEFAULT 0;
    END IF;
    INSERT INTO stats_schema.chat_stats_rollup_state DEFAULT VALUES ON CONFLICT DO NOTHING;

    -- The rollups of the operator's own, as chat-stats rollup add declares them. `by` has what each dimension is read from,
    -- and `sources` the columns. `ready` since its backfill is done and nothing was found wrong: only then is it read. It
    -- does not know what was purged before `whole_from`.
    CREATE TABLE IF NOT EXISTS stats_schema.chat_stats_rollups (
        name text PRIMARY KEY,
        place bigint GENERATED ALWAYS AS IDENTITY,
        by jsonb NOT NULL,
        sources text[] NOT NULL,
        histograms boolean NOT NULL DEFAULT true,
        added_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        backfilled_to timestamptz,
        ready boolean NOT NULL DEFAULT false,
        drift bigint NOT NULL DEFAULT 0,
        columns jsonb,  -- of the requests, when it was made: chat_stats_dimension_columns()
        whole_from timestamptz
    );
    -- One that is not in these files is not kept up by them: `chat-stats migrate` renders them for all, and repair makes
    -- it right.
    UPDATE stats_schema.chat_stats_rollups SET ready = false, backfilled_to = NULL
    WHERE (ready OR backfilled_to IS NOT NULL) AND name <> ALL (ARRAY[{% for rollup in own_rollups %}'{{ rollup.name }}'{{ ', ' if not loop.last }}{% endfor %}]::text[]);
{% for rollup in own_rollups %}
    IF '{{ rollup.name }}' = ANY (incomplete_own) THEN  -- a table that was dropped comes back empty
        UPDATE stats_schema.chat_stats_rollups SET ready = false, backfilled_to = NULL WHERE name = '{{ rollup.name }}';
    END IF;
{% endfor %}

    -- Writes that the triggers could not count, by the table that was written: chat_stats_rollup_ready() says what follows
    -- from them. Writers append, so that none waits for another; upkeep deletes.
    CREATE TABLE IF NOT EXISTS stats_schema.chat_stats_uncounted (
        relation oid NOT NULL,
        happened_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        reason text NOT NULL
    );

    IF incomplete THEN  -- a table that was dropped comes back empty
        UPDATE stats_schema.chat_stats_rollup_state SET ready = false, backfilled_to = NULL;
    END IF;
    PERFORM stats_schema.chat_stats_close_tables();
END
$migration$;
$run$);
