-- what was raised while it was kept quiet did not ring, also when it is not kept quiet any more
-- depends: 0042_oscore_beside

-- migrate: apply
-- Quiet then: what ends first after it is a silence that held; nothing ended since: as the alarm is now.
CREATE OR REPLACE VIEW iot.alarm_rang AS
SELECT e.at, a.id AS alarm_id, a.rule, a.severity, a.source_kind, a.source_id, a.device_id, d.area_id
FROM iot.alarm_event e JOIN iot.alarm a ON a.id = e.alarm_id LEFT JOIN iot.device d ON d.id = a.device_id
LEFT JOIN LATERAL (
    SELECT kind = 'unsuppressed' AS quiet FROM iot.alarm_event
    WHERE alarm_id = e.alarm_id AND id > e.id AND kind IN ('suppressed', 'unsuppressed') ORDER BY id LIMIT 1
) suppressed ON true
LEFT JOIN LATERAL (
    SELECT kind <> 'shelved' AS quiet FROM iot.alarm_event
    WHERE alarm_id = e.alarm_id AND id > e.id
        AND (kind IN ('shelved', 'unshelved') OR (kind = 'undone' AND note = 'shelved')) ORDER BY id LIMIT 1
) shelved ON true
WHERE e.kind = 'raised' AND NOT a.test AND NOT a.simulated
    AND NOT COALESCE(suppressed.quiet, a.suppressed_by IS NOT NULL)
    AND NOT COALESCE(shelved.quiet, a.shelved_until > e.at, false);

-- migrate: rollback
CREATE OR REPLACE VIEW iot.alarm_rang AS
SELECT e.at, a.id AS alarm_id, a.rule, a.severity, a.source_kind, a.source_id, a.device_id, d.area_id
FROM iot.alarm_event e JOIN iot.alarm a ON a.id = e.alarm_id LEFT JOIN iot.device d ON d.id = a.device_id
WHERE e.kind = 'raised' AND a.suppressed_by IS NULL AND NOT a.test AND NOT a.simulated
    AND NOT (a.shelved_until IS NOT NULL AND a.shelved_until > e.at);
