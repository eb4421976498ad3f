-- escalation chains; other centers and their alarms
-- depends: 0012_maintenance

-- migrate: apply
CREATE TABLE iot.escalation_chain (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text NOT NULL CHECK (key ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    steps jsonb NOT NULL,                     -- [{after_s, target, hours}]
    repeat_s integer NOT NULL,
    remind text[] NOT NULL DEFAULT '{}',      -- times of day: named again while open though acknowledged
    min_severity text NOT NULL DEFAULT 'low' CHECK (min_severity IN ('critical', 'high', 'medium', 'low')),
    classes text[] NOT NULL DEFAULT '{}',
    areas text[] NOT NULL DEFAULT '{}',
    hours text NOT NULL DEFAULT '',
    accepts_simulated boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    removed_at timestamptz
);
CREATE UNIQUE INDEX escalation_chain_key ON iot.escalation_chain (key) WHERE removed_at IS NULL;

-- An alarm on a chain, from its raising until it closes.
CREATE TABLE iot.escalation (
    alarm_id bigint NOT NULL REFERENCES iot.alarm ON DELETE CASCADE,
    chain_id integer NOT NULL REFERENCES iot.escalation_chain,
    stage text NOT NULL DEFAULT 'waiting' CHECK (stage IN ('waiting', 'taken')),
    step integer NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL,
    rung integer NOT NULL DEFAULT 0,
    PRIMARY KEY (alarm_id, chain_id)
);
CREATE INDEX escalation_due ON iot.escalation (due_at);

-- ---------------------------------------------------------------- other centers
CREATE TABLE iot.center (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text NOT NULL CHECK (key ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    name text NOT NULL,
    secret text NOT NULL,
    area_id integer REFERENCES iot.area,
    created_at timestamptz NOT NULL DEFAULT now(),
    heard_at timestamptz,
    removed_at timestamptz
);
CREATE UNIQUE INDEX center_key ON iot.center (key) WHERE removed_at IS NULL;

-- One alarm of another center, which is the source (kind `outside`) of one of ours. `via`: cores it came through.
CREATE TABLE iot.outside_source (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    center_id integer NOT NULL REFERENCES iot.center,
    ref text NOT NULL,
    via text[] NOT NULL DEFAULT '{}',
    area_id integer REFERENCES iot.area,
    class_key text,
    name text,
    latitude double precision,
    longitude double precision,
    UNIQUE (center_id, ref)
);

-- Message ids that were taken: a repeat changes nothing.
CREATE TABLE iot.center_message (
    center_id integer NOT NULL REFERENCES iot.center,
    message_id text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (center_id, message_id)
);

-- migrate: rollback
DROP TABLE iot.center_message, iot.outside_source, iot.center;
DROP TABLE iot.escalation, iot.escalation_chain;
