-- Whether the requests have an index, in which all of them are, that begins with the column $1.
SELECT EXISTS (
    SELECT
    FROM pg_index AS i
    JOIN pg_class AS c ON c.oid = i.indexrelid
    JOIN pg_am AS m ON m.oid = c.relam AND m.amname = 'btree'
    JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
    WHERE i.indrelid = 'gateway_schema.chat_completion_requests'::regclass
      AND i.indisvalid AND i.indpred IS NULL AND a.attname::text = $1::text
) AS exists
