-- The bin of a time in a logarithmic histogram: bin i holds (1.04^(i-1), 1.04^i] ms, so that its middle is
-- within 2 % of each time in it. Up to a microsecond, and below 0, is bin -32768, whose middle is 0.
CREATE OR REPLACE FUNCTION chat_stats_bin(p_time_ms numeric)
RETURNS smallint
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
AS $function$
    SELECT CASE WHEN p_time_ms <= 0.001 THEN -32768
                ELSE ceil(ln(p_time_ms::double precision) / ln(1.04::double precision)) END::smallint
$function$;

SELECT chat_stats_register_function('chat_stats_bin(numeric)');
