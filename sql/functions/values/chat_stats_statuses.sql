-- The statuses that chat_stats_is_success() and chat_stats_is_pending() know: the service compares them with its settings.
SELECT chat_stats_install('chat_stats_statuses', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_statuses()
RETURNS jsonb
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
RETURN jsonb_build_object(
    'success', jsonb_build_array({{ statuses.success_sorted }}),
    'pending', jsonb_build_array({{ statuses.pending_sorted }})
);
$install$);
