-- an alarm was taken when a person first took it: opening it again and taking it once more does not change that
-- depends: 0026_schedule_wakes

-- migrate: apply
-- The first acknowledgement (or closing) of each alarm that was not undone by the deed after it.
CREATE VIEW iot.alarm_taken AS
SELECT DISTINCT ON (alarm_id) alarm_id, at, by FROM (
    SELECT id, alarm_id, kind, at, by, lead(kind) OVER (PARTITION BY alarm_id ORDER BY id) AS next
    FROM iot.alarm_event
    WHERE by IS NOT NULL AND kind IN ('acknowledged', 'assigned', 'shelved', 'closed', 'undone')
) deed WHERE kind IN ('acknowledged', 'closed') AND next IS DISTINCT FROM 'undone' ORDER BY alarm_id, id;

CREATE OR REPLACE VIEW iot.alarm_kpi_answer AS
SELECT e.at, a.id AS alarm_id, a.severity, t.by AS acknowledged_by, t.at - e.recorded_at AS took
FROM iot.alarm a JOIN LATERAL (
    SELECT at, recorded_at FROM iot.alarm_event WHERE alarm_id = a.id AND kind = 'raised' ORDER BY id LIMIT 1
) e ON true JOIN LATERAL (SELECT at, by FROM iot.alarm_taken WHERE alarm_id = a.id) t ON true
WHERE NOT a.simulated AND NOT a.test;

-- migrate: rollback
CREATE OR REPLACE VIEW iot.alarm_kpi_answer AS
SELECT e.at, a.id AS alarm_id, a.severity, a.acknowledged_by, a.acknowledged_at - e.recorded_at AS took
FROM iot.alarm a JOIN LATERAL (
    SELECT at, recorded_at FROM iot.alarm_event WHERE alarm_id = a.id AND kind = 'raised' ORDER BY id LIMIT 1
) e ON true
WHERE a.acknowledged_at IS NOT NULL AND NOT a.simulated AND NOT a.test;
DROP VIEW iot.alarm_taken;
