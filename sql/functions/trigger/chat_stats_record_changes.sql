{% import 'macros/requests.sql.j2' as requests %}
{% import 'macros/rollups.sql.j2' as kept %}
{% set has_further = dimensions | reject('in', built_in_dimensions) | list %}
{# `further`: with the dimensions of the operator's own rollups. #}
{% macro columns_of_deltas(further) -%}
{{ kept.all_dims(further=further) }}bucket, {{ each('{name}') }}
{%- endmacro %}
{# What one request `r` adds, or takes away. #}
{% macro change(sign) -%}
{% for m in measures %}
{% if m.by_status %}
CASE WHEN stats_schema.chat_stats_is_{{ m.kind }}(r.status) THEN {{ sign }}1::bigint ELSE 0::bigint END
{%- elif m.kind == 'sum' and not m.column.bounded %}
{{ sign }}r.{{ m.column.called }}
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
{# The requests of a table or a transition table, as `r`. #}
{% macro read(rows, further) -%}
{{ requests.absent() }}
CROSS JOIN LATERAL (
    SELECT
        {{ kept.read_dims(strict=true, further=further) | indent(8) }}COALESCE(created_at, NULL::timestamptz) AS created_at, concat(status) AS status,
        {{ requests.checked_numbers() | indent(8) }}
    FROM {{ rows }}
) AS r
{%- endmacro %}
{% macro changes(rows, sign, further) -%}
SELECT
    {{ kept.all_dims('r.', further) }}stats_schema.chat_stats_bucket(r.created_at),
    {{ change(sign) | indent(4) }}
FROM {{ read(rows, further) }}
{%- endmacro %}
{# What all requests `r` of a model and bucket take away. #}
{% macro truncated() -%}
{% for m in measures %}
{% if m.by_status %}
-count(*) FILTER (WHERE stats_schema.chat_stats_is_{{ m.kind }}(r.status))
{%- elif m.kind == 'sum' and not m.column.bounded %}
-sum(r.{{ m.column.called }})
{%- elif m.kind == 'sum' %}
COALESCE(-sum(r.{{ m.column.called }}), 0)
{%- elif m.kind == 'count' %}
-count(r.{{ m.column.called }})
{%- else %}
-count(*)
{%- endif %}
{{ ',\n' if not loop.last -}}
{% endfor %}
{%- endmacro %}
{# What new requests add, those of a model, bucket and status together. What the status means is asked once for each. #}
{% macro together() -%}
SELECT
    {{ kept.all_dims('g.') }}g.bucket,
{% for m in measures %}
{% if m.by_status %}
    CASE WHEN stats_schema.chat_stats_is_{{ m.kind }}(g.status) THEN g.requests ELSE 0::bigint END,
{% else %}
    g.{{ m.name }},
{% endif %}
{% endfor %}
    CASE WHEN g.timed > 1::bigint THEN g.times END
FROM (
    SELECT
        {{ kept.all_dims('r.') }}stats_schema.chat_stats_bucket(r.created_at) AS bucket, r.status,
{% for m in measures if not m.by_status %}
{% if m.kind == 'sum' %}
        {{ 'sum(r.' ~ m.column.called ~ ')' if not m.column.bounded else 'COALESCE(sum(r.' ~ m.column.called ~ '), 0::numeric)' }} AS {{ m.name }},
{% else %}
        count({{ 'r.' ~ m.column.called if m.kind == 'count' else '*' }}) AS {{ m.name }},
{% endif %}
{% endfor %}
        array_agg(r.time_ms) FILTER (WHERE r.time_ms IS NOT NULL) AS times
    FROM {{ read('new_rows', true) | indent(4) }}
    GROUP BY {{ kept.all_dims('r.') }}stats_schema.chat_stats_bucket(r.created_at), r.status
) AS g
{%- endmacro %}
{# True, or an error while a statement is planned: of the columns that it reads. #}
{% macro stored(further) -%}
stats_schema.chat_stats_are_stored(ARRAY[{{ stored_columns(further) }}]::text[])
{%- endmacro %}
{% macro stored_columns(further) -%}
'created_at', 'status'{% for column in columns %}, '{{ column.name }}'{% endfor %}
{%- for name in dimensions if name in built_in_dimensions %}, '{{ name }}'{% endfor %}
{%- if further and kept_sources %}, {{ literals(kept_sources) }}{% endif %}
{%- endmacro %}
{# What a statement appends, and the same of no rows: what fails where it would. #}
{% macro append(columns, rows) -%}
INSERT INTO stats_schema.chat_stats_deltas ({{ columns }})
{{ rows }};
{%- endmacro %}
{% macro try(columns, rows, further) -%}
PERFORM FROM (
    SELECT {{ columns }}
    FROM stats_schema.chat_stats_deltas
    UNION ALL
    {{ rows | indent(4) }}
) AS nothing
WHERE {{ stored(further) }} AND false;
{%- endmacro %}
{% macro append_new(further) -%}
{{ append(columns_of_deltas(further), changes('new_rows', '', further)) }}
{%- endmacro %}
{% macro try_new(further) -%}
{{ try(columns_of_deltas(further), changes('new_rows', '', further), further) }}
{%- endmacro %}
{% macro countable() -%}
(TG_RELID = 'gateway_schema.chat_completion_requests'::regclass::oid
 OR stats_schema.chat_stats_is_counted(TG_RELID))
AND has_table_privilege('stats_schema.chat_stats_deltas'::regclass, 'INSERT')
AND NOT row_security_active('stats_schema.chat_stats_deltas'::regclass)
{%- endmacro %}
{# What fails where a statement that appends would: each of them, of no rows. #}
{% macro guard(further) -%}
        IF TG_RELID <> 'gateway_schema.chat_completion_requests'::regclass::oid
           AND NOT stats_schema.chat_stats_is_counted(TG_RELID) THEN
            RAISE EXCEPTION '% is not a part of chat_completion_requests', TG_RELID::regclass;
        ELSIF NOT has_table_privilege('stats_schema.chat_stats_deltas'::regclass, 'INSERT')
              OR row_security_active('stats_schema.chat_stats_deltas'::regclass) THEN
            RAISE EXCEPTION 'the owner of chat_stats_record_changes() may not insert into chat_stats_deltas';
        ELSIF TG_OP = 'TRUNCATE' THEN
            IF current_setting('transaction_isolation') IN ('repeatable read', 'serializable') THEN
                RAISE EXCEPTION 'TRUNCATE in a % transaction takes requests that are younger than its snapshot',
                    upper(current_setting('transaction_isolation'));
            -- Where little time is given, it must not end in here: 5 MB a second is a fraction of what is read.
            ELSIF extract(epoch FROM current_setting('statement_timeout')::interval)
                  BETWEEN 0.001 AND pg_relation_size(TG_RELID::regclass) / 5000000.0 THEN
                RAISE EXCEPTION 'TRUNCATE takes more requests than can be counted within statement_timeout';
            ELSIF row_security_active(TG_RELID) THEN
                RAISE EXCEPTION 'row level security hides requests from the owner of chat_stats_record_changes()';
            END IF;
            taken := format($taken$
                SELECT
                    {{ kept.all_dims('r.', further) }}stats_schema.chat_stats_bucket(r.created_at),
                    {{ truncated() | indent(20) }},
                    CASE WHEN count(r.time_ms) > 1
                         THEN array_agg(r.time_ms) FILTER (WHERE r.time_ms IS NOT NULL) END
                FROM {{ read('ONLY %s', further) | indent(16) }}
                GROUP BY {{ kept.all_dims('r.', further) }}{{ (dimensions if further else built_in_dimensions) | length + 1 }}
            $taken$, TG_RELID::regclass);
            EXECUTE 'SELECT FROM ('
                'SELECT {{ columns_of_deltas(further) }}, times '
                'FROM stats_schema.chat_stats_deltas UNION ALL ' || taken || ') AS nothing WHERE false';
        END IF;
        IF TG_OP = 'DELETE' THEN
            -- As chat_stats_kept_before(): its call would cost each DELETE 1 µs more.
            kept_before := {{ kept.kept_before() }};
            IF kept_before IS NOT NULL THEN
                IF NOT has_table_privilege('stats_schema.chat_stats_kept'::regclass, 'INSERT')
                   OR row_security_active('stats_schema.chat_stats_kept'::regclass) THEN
                    RAISE EXCEPTION 'the owner of chat_stats_record_changes() may not insert into chat_stats_kept';
                END IF;
                PERFORM FROM (
                    SELECT {{ columns_of_deltas(further) }}
                    FROM stats_schema.chat_stats_kept
                    UNION ALL
                    {{ changes('old_rows', '', further) | indent(20) }}
                ) AS nothing
                WHERE {{ stored(further) }} AND false;
            END IF;
        END IF;
        IF TG_OP IN ('UPDATE', 'DELETE') THEN
            PERFORM FROM (
                SELECT {{ columns_of_deltas(further) }}
                FROM stats_schema.chat_stats_deltas
                UNION ALL
                {{ changes('old_rows', '-', further) | indent(16) }}
            ) AS nothing
            WHERE {{ stored(further) }} AND false;
        END IF;
        IF TG_OP IN ('INSERT', 'UPDATE') THEN
            {{ try_new(further) | indent(12) }}
        END IF;
{%- endmacro %}
{# The statements that append. #}
{% macro append_all(further) -%}
    IF TG_OP = 'TRUNCATE' THEN
        EXECUTE 'INSERT INTO stats_schema.chat_stats_deltas ('
            '{{ columns_of_deltas(further) }}, times) ' || taken;
    END IF;
    IF TG_OP IN ('UPDATE', 'DELETE') THEN
        INSERT INTO stats_schema.chat_stats_deltas ({{ columns_of_deltas(further) }})
        {{ changes('old_rows', '-', further) | indent(8) }}
        WHERE kept_before IS NULL OR r.created_at IS NULL OR r.created_at >= kept_before;
    END IF;
    IF kept_before IS NOT NULL THEN
        INSERT INTO stats_schema.chat_stats_kept ({{ columns_of_deltas(further) }})
        {{ changes('old_rows', '', further) | indent(8) }}
        WHERE r.created_at < kept_before;
    END IF;
    IF TG_OP IN ('INSERT', 'UPDATE') THEN
        {{ append_new(further) | indent(8) }}
    END IF;
{%- endmacro %}
-- Appends what a statement changed, a row for each request, or one for many that it inserted together: its old rows are
-- taken away, its new ones added. Those that a DELETE takes and whose statistics are to be kept (chat_stats_kept_before())
-- are not taken away, but listed.
--
-- It runs in the writer's transaction, so it must never fail. What may fail is all in the block with the handler:
-- whether this table is counted, and each statement that appends, of no rows. There the column that was renamed or
-- retyped is noticed, and the table or function of ours that was dropped. Beyond it, the same statements have nothing
-- left to fail with. They stand outside, since a block with a handler that writes would cost the writer a transaction
-- id of its own. A write that cannot be counted leaves a row in chat_stats_uncounted instead, and from then on the
-- functions scan.
--
-- Where the dimensions of the operator's own rollups alone are in the way, all else is counted as ever, and a row in
-- chat_stats_uncounted with the table chat_stats_rollups says so.
--
-- Types are checked, never converted from text: COALESCE() and BETWEEN know no operator for a column of another kind,
-- where a cast would try each value.
SELECT chat_stats_install('chat_stats_record_changes', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_record_changes()
RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER  -- writers of requests need no rights on our tables
{% if has_further %}
SET datestyle = 'ISO'  -- a date becomes text, in the session of any writer
{% endif %}
AS $function$
#variable_conflict use_column
DECLARE
    taken text;
    trouble text;
{% if not has_further %}
    many boolean;
{% else %}
    -- Why the change is counted, but not by the dimensions of the operator's own rollups.
    only_built_in text;
{% endif %}
    can_mark boolean;
    kept_before timestamptz;
BEGIN
    -- Nearly all writes of a gateway insert one request. Each condition that is evaluated costs its INSERT nearly 1 %, so
    -- they have a short path: the same guard, in one condition. Where it fails, the long one finds out why.
    IF TG_OP = 'INSERT' THEN
        <<short>>
        BEGIN
{% if not has_further %}
            <<one>>
            BEGIN
{% endif %}
            BEGIN
                IF {{ countable() | indent(19) }}
{%- if not has_further %}

                   -- How many the transaction inserted: nothing depends on it but the time that this takes.
                   AND pg_stat_get_xact_tuples_inserted(TG_RELID) < 64::bigint
{%- endif %} THEN
                    {{ try_new(true) | indent(20) }}
                ELSE
                    EXIT {{ 'short' if has_further else 'one' }};
                END IF;
            EXCEPTION WHEN OTHERS THEN
                EXIT short;
            END;
            {{ append_new(true) | indent(12) }}
            RETURN NULL;
{% if not has_further %}
            END;

            -- Many of one hour are put together: a row for each would take longer. Not too many, since their times are
            -- one value of at most 1 GB.
            BEGIN
                IF NOT ({{ countable() | indent(24) }}) THEN
                    EXIT short;
                END IF;
                {{ try_new(true) | indent(16) }}
                many := (
                    SELECT count(*) BETWEEN 64::bigint AND 100000::bigint
                       AND max(r.created_at) <= min(r.created_at) + interval '1 hour'
                    FROM (SELECT COALESCE(created_at, NULL::timestamptz) AS created_at FROM new_rows) AS r
                );
                IF many THEN
                    {{ try(columns_of_deltas(true) ~ ', times', together(), true) | indent(20) }}
                END IF;
            EXCEPTION WHEN OTHERS THEN
                EXIT short;
            END;
            IF many THEN
                {{ append(columns_of_deltas(true) ~ ', times', together()) | indent(16) }}
            ELSE
                {{ append_new(true) | indent(16) }}
            END IF;
            RETURN NULL;
{% endif %}
        END;
    END IF;

    BEGIN
        {{ guard(true).strip() }}
    EXCEPTION WHEN OTHERS THEN
        trouble := SQLERRM;
    END;
{% if has_further %}

    IF trouble IS NOT NULL THEN
        only_built_in := trouble;
        trouble := NULL;
        BEGIN
            {{ guard(false).strip() | indent(4) }}
        EXCEPTION WHEN OTHERS THEN
            trouble := SQLERRM;
        END;
    END IF;
{% endif %}

{% set marked = 'TG_RELID' if not has_further else "CASE WHEN trouble IS NULL THEN COALESCE(to_regclass('stats_schema.chat_stats_rollups')::oid, 0::oid) ELSE TG_RELID END" %}
{% set reason = 'trouble' if not has_further else 'COALESCE(trouble, only_built_in)' %}
    IF {{ 'trouble' if not has_further else 'only_built_in' }} IS NOT NULL THEN
        BEGIN
            can_mark := has_table_privilege('stats_schema.chat_stats_uncounted'::regclass, 'INSERT')
                AND NOT row_security_active('stats_schema.chat_stats_uncounted'::regclass);
            PERFORM FROM (
                SELECT relation, reason FROM stats_schema.chat_stats_uncounted
                UNION ALL
                SELECT {{ marked }}, {{ reason }}
            ) AS nothing
            WHERE false;
        EXCEPTION WHEN OTHERS THEN
            can_mark := false;  -- without that table the rollup is not read either
        END;
        IF can_mark THEN
            INSERT INTO stats_schema.chat_stats_uncounted (relation, reason) VALUES ({{ marked }}, {{ reason }});
        END IF;
    END IF;
    IF trouble IS NOT NULL THEN
        RETURN NULL;
    END IF;

{% if has_further %}
    IF only_built_in IS NULL THEN
        {{ append_all(true).strip() | indent(4) }}
    ELSE
        {{ append_all(false).strip() | indent(4) }}
    END IF;
{% else %}
    {{ append_all(true).strip() }}
{% endif %}
    RETURN NULL;
END
$function$;

-- It writes with its owner's rights: no other role may hang it on a table of its own.
REVOKE EXECUTE ON FUNCTION stats_schema.chat_stats_record_changes() FROM PUBLIC;
$install$);
