-- schedules by the clock only need nobody to know where their devices stand
-- depends: 0044_revoked

-- migrate: apply
ALTER TABLE iot.schedule ALTER COLUMN latitude DROP NOT NULL, ALTER COLUMN longitude DROP NOT NULL;

-- migrate: rollback
DELETE FROM iot.schedule WHERE latitude IS NULL;
ALTER TABLE iot.schedule ALTER COLUMN latitude SET NOT NULL, ALTER COLUMN longitude SET NOT NULL;
