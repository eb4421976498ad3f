-- signed images, and campaigns that bring them to devices in rings
-- depends: 0023_flat_cost

-- migrate: apply
CREATE TABLE iot.firmware_signer (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    public_key bytea NOT NULL UNIQUE CHECK (octet_length(public_key) = 32),   -- Ed25519
    added_by text NOT NULL,
    added_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz
);

CREATE TABLE iot.firmware_image (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model text NOT NULL,
    version text NOT NULL,
    sha256 bytea NOT NULL CHECK (octet_length(sha256) = 32),
    signature bytea NOT NULL CHECK (octet_length(signature) = 64),
    signer_id integer NOT NULL REFERENCES iot.firmware_signer,
    size integer NOT NULL CHECK (size > 0),
    image bytea NOT NULL,
    added_by text NOT NULL,
    added_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (model, version)
);
ALTER TABLE iot.firmware_image ALTER COLUMN image SET STORAGE EXTERNAL;   -- a range is read without the rest

CREATE TABLE iot.firmware_campaign (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    image_id integer NOT NULL REFERENCES iot.firmware_image,
    selector text NOT NULL,
    base_url text NOT NULL,                     -- devices fetch at base_url/firmware/image_id
    state text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'paused', 'done', 'stopped')),
    reason text NOT NULL DEFAULT '',
    fail_share real NOT NULL CHECK (fail_share BETWEEN 0 AND 1),
    rolls_back integer REFERENCES iot.firmware_campaign,
    by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE iot.firmware_update (
    campaign_id integer NOT NULL REFERENCES iot.firmware_campaign,
    device_id integer NOT NULL REFERENCES iot.device,
    ring integer NOT NULL,
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'running', 'succeeded', 'failed')),
    before text,                                -- the unit's version until then
    command_id bigint REFERENCES iot.command ON DELETE SET NULL,
    detail text NOT NULL DEFAULT '',            -- the device's own words
    problem jsonb,                              -- else why, as of a command
    ended_at timestamptz,
    PRIMARY KEY (campaign_id, device_id)
);
-- Never two at once on one device, whatever campaigns there are.
CREATE UNIQUE INDEX firmware_update_one ON iot.firmware_update (device_id) WHERE state = 'running';
CREATE INDEX firmware_update_open ON iot.firmware_update (campaign_id, ring) WHERE state IN ('waiting', 'running');

CREATE FUNCTION iot.tell_firmware() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('iot_firmware', '');
    RETURN NULL;
END $$;
CREATE TRIGGER tell AFTER INSERT OR UPDATE ON iot.firmware_campaign
    FOR EACH STATEMENT EXECUTE FUNCTION iot.tell_firmware();

-- migrate: rollback
DROP TABLE iot.firmware_update;
DROP TABLE iot.firmware_campaign;
DROP TABLE iot.firmware_image;
DROP TABLE iot.firmware_signer;
DROP FUNCTION iot.tell_firmware;
