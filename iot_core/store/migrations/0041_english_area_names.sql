-- what the English dashboards call an area: its English name, else the one it has
-- depends: 0040_heartbeats

-- migrate: apply
CREATE OR REPLACE VIEW iot.device_overview AS
SELECT d.id AS device_id, d.key, d.name, d.class_key, d.latitude, d.longitude, d.simulated,
    a.key AS area, a.name AS area_name, s.last_received_at, s.online,
    CASE WHEN open.loud THEN 'alarm' WHEN open.silent THEN 'silent'
         WHEN s.last_received_at IS NULL THEN 'never' ELSE 'ok' END AS state,
    CASE WHEN kept.device_id IS NOT NULL THEN 'maintenance' ELSE d.lifecycle END AS lifecycle,
    COALESCE(a.name_en, a.name) AS area_name_en
FROM iot.device d
LEFT JOIN iot.area a ON a.id = d.area_id
LEFT JOIN iot.device_status s ON s.device_id = d.id
LEFT JOIN (
    SELECT device_id, bool_or(metric IS NOT NULL) AS loud, bool_or(metric IS NULL) AS silent
    FROM iot.alarm WHERE closed_at IS NULL AND cleared_at IS NULL AND suppressed_by IS NULL AND NOT test
    GROUP BY device_id
) open ON open.device_id = d.id
LEFT JOIN (
    SELECT DISTINCT device_id FROM iot.maintained(now(), now()) WHERE kind = 'maintenance'
) kept ON kept.device_id = d.id
WHERE d.retired_at IS NULL;

CREATE OR REPLACE VIEW iot.completeness AS
SELECT day.start AS day, d.key AS device, d.name, a.key AS area, a.name AS area_name, c.class_key,
    COALESCE(c.expected, n.expected) AS expected, told.stored,
    told.stored::double precision / NULLIF(COALESCE(c.expected, n.expected), 0) AS share,
    CASE WHEN c.expected IS NOT NULL THEN 'interval' WHEN n.expected IS NOT NULL THEN 'seq' END AS source,
    n.expected AS numbers_expected, n.stored AS numbers_stored,
    COALESCE(a.name_en, a.name) AS area_name_en
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
