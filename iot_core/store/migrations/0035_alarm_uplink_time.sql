-- when a kept uplink was measured stands with the reading it made; of one that says several times, one column is wrong
-- depends: 0034_many_alarms

-- migrate: apply
ALTER TABLE iot.alarm_uplink DROP COLUMN measured_at;

-- migrate: rollback
ALTER TABLE iot.alarm_uplink ADD COLUMN measured_at timestamptz;
UPDATE iot.alarm_uplink SET measured_at = received_at;
ALTER TABLE iot.alarm_uplink ALTER COLUMN measured_at SET NOT NULL;
