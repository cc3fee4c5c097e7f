"""Whether the rollups give the numbers of a scan, and whether anything has drifted."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import asyncpg

from chat_stats.service.catalogue.measures import MEASURES

SUMS = ", ".join(
    f"sum(u.{measure.total}){'::bigint' if measure.type == 'bigint' else ''}" for measure in MEASURES
)

#: Compares on one snapshot, that of the statement which calls it; each row describes a difference.
COMPARISON = """
CREATE FUNCTION compare_with_scan(starts text[], ends text[], providers text[], models text[])
RETURNS SETOF text LANGUAGE plpgsql STABLE SET timezone = 'UTC' AS $$
BEGIN
    FOR i IN 1 .. cardinality(starts) LOOP
        RETURN QUERY
        SELECT format('[%s, %s) provider %s model %s: scan %s, rollup %s',
                      starts[i], ends[i], providers[i], models[i], s, r)
        FROM chat_stats_scan(starts[i]::timestamptz, ends[i]::timestamptz, providers[i], models[i], NULL) AS s
        FULL JOIN chat_stats_rolled_up(
            starts[i]::timestamptz, ends[i]::timestamptz, providers[i], models[i], NULL
        ) AS r ON COALESCE(r.model_id::text, '') = COALESCE(s.model_id::text, '')
        WHERE s IS DISTINCT FROM r;
        RETURN QUERY
        SELECT format('[%s, %s): sums of a scan %s, of the rollup of all %s', starts[i], ends[i], s, r)
        FROM (
            SELECT {sums}
            FROM chat_stats_scan(starts[i]::timestamptz, ends[i]::timestamptz, NULL, NULL, NULL) AS u
            HAVING count(*) > 0
        ) AS s
        FULL JOIN chat_stats_rolled_up_total(starts[i]::timestamptz, ends[i]::timestamptz) AS r ON true
        WHERE s IS DISTINCT FROM r;
        CONTINUE WHEN i > 2;  -- histograms cost more: those of all time and of one range
        RETURN QUERY
        SELECT format('[%s, %s) provider %s model %s: histogram of a scan %s, of the rollup %s',
                      starts[i], ends[i], providers[i], models[i], s, r)
        FROM chat_stats_scan_histograms(
            NULL, NULL, 'model', starts[i]::timestamptz, ends[i]::timestamptz, providers[i], models[i], NULL
        ) AS s
        FULL JOIN chat_stats_rolled_up_histograms(
            'model', starts[i]::timestamptz, ends[i]::timestamptz, providers[i], models[i], NULL
        ) AS r ON COALESCE(r.member::text, '') = COALESCE(s.member::text, '')
        WHERE (s.bins, s.counts, s.total) IS DISTINCT FROM (r.bins, r.counts, r.total);
        RETURN QUERY
        SELECT format('[%s, %s): histogram of a scan %s, of the rollup of all %s', starts[i], ends[i], s, r)
        FROM chat_stats_scan_histograms(
            NULL, NULL, 'none', starts[i]::timestamptz, ends[i]::timestamptz, NULL, NULL, NULL
        ) AS s
        FULL JOIN chat_stats_rolled_up_histograms(
            'none', starts[i]::timestamptz, ends[i]::timestamptz, NULL, NULL, NULL
        ) AS r ON true
        WHERE (s.bins, s.counts, s.total) IS DISTINCT FROM (r.bins, r.counts, r.total);
    END LOOP;
END $$
""".replace("{sums}", SUMS)

#: Requests that were purged are moved aside into purged_requests, and scanned with those that are left. Of a
#: purged one no more is to be known than its bucket, so it counts where that begins.
MODEL = """
CREATE TABLE purged_requests (LIKE chat_completion_requests);
CREATE VIEW all_requests AS
    SELECT * FROM (
        SELECT model_id, input_tokens, output_tokens, processing_time_ms, status, cost_usd, created_at
        FROM chat_completion_requests
    ) AS r
    UNION ALL
    SELECT
        model_id, input_tokens, output_tokens, processing_time_ms, status, cost_usd,
        date_bin('15 minutes', created_at, '2000-01-01T00:00:00Z')
    FROM purged_requests;

