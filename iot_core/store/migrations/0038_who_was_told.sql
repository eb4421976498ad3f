-- who was told of an alarm is looked up by alarm and target, the newest first; other cores number their alarms' changes
-- depends: 0037_numbers_of_a_day

-- migrate: apply
DROP INDEX iot.outbox_alarm;
CREATE INDEX outbox_alarm ON iot.outbox (alarm_id, target_id, id);
ALTER TABLE iot.outside_source ADD COLUMN version integer;  -- of the last change taken; null: its center sends none

-- migrate: rollback
ALTER TABLE iot.outside_source DROP COLUMN version;
DROP INDEX iot.outbox_alarm;
CREATE INDEX outbox_alarm ON iot.outbox (alarm_id, id);
