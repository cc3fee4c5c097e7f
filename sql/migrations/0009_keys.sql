-- The keys of `chat-stats key create`: what each may read. The keys themselves are kept nowhere.
SELECT chat_stats_run($run$
DO $migration$
BEGIN
    CREATE TABLE IF NOT EXISTS stats_schema.chat_stats_keys (
        name text PRIMARY KEY,
        -- SHA-256 of the key. A key is 256 random bits, which no computer can try out: a slow hash would add nothing.
        hash bytea NOT NULL UNIQUE CHECK (length(hash) = 32),
        -- A list of {"dimension", "declared", "value"}: see service/catalogue/scopes.py.
        scope jsonb NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now()
    );
    PERFORM stats_schema.chat_stats_close_tables();
END
$migration$;
$run$);
