-- The models that exist and have a provider that exists, and which of the models of its group stands for each, by
-- p_group_by: model, provider or none (NULL, for all of them). Histograms are merged by it: an id takes less to compare
-- than its text, and of a provider's models one is as good as the other.
SELECT chat_stats_claim_function('chat_stats_groups');

CREATE OR REPLACE FUNCTION chat_stats_groups(p_group_by text, p_provider_id text, p_model_id text)
RETURNS TABLE (id models.id%TYPE, member models.id%TYPE)
LANGUAGE plpgsql
STABLE
SET search_path FROM CURRENT
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
    FROM models AS m
    JOIN providers AS p ON p.id = m.provider_id
    WHERE (p_provider_id IS NULL OR p.id::text = p_provider_id)
      AND (p_model_id IS NULL OR m.id::text = p_model_id);
END
$function$;

SELECT chat_stats_adopt_function('chat_stats_groups');
