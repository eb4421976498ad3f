-- completeness: how often each model speaks, and what that makes of a span
-- depends: 0004_held

-- migrate: apply
-- From the profiles at each start; a model that is no longer installed keeps its row.
CREATE TABLE iot.profile (
    model text PRIMARY KEY,
    class_key text NOT NULL,
    every interval CHECK (every > interval '0'),      -- null: it speaks when something happens
    metrics text[] NOT NULL                           -- what it says it can say
);

-- What was expected of each device from `start` to `stop` (or until now), and what is stored of it, by its hours: more
-- than expected within one hour does not make up for another. `devices` null: all. `expected` null: nobody knows.
CREATE FUNCTION telemetry.completeness(start timestamptz, stop timestamptz, devices integer[] DEFAULT NULL)
RETURNS TABLE (device_id integer, class_key text, every interval, expected bigint, stored bigint)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    class text;
BEGIN
    FOR class IN
        SELECT DISTINCT d.class_key FROM iot.device d WHERE devices IS NULL OR d.id = ANY (devices)
    LOOP
        CONTINUE WHEN to_regclass(format('telemetry.%I', class || '_1h')) IS NULL;
        RETURN QUERY EXECUTE format($sql$
            WITH fed AS (
                SELECT unit.id AS unit_id, unit.device_id FROM iot.unit
                UNION SELECT channel.unit_id, channel.device_id FROM iot.channel
            ), mounted AS (
                SELECT fed.device_id, profile.every, GREATEST(unit.mounted_from, $1) AS since,
                    LEAST(unit.mounted_to, $2, now()) AS until
                FROM fed JOIN iot.unit ON unit.id = fed.unit_id JOIN iot.device ON device.id = fed.device_id
                LEFT JOIN iot.profile ON profile.model = unit.profile
                WHERE device.class_key = %1$L AND ($3 IS NULL OR device.id = ANY ($3))
                    AND unit.mounted_from < $2 AND COALESCE(unit.mounted_to, 'infinity') > $1
            ), wanted AS (
                SELECT m.device_id, min(m.every) AS every, min(m.since) AS since,
                    sum(floor(extract(epoch FROM m.until - m.since) / extract(epoch FROM m.every)))::bigint AS expected
                FROM mounted m WHERE m.until > m.since GROUP BY m.device_id
            ), heard AS (
                SELECT h.device_id, sum(LEAST(h.rows, GREATEST(
                    CASE WHEN w.every <= interval '1 hour' THEN ceil(3600 / extract(epoch FROM w.every)) END, 1
                )))::bigint AS stored
                FROM telemetry.%2$I h JOIN wanted w ON w.device_id = h.device_id
                WHERE h.time >= $1 AND h.time < $2 AND h.time > w.since - interval '1 hour'
                    AND ($3 IS NULL OR h.device_id = ANY ($3))
                GROUP BY h.device_id
            )
            SELECT w.device_id, %1$L::text, w.every, w.expected,
                LEAST(COALESCE(heard.stored, 0), COALESCE(w.expected, heard.stored))
            FROM wanted w LEFT JOIN heard ON heard.device_id = w.device_id
        $sql$, class, class || '_1h') USING start, stop, devices;
    END LOOP;
END $$;

-- One row for each device and civil day of the last month, for dashboards.
CREATE VIEW iot.completeness AS
SELECT day.start AS day, d.key AS device, d.name, a.key AS area, a.name AS area_name, c.class_key, c.expected, c.stored,
    c.stored::double precision / NULLIF(c.expected, 0) AS share
FROM (SELECT COALESCE((SELECT value FROM iot.fixed_setting WHERE key = 'timezone'), 'Asia/Ho_Chi_Minh') AS name) zone
CROSS JOIN LATERAL (
    SELECT (civil::timestamp AT TIME ZONE zone.name) AS start, ((civil + 1)::timestamp AT TIME ZONE zone.name) AS stop
    FROM (SELECT (now() AT TIME ZONE zone.name)::date - back AS civil FROM generate_series(0, 30) back) days
) day
CROSS JOIN LATERAL telemetry.completeness(day.start, day.stop) c
JOIN iot.device d ON d.id = c.device_id
LEFT JOIN iot.area a ON a.id = d.area_id;

-- migrate: rollback
