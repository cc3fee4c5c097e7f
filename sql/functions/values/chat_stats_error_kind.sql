-- The kind of error of a request that failed, by its status and its message.
SELECT chat_stats_install('chat_stats_error_kind', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_error_kind(p_status text, p_message text)
RETURNS text
LANGUAGE plpgsql
IMMUTABLE
PARALLEL SAFE
AS $function$
DECLARE
    message text := concat(
        ' ',
        translate(
            lower(concat(left(p_message, {{ error_kinds.characters }}), ' ', p_status)),
            {{ error_kinds.separators }}, {{ error_kinds.blanks }}
        ),
        ' '
    );
BEGIN
    RETURN CASE
{% for patterns, kind in error_kinds.kinds %}
        WHEN message LIKE ANY ({{ patterns }}) THEN {{ kind }}
{% endfor %}
        ELSE {{ error_kinds.other }}
    END;
END
$function$;
$install$);
