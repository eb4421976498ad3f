-- what a device reports as its interval is what is expected of it; numbers of a unit are kept as long as its readings
-- depends: 0029_rotation

-- migrate: apply
ALTER TABLE iot.seq_range ADD COLUMN changed_at timestamptz NOT NULL DEFAULT now();

-- How often a device speaks since it was set to, in its own word; where that makes sense.
CREATE VIEW iot.configured_interval AS
SELECT device_id, make_interval(secs => seconds) AS every FROM iot.twin CROSS JOIN LATERAL (
    SELECT CASE WHEN jsonb_typeof(reported -> 'interval') = 'number'
        THEN (reported ->> 'interval')::double precision END AS seconds
) said WHERE seconds BETWEEN 1 AND 604800;

-- As before, and of a device that was configured to speak more often or more seldom, that interval is expected.
CREATE OR REPLACE FUNCTION telemetry.completeness(start timestamptz, stop timestamptz, devices integer[] DEFAULT NULL)
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
                SELECT fed.device_id, COALESCE(configured.every, profile.every) AS every,
                    GREATEST(unit.mounted_from, $1) AS since, LEAST(unit.mounted_to, $2, now()) AS until
                FROM fed JOIN iot.unit ON unit.id = fed.unit_id JOIN iot.device ON device.id = fed.device_id
                LEFT JOIN iot.profile ON profile.model = unit.profile
                LEFT JOIN iot.configured_interval configured ON configured.device_id = fed.device_id
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

-- migrate: rollback
