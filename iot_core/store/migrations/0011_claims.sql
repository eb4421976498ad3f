-- batch keys of factory runs, and the claims that new devices make with them
-- depends: 0010_push

-- migrate: apply
-- A batch's name cannot be a device's key (underscore): both are user names.
CREATE TABLE iot.batch (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text NOT NULL UNIQUE CHECK (key ~ '^b_[a-z0-9]{8,40}$'),
    name text NOT NULL DEFAULT '',
    secret_hash text NOT NULL,
    most integer NOT NULL CHECK (most > 0),
    profile text,
    networks cidr[] NOT NULL DEFAULT '{}',    -- empty: from everywhere
    until timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL,
    revoked_at timestamptz
);

-- `reply` is what the device made up (128 bits at least): who shows it again is the same device, anybody else a clone.
CREATE TABLE iot.claim (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    batch_id integer NOT NULL REFERENCES iot.batch,
    profile text NOT NULL,
    serial text NOT NULL,
    reply_hash bytea NOT NULL,
    driver text NOT NULL,
    came_from inet,
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'accepted', 'rejected')),
    contested integer NOT NULL DEFAULT 0,     -- how often somebody else showed this serial number
    unit_id integer REFERENCES iot.unit,
    claimed_at timestamptz NOT NULL DEFAULT now(),
    last_at timestamptz NOT NULL DEFAULT now(),
    decided_at timestamptz,
    issued_at timestamptz,                    -- when its secret was first given
    CHECK ((state = 'accepted') = (unit_id IS NOT NULL))
);
CREATE UNIQUE INDEX claim_once ON iot.claim (profile, serial) WHERE state <> 'rejected';
CREATE INDEX claim_batch ON iot.claim (batch_id);
CREATE INDEX unit_serial ON iot.unit (serial) WHERE mounted_to IS NULL;

-- migrate: rollback
DROP INDEX iot.unit_serial;
DROP TABLE iot.claim;
DROP TABLE iot.batch;
