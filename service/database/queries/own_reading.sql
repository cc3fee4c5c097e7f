-- For the rest of the transaction, what our functions that read rollups are given: memory for a hundred thousand groups,
-- and no compilation, which takes longer than these statements do; nor groups that are sorted by all of their values where
-- hashing joins them.
SELECT
    set_config('jit', 'off', true),
    set_config('enable_mergejoin', 'off', true),
    set_config('work_mem', GREATEST(pg_size_bytes(current_setting('work_mem')) / 1024, 32768) || 'kB', true)
