-- an alarm keeps what its rule told people to do when it was raised: it goes out with every message
-- depends: 0024_firmware

-- migrate: apply
ALTER TABLE iot.alarm ADD COLUMN runbook_vi text, ADD COLUMN runbook_en text;

-- migrate: rollback
ALTER TABLE iot.alarm DROP COLUMN runbook_vi, DROP COLUMN runbook_en;
