-- The rows of a batch, of all nodes.
SELECT chat_stats_claim_function('chat_stats_batch');

SELECT chat_stats_install('chat_stats_batch', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_batch(p_batch bigint)
RETURNS TABLE (
{% for name in built_in_dimensions %}
    {{ name }} stats_schema.chat_stats_deltas.{{ name }}%TYPE,
{% endfor %}
    bucket timestamptz,
    bin smallint,
    {{ each('{name} {type}', 4) }},
    n bigint,
    kept boolean,
    trouble text
)
LANGUAGE plpgsql
STABLE
ROWS 10000
AS $function$
#variable_conflict use_column
BEGIN
    RETURN QUERY EXECUTE format(
        'SELECT {% for name in built_in_dimensions %}{{ name }}, {% endfor %}bucket, bin, {{ each('{name}') }}, n, kept, trouble '
        'FROM stats_schema.chat_stats_shard_deltas WHERE batch = %s', p_batch
    );
END
$function$;
$install$);
