-- what is held of a message is held once, and a message is found again by what it is
-- depends: 0003_rollups

-- migrate: apply
ALTER TABLE iot.held_uplink
    ADD COLUMN retained boolean NOT NULL DEFAULT false,
    ADD COLUMN message bytea,          -- digest: rows of one message have the same; a redelivery too, where it can be told
    ADD COLUMN problem bytea;          -- digest of what is wrong with it

UPDATE iot.held_uplink SET
    message = substr(sha256(convert_to(address || ' ' || topic || ' ' || received_at::text, 'UTF8')
        || coalesce(payload, convert_to(coalesce(registers::text, ''), 'UTF8'))), 1, 16),
    problem = substr(sha256(convert_to(id::text, 'UTF8')), 1, 8);

ALTER TABLE iot.held_uplink ALTER COLUMN message SET NOT NULL, ALTER COLUMN problem SET NOT NULL;
CREATE UNIQUE INDEX held_uplink_once ON iot.held_uplink (message, problem);
CREATE INDEX held_uplink_reason ON iot.held_uplink (reason, id);

-- migrate: rollback
