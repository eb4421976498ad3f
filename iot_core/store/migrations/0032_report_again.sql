-- a station's file can be asked for anew, its first one too: the row stays until the new file is in its place
-- depends: 0031_alarm_uplink

-- migrate: apply
ALTER TABLE iot.report_file ADD COLUMN again boolean NOT NULL DEFAULT false;

-- migrate: rollback
ALTER TABLE iot.report_file DROP COLUMN again;
