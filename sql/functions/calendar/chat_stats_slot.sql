-- The place of a bucket among the 96 of its UTC day; 0 for an infinite one, and for none.
SELECT chat_stats_install('chat_stats_slot', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_slot(p_bucket timestamptz)
RETURNS smallint
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
RETURN COALESCE(
    date_part('hour', p_bucket AT TIME ZONE 'UTC') * 4 + date_part('minute', p_bucket AT TIME ZONE 'UTC') / 15, 0
)::smallint;
$install$);
