-- how far each unit's numbers had come when a civil day began, so that `seq` says what was to be expected of a day
-- depends: 0036_outbox_tries

-- migrate: apply
-- Civil days whose beginning is noted. Numbers that come while nothing runs count for the day in which it runs again.
CREATE TABLE iot.seq_day (start timestamptz PRIMARY KEY);

-- The number that would come next in a run when a day began; no row: as the day before.
CREATE TABLE iot.seq_mark (
    unit_id integer NOT NULL,
    run text NOT NULL,
    start timestamptz NOT NULL,
    next bigint NOT NULL,
    PRIMARY KEY (unit_id, run, start),
    FOREIGN KEY (unit_id, run) REFERENCES iot.seq_range ON DELETE CASCADE
);

-- When what is there already came, nobody knows: it counts for no day.
INSERT INTO iot.seq_mark (unit_id, run, start, next)
SELECT unit_id, run, '-infinity', upper(seqs) FROM iot.seq_range WHERE NOT isempty(seqs);

-- What the numbers of each device's units make of the civil days that a span touches: how many were used in them, and
-- how many of those came, whenever that was. No row: it used none. Nothing of days before the first that is noted.
CREATE FUNCTION telemetry.numbered(start timestamptz, stop timestamptz, devices integer[] DEFAULT NULL)
RETURNS TABLE (device_id integer, expected bigint, stored bigint) LANGUAGE sql STABLE AS $$
    WITH edge AS (
        SELECT max(day.start) FILTER (WHERE day.start <= $1) AS low, min(day.start) FILTER (WHERE day.start >= $2) AS high
        FROM iot.seq_day day
    )
    SELECT unit.device_id, sum(used.next - used.first)::bigint, sum(came.numbers)::bigint
    FROM edge CROSS JOIN iot.seq_range r JOIN iot.unit ON unit.id = r.unit_id
    CROSS JOIN LATERAL (
        SELECT GREATEST(lower(r.seqs), (
                SELECT m.next FROM iot.seq_mark m
                WHERE m.unit_id = r.unit_id AND m.run = r.run AND m.start <= edge.low ORDER BY m.start DESC LIMIT 1
            )) AS first,
            CASE WHEN edge.high IS NULL THEN upper(r.seqs) ELSE (
                SELECT m.next FROM iot.seq_mark m
                WHERE m.unit_id = r.unit_id AND m.run = r.run AND m.start <= edge.high ORDER BY m.start DESC LIMIT 1
            ) END AS next
        OFFSET 0 -- else each mention of an edge looks it up anew
    ) used
    CROSS JOIN LATERAL (
        SELECT COALESCE(sum(upper(each) - lower(each)), 0) AS numbers
        FROM unnest(r.seqs * int8multirange(int8range(used.first, GREATEST(used.first, used.next)))) AS each
    ) came
    WHERE edge.low IS NOT NULL AND used.next > used.first AND ($3 IS NULL OR unit.device_id = ANY ($3))
    GROUP BY unit.device_id
$$;

-- As before; and of a device that no interval is known of, what its numbers say. `source` tells which it was.
CREATE OR REPLACE VIEW iot.completeness AS
SELECT day.start AS day, d.key AS device, d.name, a.key AS area, a.name AS area_name, c.class_key,
    COALESCE(c.expected, n.expected) AS expected, told.stored,
    told.stored::double precision / NULLIF(COALESCE(c.expected, n.expected), 0) AS share,
    CASE WHEN c.expected IS NOT NULL THEN 'interval' WHEN n.expected IS NOT NULL THEN 'seq' END AS source,
    n.expected AS numbers_expected, n.stored AS numbers_stored
FROM (SELECT COALESCE((SELECT value FROM iot.fixed_setting WHERE key = 'timezone'), 'Asia/Ho_Chi_Minh') AS name) zone
CROSS JOIN LATERAL (
    SELECT (civil::timestamp AT TIME ZONE zone.name) AS start, ((civil + 1)::timestamp AT TIME ZONE zone.name) AS stop
    FROM (SELECT (now() AT TIME ZONE zone.name)::date - back AS civil FROM generate_series(0, 30) back) days
) day
CROSS JOIN LATERAL telemetry.completeness(day.start, day.stop) c
JOIN iot.device d ON d.id = c.device_id
LEFT JOIN iot.area a ON a.id = d.area_id
LEFT JOIN LATERAL telemetry.numbered(day.start, day.stop) n ON n.device_id = c.device_id
CROSS JOIN LATERAL (
    SELECT CASE WHEN c.expected IS NULL AND n.expected IS NOT NULL THEN n.stored ELSE c.stored END AS stored
) told;

-- migrate: rollback
