-- The time that stands for all of a bin of chat_stats_bin(): 2 * 1.04^i / 2.04, from which none of them is
-- further away than 2 %; with rounding, 2.5 %.
SELECT chat_stats_install('chat_stats_bin_value', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_bin_value(p_bin smallint)
RETURNS numeric
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
RETURN CASE
    WHEN p_bin = -32768 THEN 0
    ELSE round((2 * power(1.04::double precision, p_bin) / 2.04)::numeric, CASE WHEN p_bin > 0 THEN 2 ELSE 5 END)
END;
$install$);
