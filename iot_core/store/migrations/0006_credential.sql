-- what the core itself must show or compute with: logins of cameras, OSCORE keys
-- depends: 0005_completeness

-- migrate: apply
CREATE TABLE iot.credential (
    unit_id integer NOT NULL REFERENCES iot.unit,
    kind text NOT NULL CHECK (kind IN ('login', 'oscore')),
    public jsonb NOT NULL DEFAULT '{}',
    secret bytea NOT NULL,                    -- in clear: no view, export, audit row or log may read it
    counter bigint NOT NULL DEFAULT 0,        -- numbers taken for nonces; none is ever given twice
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (unit_id, kind)
);

-- migrate: rollback
DROP TABLE iot.credential;