CREATE FUNCTION scan_all_requests(
    p_start timestamptz, p_end timestamptz, p_provider_id text, p_model_id text, p_model_name text
)
RETURNS TABLE (
    model_id bigint, total_requests bigint, successful_requests bigint, pending_requests bigint,
    total_input_tokens numeric, total_output_tokens numeric,
    timed_requests bigint, total_processing_time_ms numeric, total_cost_usd numeric
)
LANGUAGE sql STABLE AS $$
    SELECT
        r.model_id, count(*), count(*) FILTER (WHERE lower(r.status) IN ('completed', 'ok')),
        count(*) FILTER (WHERE lower(r.status) IN ('pending', 'partial')),
        COALESCE(sum(r.input_tokens), 0), COALESCE(sum(r.output_tokens), 0),
        count(*) FILTER (WHERE abs(r.processing_time_ms) <= 1e15),
        COALESCE(sum(r.processing_time_ms) FILTER (WHERE abs(r.processing_time_ms) <= 1e15), 0),
        COALESCE(sum(r.cost_usd) FILTER (WHERE abs(r.cost_usd) <= 1e15), 0)
    FROM all_requests AS r
    WHERE (p_start IS NULL OR r.created_at >= p_start) AND (p_end IS NULL OR r.created_at < p_end)
      AND (p_model_id IS NULL AND p_provider_id IS NULL OR r.model_id IN (
          SELECT m.id FROM models AS m
          WHERE (p_model_id IS NULL OR m.id::text = p_model_id)
            AND (p_provider_id IS NULL OR m.provider_id::text = p_provider_id)
      ))
    GROUP BY r.model_id
$$;

CREATE FUNCTION scan_all_requests_total(p_start timestamptz, p_end timestamptz)
RETURNS TABLE (
    total_requests bigint, successful_requests bigint, pending_requests bigint,
    total_input_tokens numeric, total_output_tokens numeric,
    timed_requests bigint, total_processing_time_ms numeric, total_cost_usd numeric
)
LANGUAGE sql STABLE AS $$
    SELECT {sums} FROM scan_all_requests(p_start, p_end, NULL, NULL, NULL) AS u HAVING count(*) > 0
$$;

CREATE FUNCTION scan_all_requests_histograms(
    p_group_by text, p_start timestamptz, p_end timestamptz,
    p_provider_id text, p_model_id text, p_model_name text
)
RETURNS TABLE (member bigint, bins smallint[], counts bigint[], total bigint)
LANGUAGE sql STABLE AS $$
    SELECT b.member, array_agg(b.bin ORDER BY b.bin), array_agg(b.n ORDER BY b.bin), sum(b.n)::bigint
    FROM (
        SELECT CASE WHEN p_group_by = 'model' AND p.id IS NOT NULL THEN m.id END AS member,
            chat_stats_bin(r.processing_time_ms) AS bin, count(*) AS n
        FROM all_requests AS r
        LEFT JOIN (models AS m JOIN providers AS p ON p.id = m.provider_id) ON m.id = r.model_id
        WHERE (p_start IS NULL OR r.created_at >= p_start) AND (p_end IS NULL OR r.created_at < p_end)
          AND abs(r.processing_time_ms) <= 1e15
          AND (p_model_id IS NULL OR m.id::text = p_model_id)
          AND (p_provider_id IS NULL OR p.id::text = p_provider_id)
          AND (p_model_id IS NULL OR p.id IS NOT NULL)
        GROUP BY 1, 2
    ) AS b
    GROUP BY b.member
$$;

