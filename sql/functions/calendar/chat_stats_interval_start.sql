{% import 'macros/values.sql.j2' as values %}
-- The start of the interval of a time series in which a moment lies: 15m, 1h, 1d, 1w (from Monday) or 1mo, of
-- the calendar of a time zone. Each 15-minute UTC bucket lies in one interval: all zones' offsets are multiples
-- of 15 minutes, and an hour that a change of the clock repeats is two intervals. (Before 1972 some offsets were
-- not: there, too, a request counts where its bucket begins.)
SELECT chat_stats_install('chat_stats_interval_start', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_interval_start(
    p_interval text, p_moment timestamptz, p_timezone text
)
RETURNS timestamptz
LANGUAGE sql
STABLE
PARALLEL SAFE
RETURN {{ values.interval_start(
    'p_interval', 'stats_schema.chat_stats_bucket(p_moment)', 'p_moment', 'p_timezone'
) }};
$install$);
