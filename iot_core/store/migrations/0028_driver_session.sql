-- what drivers must know of their sessions after a restart: the births of Sparkplug B's nodes
-- depends: 0027_first_taken

-- migrate: apply
CREATE TABLE iot.driver_session (
    address text PRIMARY KEY,
    state bytea NOT NULL,              -- in the driver's own form
    changed_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX held_uplink_unborn ON iot.held_uplink (address, id) WHERE reason = 'no_birth';

-- migrate: rollback
DROP INDEX iot.held_uplink_unborn;
DROP TABLE iot.driver_session;
