-- By how many seconds the clocks of a time zone are ahead of UTC at each moment.
-- $1: the moments; $2: the time zone.
SELECT
    u.moment,
    date_part('epoch', (u.moment AT TIME ZONE $2::text) - (u.moment AT TIME ZONE 'UTC'))::integer AS seconds
FROM unnest($1::timestamptz[]) AS u (moment)