-- As a scan is asked, with an interval and a time zone: there are none.
CREATE FUNCTION scan_all_requests_histograms(text, text, text, timestamptz, timestamptz, text, text, text)
RETURNS TABLE (member bigint, bins smallint[], counts bigint[], total bigint)
LANGUAGE sql STABLE AS 'SELECT * FROM scan_all_requests_histograms($3, $4, $5, $6, $7, $8)';
""".replace("{sums}", SUMS)

#: Compares the rollup, and then what the functions scan without it, with all requests.
COMPARISON_WITH_MODEL = (
    COMPARISON.replace("chat_stats_scan", "scan_all_requests")
    + ";"
    + COMPARISON.replace("chat_stats_rolled_up", "scan_all_requests").replace(
        "compare_with_scan", "compare_scan_with_model"
    )
    + ";"
)

#: Buckets that differ from the requests, and places where months and lifetime differ from the days.
DRIFT = """
SELECT (SELECT count(*) FROM chat_stats_rollup_differences('-infinity', 'infinity'))
     + (SELECT count(*) FROM chat_stats_rollup_differences(NULL, NULL))
     + chat_stats_rollup_tier_drift()
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """A range and what it is narrowed to, as texts: not every moment of Postgres is one of Python."""

    start: str | None = None
    end: str | None = None
    provider: str | None = None
    model: str | None = None


ALL_TIME = Asked()

#: Edges of buckets, days, months and of time itself, and moments within buckets.
MOMENTS = (
    "-infinity",
    "4714-11-24 00:00:00+00 BC",
    "0044-03-15 12:34:56+00 BC",
    "1899-12-31 23:59:59.999999+00",
    "2023-12-31 23:45:00+00",
    "2024-01-01 00:00:00+00",
    "2024-01-01 00:00:00.000001+00",
    "2024-01-31 23:59:59.999999+00",
    "2024-02-01 00:00:00+00",
    "2024-02-28 11:14:59.999999+00",
    "2024-02-28 11:15:00+00",
    "2024-02-28 11:29:59.999999+00",
    "2024-02-29 00:00:00+00",
    "2024-02-29 23:50:00+00",
    "2024-03-01 00:00:00+00",
    "2024-03-01 00:07:30+00",
    "2024-03-31 23:45:00+00",
    "2024-04-01 00:00:00+00",
    "2024-04-02 03:04:05.678901+00",
    "yesterday",
    "today",
    "now",
    "tomorrow",
    "2200-01-01 00:00:00+00",
    "250000-06-15 00:00:01+00",
    "294276-12-31 23:44:59.999999+00",
    "infinity",
)


def some_questions(random: Random, count: int) -> list[Asked]:
    """Return all time, and ranges at random: aligned, ragged, one-sided, within a bucket, narrowed."""
    asked = [ALL_TIME]
    for _ in range(count):
        start: str | None = _moment(random)
        end: str | None = _moment(random)
        kind = random.random()
        if kind < 0.15:
            start = None
        elif kind < 0.3:
            end = None
        elif kind < 0.4:
            start = end = None
        provider = str(random.randint(1, 3)) if random.random() < 0.3 else None
        model = str(random.randint(1, 7)) if random.random() < 0.3 else None
        asked.append(Asked(start, end, provider, model))
    return asked


def _moment(random: Random) -> str:
    if random.random() < 0.5:
        return random.choice(MOMENTS)
    day = f"2024-0{random.randint(1, 4)}-{random.randint(1, 29):02d}"
    clock = random.choice(
        (
            "00:00",
            f"{random.randint(0, 23):02d}:{random.choice((0, 15, 30, 45)):02d}",
            f"{random.randint(0, 23):02d}:{random.randint(0, 59):02d}:{random.random() * 59:09.6f}",
        )
    )
    return f"{day} {clock}+00"


async def differences(connection: asyncpg.Connection, questions: Sequence[Asked] = (ALL_TIME,)) -> list[str]:
    """Return where the rollup does not give what a scan gives, in one snapshot."""
    rows = await connection.fetch(
        "SELECT * FROM compare_with_scan($1, $2, $3, $4)",
        [asked.start for asked in questions],
        [asked.end for asked in questions],
        [asked.provider for asked in questions],
        [asked.model for asked in questions],
    )
    return [row[0] for row in rows]


async def assert_exact(connection: asyncpg.Connection, *, seed: int = 0, count: int = 20) -> None:
    """Fail unless the rollup gives what a scan gives for many ranges, and nothing has drifted."""
    assert await differences(connection, some_questions(Random(seed), count)) == []  # noqa: S311
    assert await connection.fetchval(DRIFT) == 0
