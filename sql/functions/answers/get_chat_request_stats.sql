{% import 'macros/values.sql.j2' as values %}
{% import 'macros/requests.sql.j2' as requests %}
{% import 'macros/figures.sql.j2' as figures %}
{# A rollup of the operator's own, whose name and columns are put in place when it is read. #}
{% set start, end, timezone = '$1', '$2', '$4' %}
{% set tables = {} %}
{% for tier in own_tiers %}{% set _ = tables.update({tier.name: 'chat_stats_rollup_@rollup@_' ~ tier.name}) %}{% endfor %}
{% set kept_by = {
    'rollup': {'tables': tables, 'purged': 'chat_stats_purged_@rollup@'},
    'selected': [('@model@', 'model_id'), ('@column1@', 'd1'), ('@column2@', 'd2'), ('@column3@', 'd3')],
    'read': [('@read0@', 'model_id'), ('@read1@', 'd1'), ('@read2@', 'd2'), ('@read3@', 'd3')],
    'conditions': ['@kept@'], 'of_requests': ['@requests@'],
} %}
{% set own = dict(kept_by, all_time=false) %}
{% set interval = '@bucket@' %}
{% import 'macros/own_reading.sql.j2' as of_series with context %}
{% set interval = none %}
{% import 'macros/own_reading.sql.j2' as of_range with context %}
{% set own = dict(kept_by, all_time=true) %}
{% import 'macros/own_reading.sql.j2' as of_all_time with context %}
{# The rows of such a rollup: sums, one of each group, or cells of histograms. #}
{% macro own_rows(reading, what, columns) -%}
$own$
            WITH {{ reading.pieces() | indent(12) }}
            SELECT u.interval_start, @member@ AS model_id, u.d1, u.d2, u.d3, {{ columns }}
            FROM (
                {{ (reading.sums() if what == 'sums' else reading.cells()) | indent(16) }}
            ) AS u
            {{ 'GROUP BY 1, 2, 3, 4, 5' if what == 'sums' }}
            $own$
{%- endmacro %}
{% macro own_text(what, columns) -%}
CASE WHEN p_bucket IS NOT NULL THEN {{ own_rows(of_series, what, columns) }}
            WHEN range_start IS NULL AND range_end IS NULL THEN {{ own_rows(of_all_time, what, columns) }}
            ELSE {{ own_rows(of_range, what, columns) }} END
{%- endmacro %}
-- Any measures by up to three dimensions over [p_start, p_end): a row for each combination of values that requests have,
-- most requests first; without p_group_by one row. With p_bucket (15m, 1h, 1d, 1w or 1mo of the calendar of p_timezone)
-- a row for each interval of each of them, empty ones too.
--
-- p_filters is an object: {"status": "completed"}, {"user_id": ["u1", null]} for one of several values, NULL among
-- them, {"status!": ["completed"]} for none of them. `dimensions` is an object with the values, and the names of models
-- and providers; 'unresolved' are the requests whose model or provider does not exist.
--
-- Without p_percentiles these are NULL, and not computed. total_cost_usd and avg_cost_usd are NULL where the requests have
-- no cost_usd column.
--
-- By models and providers alone it reads what chat_stats_totals() and its like read: the rollup where it is ready, and
-- purged requests. By other dimensions it reads the smallest rollup that `chat-stats rollup add` keeps by all of them, with
-- purged requests where that was there before. All else is a scan of the requests of the range: what was purged is not
-- among them.
--
-- The statement is put together from text of chat_stats_dimension(), and from values of filters as literals.
SELECT chat_stats_claim_function('get_chat_request_stats');

SELECT chat_stats_install('get_chat_request_stats', $install$
CREATE OR REPLACE FUNCTION stats_schema.get_chat_request_stats(
    p_group_by text[] DEFAULT '{}',
    p_filters jsonb DEFAULT '{}',
    p_start timestamptz DEFAULT NULL,
    p_end timestamptz DEFAULT NULL,
    p_bucket text DEFAULT NULL,
    p_timezone text DEFAULT 'UTC',
    p_percentiles boolean DEFAULT true
)
RETURNS TABLE (
    bucket_start timestamptz,
    dimensions jsonb,
{% for name, type, _ in asked.figures %}
    {{ name }} {{ type }}{{ ',' if not loop.last }}
{% endfor %}
)
LANGUAGE plpgsql
STABLE
AS $function$
#variable_conflict use_column
DECLARE
    ids CONSTANT text[] := ARRAY['provider_id', 'model_id'];
    group_by text[] := COALESCE(p_group_by, '{}'::text[]);
    range_start timestamptz := p_start;
    range_end timestamptz := p_end;
    by_models boolean := false;
    by_requests boolean := false;
    -- By the place in p_group_by: the value of a group, and how a request is read.
    keys text[] := ARRAY[]::text[];
    reads text[] := ARRAY['NULL::text', 'NULL::text', 'NULL::text'];
    shown text := '';
    of_requests text := '($1 IS NULL OR q.created_at >= $1) AND ($2 IS NULL OR q.created_at < $2)';
    of_groups text := 'true';
    condition text;
    wanted text[];
    usage text;
    bins text;
    intervals text := $$SELECT '-infinity'::timestamptz AS interval_start$$;
    name text;
    negated boolean;
    asked record;
    names text[] := group_by;
    -- Of a rollup of the operator's own: a column for each place, one of them for those that are not used, and filters.
    kept_by text;
    columns text[] := ARRAY[NULL, NULL, NULL]::text[];
    any_column text;
    of_kept text := 'true';
    of_kept_requests text := 'true';
    kept_values text;
    kept_column text;
    kept_value text;
    has_null boolean;
    put record;
BEGIN
    IF p_bucket NOT IN ('15m', '1h', '1d', '1w', '1mo') THEN
        RAISE EXCEPTION 'unknown p_bucket %; known: 15m, 1h, 1d, 1w, 1mo', p_bucket
            USING ERRCODE = 'invalid_parameter_value';
    ELSIF cardinality(group_by) > 3 OR cardinality(group_by) > (SELECT count(DISTINCT g.name) FROM unnest(group_by) AS g (name)) THEN
        RAISE EXCEPTION 'p_group_by has more than 3 dimensions, or one twice'
            USING ERRCODE = 'invalid_parameter_value';
    ELSIF jsonb_typeof(p_filters) <> 'object' THEN
        RAISE EXCEPTION 'p_filters is an object of dimensions and values, such as {"status": ["failed"]}'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF p_bucket IS NOT NULL THEN
        range_end := COALESCE(p_end, now());
        range_start := COALESCE(p_start, stats_schema.chat_stats_first_moment(), range_end);
        IF NOT isfinite(range_start) OR NOT isfinite(range_end) THEN
            RAISE EXCEPTION 'a time series has a beginning and an end: p_start and p_end cannot be infinite'
                USING ERRCODE = 'invalid_parameter_value';
        END IF;
        intervals := 'SELECT i.interval_start FROM stats_schema.chat_stats_intervals($3, $4, $1, $2) AS i';
    END IF;

    FOR place IN 1 .. cardinality(group_by) LOOP
        asked := stats_schema.chat_stats_dimension(group_by[place]);
        IF group_by[place] = ANY (ids) THEN
            by_models := true;
            keys := keys || asked.value;
            shown := shown || format(
                ', %L, COALESCE(g.key[%s], %L), %L, CASE WHEN g.key[%2$s] IS NULL THEN %3$L ELSE g.names[%2$s] END',
                group_by[place], place, 'unresolved', replace(group_by[place], '_id', '_name')
            );
        ELSE
            by_requests := true;
            reads[place] := asked.value;
            columns[place] := quote_ident('by_' || group_by[place]);
            any_column := columns[place];
            keys := keys || format('u.d%s', place);
            shown := shown || format(', %L, g.key[%s]', group_by[place], place);
        END IF;
    END LOOP;
    FOR name IN SELECT k.name FROM jsonb_object_keys(COALESCE(p_filters, '{}'::jsonb)) AS k (name) LOOP
        negated := name LIKE '%!';
        asked := stats_schema.chat_stats_dimension(rtrim(name, '!'));
        wanted := ARRAY(
            SELECT NULLIF(v.value, CASE WHEN rtrim(name, '!') = ANY (ids) THEN 'unresolved' END)
            FROM jsonb_array_elements_text(
                CASE jsonb_typeof(p_filters -> name) WHEN 'array' THEN p_filters -> name
                     ELSE jsonb_build_array(p_filters -> name) END
            ) AS v (value)
        );
        condition := format(
            '(%s = ANY (%L::text[])%s)%s', asked.compared, array_remove(wanted, NULL),
            CASE WHEN array_position(wanted, NULL) IS NOT NULL THEN format(' OR %s IS NULL', asked.compared) END,
            CASE WHEN negated THEN ' IS NOT TRUE' END
        );
        IF rtrim(name, '!') = ANY (ids) THEN
            by_models := true;
            of_groups := of_groups || ' AND ' || condition;
        ELSE
            by_requests := true;
            of_requests := of_requests || ' AND ' || condition;
            any_column := COALESCE(any_column, quote_ident('by_' || rtrim(name, '!')));
            -- (Put together by ||: in a value, too, there may be what format() or replace() would look for.)
            kept_values := quote_literal(ARRAY(
                SELECT stats_schema.chat_stats_dimension_value(v.value) FROM unnest(array_remove(wanted, NULL)) AS v (value)
            )::text) || '::text[]';
            kept_column := 't.' || quote_ident('by_' || rtrim(name, '!'));
            kept_value := 'stats_schema.chat_stats_dimension_value(' || asked.value || ')';
            has_null := array_position(wanted, NULL) IS NOT NULL;
            of_kept := of_kept || ' AND (' || kept_column || ' = ANY (' || kept_values || ')'
                || CASE WHEN has_null THEN ' OR ' || kept_column || ' IS NULL' ELSE '' END || ')'
                || CASE WHEN negated THEN ' IS NOT TRUE' ELSE '' END;
            of_kept_requests := of_kept_requests || ' AND (' || kept_value || ' = ANY (' || kept_values || ')'
                || CASE WHEN has_null THEN ' OR ' || kept_value || ' IS NULL' ELSE '' END || ')'
                || CASE WHEN negated THEN ' IS NOT TRUE' ELSE '' END;
        END IF;
        names := names || rtrim(name, '!');
    END LOOP;
    IF by_requests THEN
        kept_by := stats_schema.chat_stats_rollup_for(names, COALESCE(p_percentiles, false));
    END IF;

    IF kept_by IS NOT NULL THEN
        usage := {{ own_text('sums', each('sum(u.{name}){cast} AS {name}')) }};
        bins := {{ own_text('cells', 'u.bin, u.n') }};
        FOR put IN
            SELECT * FROM (VALUES
                ('@rollup@', kept_by), ('@bucket@', p_bucket),
                ('@member@', CASE WHEN by_models THEN 'u.model_id' ELSE '(NULL::gateway_schema.models).id' END),
                ('@model@', CASE WHEN by_models THEN 'model_id' ELSE any_column END),
                ('@read0@', CASE WHEN by_models THEN 'q.model_id' ELSE 'NULL::text' END),
{% for place in (1, 2, 3) %}
                ('@column{{ place }}@', COALESCE(columns[{{ place }}], any_column)),
                ('@read{{ place }}@', CASE WHEN columns[{{ place }}] IS NULL THEN 'NULL::text'
                    ELSE format('stats_schema.chat_stats_dimension_value(%s)', reads[{{ place }}]) END){{ ',' if not loop.last }}
{% endfor %}
            ) AS p (place, text)
        LOOP
            usage := replace(usage, put.place, COALESCE(put.text, ''));
            bins := replace(bins, put.place, COALESCE(put.text, ''));
        END LOOP;
        usage := stats_schema.chat_stats_with_filters(usage, of_kept, of_kept_requests);
        bins := stats_schema.chat_stats_with_filters(bins, of_kept, of_kept_requests);
    ELSIF by_requests THEN
        usage := format($scan$
            SELECT
                u.interval_start, u.model_id, u.d1, u.d2, u.d3,
                {{ requests.over_status() | indent(16) }}
            FROM (
                SELECT
                    r.interval_start, r.model_id, r.d1, r.d2, r.d3, r.status,
                    {{ requests.by_status() | indent(20) }}
                FROM {{ requests.absent() }}
                CROSS JOIN (SELECT NULL::text AS error_message) AS no_message
                CROSS JOIN LATERAL (
                    SELECT
                        %s AS interval_start, %s AS model_id, %s AS d1, %s AS d2, %s AS d3,
                        {{ requests.as_they_are() }}{{ ',' if columns }} q.status
                    FROM gateway_schema.chat_completion_requests AS q
                    WHERE %s
                ) AS r
                GROUP BY r.interval_start, r.model_id, r.d1, r.d2, r.d3, r.status
            ) AS u
            GROUP BY u.interval_start, u.model_id, u.d1, u.d2, u.d3
            $scan$,
            CASE WHEN p_bucket IS NULL THEN $$'-infinity'::timestamptz$$
                 ELSE 'stats_schema.chat_stats_interval_start($3, stats_schema.chat_stats_bucket(q.created_at::timestamptz), $4)' END,
            CASE WHEN by_models THEN 'q.model_id' ELSE 'CASE WHEN false THEN q.model_id END' END,
            reads[1], reads[2], reads[3], of_requests
        );
        bins := format($scan$
            SELECT b.interval_start, b.model_id, b.d1, b.d2, b.d3, b.bin, count(*) AS n
            FROM (SELECT NULL::text AS error_message) AS no_message
            CROSS JOIN LATERAL (
                SELECT
                    %s AS interval_start, %s AS model_id, %s AS d1, %s AS d2, %s AS d3,
                    stats_schema.chat_stats_bin(q.processing_time_ms::numeric) AS bin
                FROM gateway_schema.chat_completion_requests AS q
                WHERE %s AND {{ requests.in_bounds('q.processing_time_ms') }}
            ) AS b
            GROUP BY b.interval_start, b.model_id, b.d1, b.d2, b.d3, b.bin
            $scan$,
            CASE WHEN p_bucket IS NULL THEN $$'-infinity'::timestamptz$$
                 ELSE 'stats_schema.chat_stats_interval_start($3, stats_schema.chat_stats_bucket(q.created_at::timestamptz), $4)' END,
            CASE WHEN by_models THEN 'q.model_id' ELSE 'CASE WHEN false THEN q.model_id END' END,
            reads[1], reads[2], reads[3], of_requests
        );
    ELSE
        usage := format(
            'SELECT %s, t.model_id, NULL::text AS d1, NULL::text AS d2, NULL::text AS d3, '
            '{{ each('t.{total} AS {name}') }} FROM %s, NULL::text, NULL::text, NULL::text) AS t',
            CASE WHEN p_bucket IS NULL THEN $$'-infinity'::timestamptz AS interval_start$$ ELSE 't.interval_start' END,
            CASE WHEN p_bucket IS NULL THEN 'stats_schema.chat_stats_totals($1, $2'
                 ELSE 'stats_schema.chat_stats_series($3, $4, $1, $2' END
        );
        bins := format(
            'SELECT %s, h.member AS model_id, NULL::text AS d1, NULL::text AS d2, NULL::text AS d3, b.bin, b.n '
            'FROM stats_schema.chat_stats_histograms($3, %s, %L::text, $1, $2, NULL::text, NULL::text, NULL::text) '
            'AS h CROSS JOIN LATERAL unnest(h.bins, h.counts) AS b (bin, n)',
            CASE WHEN p_bucket IS NULL THEN $$'-infinity'::timestamptz AS interval_start$$ ELSE 'h.interval_start' END,
            CASE WHEN p_bucket IS NULL THEN 'NULL::text' ELSE '$4' END,
            CASE WHEN by_models THEN 'model' ELSE 'none' END
        );
    END IF;

    RETURN QUERY EXECUTE format($statement$
        WITH catalogue AS MATERIALIZED (
            SELECT
                m.id AS model_id, m.id::text AS model, m.model_name::text AS model_name,
                p.id::text AS provider, p.name::text AS provider_name
            FROM gateway_schema.models AS m
            JOIN gateway_schema.providers AS p ON p.id = m.provider_id
        ), members AS MATERIALIZED (
            SELECT
                ARRAY[%1$s]::text[] AS key, ARRAY[%2$s]::text[] AS names, u.interval_start,
                {{ each('sum(u.{name}){cast} AS {name}', 16) }}
            FROM (%3$s) AS u
            LEFT JOIN catalogue AS c ON c.model_id = u.model_id
            WHERE %4$s
            GROUP BY 1, 2, 3
        ), percentiles AS (
            SELECT key, interval_start, {{ values.percentiles() | indent(12) }}
            FROM (
                SELECT
                    b.key, b.interval_start, stats_schema.chat_stats_bin_value(b.bin) AS time_ms,
                    sum(b.n) OVER (PARTITION BY b.key, b.interval_start ORDER BY b.bin ROWS UNBOUNDED PRECEDING) AS up_to,
                    sum(b.n) OVER (PARTITION BY b.key, b.interval_start) AS total
                FROM (
                    SELECT ARRAY[%1$s]::text[] AS key, u.interval_start, u.bin, sum(u.n) AS n
                    FROM (%5$s) AS u
                    LEFT JOIN catalogue AS c ON c.model_id = u.model_id
                    WHERE %4$s
                    GROUP BY 1, 2, 3
                    HAVING sum(u.n) <> 0
                ) AS b
            ) AS ranked
            GROUP BY key, interval_start
        ), groups AS (
            SELECT s.key, s.names, sum(s.requests) AS total
            FROM members AS s
            GROUP BY s.key, s.names
            HAVING sum(s.requests) <> 0
            UNION ALL
            SELECT '{}'::text[], '{}'::text[], 0 WHERE $5 AND NOT EXISTS (SELECT FROM members AS s WHERE s.requests <> 0)
        ), intervals AS (
            %6$s
        )
        SELECT
            CASE WHEN $3 IS NOT NULL THEN {{ values.first_start('$3', 's.interval_start', '$4') | indent(12) }} END,
            s.dimensions,
{% for name, _, of_cost in asked.figures %}
            {{ 'CASE WHEN (SELECT stats_schema.chat_stats_has_cost()) THEN ' if of_cost
            }}{{ figures.figure(name).replace('COALESCE(p.' ~ name ~ ', 0)', 'CASE WHEN $6 THEN COALESCE(p.' ~ name ~ ', 0) END')
            }}{{ ' END' if of_cost }}{{ ',' if not loop.last }}
{% endfor %}
        FROM (
            SELECT
                g.key, g.total, i.interval_start, jsonb_build_object(%7$s) AS dimensions,
                {{ each('COALESCE(s.{name}, 0) AS {name}', 16) }}
            FROM groups AS g
            CROSS JOIN intervals AS i
            LEFT JOIN members AS s ON s.key = g.key AND s.interval_start = i.interval_start
        ) AS s
        LEFT JOIN percentiles AS p ON p.key = s.key AND p.interval_start = s.interval_start
        ORDER BY s.total DESC, s.key, s.interval_start
        $statement$,
        array_to_string(keys, ', '),
        array_to_string(ARRAY(
            SELECT CASE k.name WHEN 'provider_id' THEN 'c.provider_name' WHEN 'model_id' THEN 'c.model_name' ELSE 'NULL' END
            FROM unnest(group_by) WITH ORDINALITY AS k (name, place) ORDER BY k.place
        ), ', '),
        usage, of_groups,
        CASE WHEN p_percentiles THEN bins ELSE format('SELECT u.*, 0::smallint AS bin, 0 AS n FROM (%s) AS u WHERE false', usage) END,
        intervals, ltrim(shown, ', ')
    ) USING range_start, range_end, p_bucket, p_timezone, cardinality(group_by) = 0, p_percentiles;
END
$function$;
$install$);
