-- The value of a dimension as rollups keep it. It is a part of a key, and keys have a longest length: of more than 128
-- characters, the first 95 are kept, and a hash of all. It fails for no value, since writers compute it.
SELECT chat_stats_install('chat_stats_dimension_value', $install$
CREATE OR REPLACE FUNCTION stats_schema.chat_stats_dimension_value(p_value text)
RETURNS text
LANGUAGE sql
IMMUTABLE
PARALLEL SAFE
RETURN CASE
    WHEN length(p_value) <= 128 THEN p_value
    ELSE left(p_value, 95) || '~'::text
        || lpad(to_hex(hashtextextended(p_value COLLATE "C", 0::bigint)), 16, '0'::text)
        || lpad(to_hex(hashtextextended(p_value COLLATE "C", 1::bigint)), 16, '0'::text)
END COLLATE "C";
$install$);
