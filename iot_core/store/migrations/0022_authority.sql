-- the authority's private key is a file of the state directory: a copy of the database makes no devices
-- depends: 0021_schedules

-- migrate: apply
ALTER TABLE iot.authority DROP COLUMN key_sealed;

-- migrate: rollback
ALTER TABLE iot.authority ADD COLUMN key_sealed bytea NOT NULL DEFAULT '';
