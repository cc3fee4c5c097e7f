-- How many audits there were, and how far back the two sweeps of the audit have come; NULL: they begin at the latest
-- requests.
SELECT chat_stats_run($run$
ALTER TABLE stats_schema.chat_stats_rollup_state
    ADD COLUMN IF NOT EXISTS audits bigint NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS audited_week_from timestamptz,
    ADD COLUMN IF NOT EXISTS audited_from timestamptz;
$run$);
