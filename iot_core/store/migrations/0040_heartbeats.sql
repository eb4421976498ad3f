-- the heartbeat of a center that feeds us: when the last came, and within how many seconds the next was promised
-- depends: 0039_two_accounts

-- migrate: apply
ALTER TABLE iot.center ADD COLUMN beat_at timestamptz, ADD COLUMN beat_within_s double precision;  -- null: it sends none

-- migrate: rollback
ALTER TABLE iot.center DROP COLUMN beat_at, DROP COLUMN beat_within_s;
