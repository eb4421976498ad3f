-- what devices should be set to, and what they say they are
-- depends: 0015_provisioning

-- migrate: apply
CREATE TABLE iot.twin (
    device_id integer PRIMARY KEY REFERENCES iot.device ON DELETE CASCADE,
    desired jsonb NOT NULL DEFAULT '{}',
    version bigint NOT NULL DEFAULT 0,           -- of `desired`: grows by one with every change
    changed_at timestamptz,
    changed_by text,
    reported jsonb NOT NULL DEFAULT '{}',
    reported_version bigint NOT NULL DEFAULT 0,  -- the version of `desired` that the device has dealt with
    reported_at timestamptz,
    refused jsonb NOT NULL DEFAULT '{}',         -- key -> why the device does not take it
    told_version bigint NOT NULL DEFAULT 0,      -- handed to the broker, or ordered as commands
    next_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    orders jsonb NOT NULL DEFAULT '{}'           -- key -> the order of commands that carries it, where commands do
);
CREATE INDEX twin_untold ON iot.twin (next_at) WHERE reported_version < version;

CREATE FUNCTION iot.notify_twin() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('iot_twin', '');
    RETURN NULL;
END $$;
CREATE TRIGGER twin_changed AFTER INSERT OR UPDATE OF version ON iot.twin
    FOR EACH STATEMENT EXECUTE FUNCTION iot.notify_twin();

-- migrate: rollback
DROP TABLE iot.twin;
DROP FUNCTION iot.notify_twin;
