-- each failed try of a message with its time, for the trace of an alarm
-- depends: 0035_alarm_uplink_time

-- migrate: apply
ALTER TABLE iot.outbox ADD COLUMN tries jsonb NOT NULL DEFAULT '[]';  -- [{at, status, error}], the newest 40 that failed

-- migrate: rollback
ALTER TABLE iot.outbox DROP COLUMN tries;
