{% import 'macros/values.sql.j2' as values %}
{% set kinds = asked.kinds %}
{% set other = asked.other %}
{% set characters = asked.characters %}
{% set separators = asked.separators %}
{% set blanks = asked.blanks %}
{% set column = 'q.%1$I' %}
{% set key = '%2$L::text' %}
{% set json_field %}{% include 'asked/json_field.sql' %}{% endset %}
{% set error_kind %}{% include 'asked/error_kind.sql' %}{% endset %}
-- What get_chat_request_stats() groups and filters by: SQL for the value of a dimension, as text, of a request q, or of
-- the model c of requests. All of it comes from the settings with which `migrate` ran (CHAT_STATS_DIMENSIONS,
-- CHAT_STATS_ERROR_KINDS), nothing from a caller: any other name is an error. `compared` is what a filter compares with
-- text: the column itself where that is text, so that an index serves. It names the column, which may be missing.
SELECT chat_stats_install('chat_stats_dimension', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_dimension(p_name text, OUT value text, OUT compared text)
LANGUAGE plpgsql
STABLE
AS $function$
DECLARE
    declared_column text;
    declared_key text;
    base name;
    by_bytes boolean;  -- whether the column's texts are equal only if they are the same
BEGIN
    CASE p_name
        WHEN 'provider_id' THEN value := 'c.provider';
        WHEN 'model_id' THEN value := 'c.model';
        WHEN 'status' THEN value := 'CASE WHEN q.status IS NOT NULL THEN rtrim(concat(q.status) COLLATE "C") END';
        WHEN 'error_kind' THEN value := $value${{ error_kind.strip() }}$value$;
{% for each in asked.columns %}
        WHEN {{ asked.quoted(each.name) }} THEN declared_column := {{ asked.quoted(each.column) }};
        {%- if each.key is not none %} declared_key := {{ asked.quoted(each.key) }};{% endif %}

{% endfor %}
        ELSE
            RAISE EXCEPTION 'unknown dimension %; known: %', p_name,
                array_to_string(ARRAY[{{ asked.names }}]::text[], ', ')
                USING ERRCODE = 'invalid_parameter_value',
                    HINT = 'CHAT_STATS_DIMENSIONS declares dimensions, and chat-stats migrate puts them into this function.';
    END CASE;
    IF declared_column IS NOT NULL THEN
        SELECT b.typname, COALESCE(c.collisdeterministic, true)
        INTO base, by_bytes
        FROM pg_attribute AS a
        JOIN pg_type AS t ON t.oid = a.atttypid
        JOIN pg_type AS b ON b.oid = COALESCE(NULLIF(t.typbasetype, 0::oid), t.oid)
        LEFT JOIN pg_collation AS c ON c.oid = a.attcollation
        WHERE a.attrelid = 'gateway_schema.chat_completion_requests'::regclass
          AND a.attname::text = declared_column AND NOT a.attisdropped;
    END IF;
    IF declared_key IS NOT NULL THEN
        value := CASE WHEN base = 'json'::name THEN format($value${{ json_field.strip() }}$value$, declared_column, declared_key)
                      ELSE format('(q.%I ->> %L::text)', declared_column, declared_key) END;
    ELSIF declared_column IS NOT NULL THEN
        value := format('concat(q.%I) COLLATE "C"', declared_column);
        IF base = 'bpchar'::name THEN
            value := 'rtrim(' || value || ')';
        END IF;
        value := format('CASE WHEN q.%I IS NOT NULL THEN %s END', declared_column, value);
        IF base IN ('text'::name, 'varchar'::name) AND by_bytes THEN
            compared := format('q.%I', declared_column);
        END IF;
    END IF;
    compared := COALESCE(compared, value);
END
$function$;
$install$);
