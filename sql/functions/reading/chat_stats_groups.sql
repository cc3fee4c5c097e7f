{% import 'macros/requests.sql.j2' as requests %}
{% import 'macros/filters.sql.j2' as filters %}
-- The models that exist and have a provider that exists, and which of the models of its group stands for each, by
-- p_group_by: model, provider or none (NULL, for all of them). Histograms are merged by it: an id takes less to compare
-- than its text, and of a provider's models one is as good as the other.
SELECT chat_stats_claim_function('chat_stats_groups');

SELECT chat_stats_install('chat_stats_groups', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_groups(p_group_by text, p_provider_id text, p_model_id text, p_model_name text)
RETURNS TABLE (id gateway_schema.models.id%TYPE, member gateway_schema.models.id%TYPE)
LANGUAGE plpgsql
STABLE
AS $function$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT
        m.id,
        CASE p_group_by
            WHEN 'model' THEN m.id
            WHEN 'provider' THEN first_value(m.id) OVER (PARTITION BY m.provider_id ORDER BY m.id)
        END
    FROM gateway_schema.models AS m
    JOIN gateway_schema.providers AS p ON p.id = m.provider_id
    WHERE (p_provider_id IS NULL OR p.id::text = p_provider_id)
      AND (p_model_id IS NULL OR m.id::text = p_model_id)
      AND (p_model_name IS NULL OR {{ requests.contains('m.model_name', 'p_model_name') }});
END
$function$;
$install$);

-- Callers that keep the planner from reading whole tables mean those of the rollups. Here nearly all models are read.
ALTER FUNCTION chat_stats_groups(text, {{ filters.types() }}) SET enable_seqscan = on;
