-- a second secret while one is rotated; bridges, whose new devices may be heard; our own certificate authority
-- depends: 0014_commands

-- migrate: apply
-- The old secret holds until the new one was shown once, or somebody says so.
ALTER TABLE iot.unit ADD COLUMN next_hash text, ADD COLUMN next_since timestamptz;

-- A device's login may speak on everything below these topics: devices behind it are heard before they are registered.
CREATE TABLE iot.bridge (
    device_id integer NOT NULL REFERENCES iot.device,
    topic text NOT NULL,                      -- `zigbee2mqtt`: it and all below it
    PRIMARY KEY (device_id, topic)
);
CREATE TRIGGER bridge_changed AFTER INSERT OR DELETE ON iot.bridge
    FOR EACH STATEMENT EXECUTE FUNCTION iot.notify_unit();

CREATE TABLE iot.authority (
    id integer PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    certificate text NOT NULL,
    key_sealed bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE iot.certificate (
    serial text PRIMARY KEY,                  -- hexadecimal
    device_id integer NOT NULL REFERENCES iot.device,
    not_after timestamptz NOT NULL,
    issued_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz
);
CREATE INDEX certificate_device ON iot.certificate (device_id);
CREATE TRIGGER certificate_changed AFTER INSERT OR UPDATE ON iot.certificate
    FOR EACH STATEMENT EXECUTE FUNCTION iot.notify_unit();

-- migrate: rollback
DROP TABLE iot.certificate;
DROP TABLE iot.authority;
DROP TABLE iot.bridge;
ALTER TABLE iot.unit DROP COLUMN next_hash, DROP COLUMN next_since;
