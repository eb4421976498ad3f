-- registry, held uplinks, alarms, outbox
-- depends:

-- migrate: apply
CREATE SCHEMA iot;
CREATE SCHEMA telemetry;
CREATE SCHEMA telemetry_part;   -- partitions of plain PostgreSQL; the relations people use stand in `telemetry`

-- Settings that can never change after the first start (timezone of the civil day).
CREATE TABLE iot.fixed_setting (
    key text PRIMARY KEY,
    value text NOT NULL
);

-- ---------------------------------------------------------------- classes
-- A metric's bit in the `bad` mask is assigned once and never reused; its number type is never changed silently.
CREATE TABLE iot.metric (
    class_key text NOT NULL,
    key text NOT NULL,
    bit smallint NOT NULL CHECK (bit BETWEEN 0 AND 62),
    sql_type text NOT NULL,
    ucum text NOT NULL,
    title_vi text NOT NULL,
    title_en text NOT NULL,
    retired_at timestamptz,
    PRIMARY KEY (class_key, key),
    UNIQUE (class_key, bit)
);

-- ---------------------------------------------------------------- registry
CREATE TABLE iot.area (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text NOT NULL UNIQUE CHECK (key ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    name text NOT NULL,
    name_en text,
    kind text NOT NULL DEFAULT 'zone',
    code text,
    parent_id integer REFERENCES iot.area,
    search text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE iot.device (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text NOT NULL UNIQUE CHECK (key ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    name text NOT NULL,
    class_key text NOT NULL,
    area_id integer REFERENCES iot.area,
    latitude double precision CHECK (latitude BETWEEN -90 AND 90),
    longitude double precision CHECK (longitude BETWEEN -180 AND 180),
    lifecycle text NOT NULL DEFAULT 'provisioned'
        CHECK (lifecycle IN ('planned', 'provisioned', 'active', 'maintenance', 'retired')),
    gateway_id integer REFERENCES iot.device,
    simulated boolean NOT NULL DEFAULT false,
    labels text[] NOT NULL DEFAULT '{}',
    notes text NOT NULL DEFAULT '',
    search text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    retired_at timestamptz
);
CREATE INDEX device_area ON iot.device (area_id);

-- The hardware mounted at a device from-to. History belongs to the device, the address to the unit.
CREATE TABLE iot.unit (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    device_id integer NOT NULL REFERENCES iot.device,
    profile text NOT NULL,
    serial text,
    firmware text,
    address text NOT NULL,
    secret_hash text,
    mounted_from timestamptz NOT NULL DEFAULT now(),
    mounted_to timestamptz CHECK (mounted_to >= mounted_from)
);
CREATE UNIQUE INDEX unit_address_mounted ON iot.unit (address) WHERE mounted_to IS NULL;
CREATE INDEX unit_device ON iot.unit (device_id, mounted_from);

-- A unit that feeds several devices (panels, gateways): channel -> device.
CREATE TABLE iot.channel (
    unit_id integer NOT NULL REFERENCES iot.unit,
    channel text NOT NULL,
    device_id integer NOT NULL REFERENCES iot.device,
    PRIMARY KEY (unit_id, channel)
);

-- Hot row: one write a device and batch, so it stays apart from iot.device and leaves room on its page.
CREATE TABLE iot.device_status (
    device_id integer PRIMARY KEY REFERENCES iot.device,
    last_received_at timestamptz,
    last_time timestamptz,
    said bigint NOT NULL DEFAULT 0,           -- bits of the metrics it ever said: nobody looks for the others
    online boolean,
    online_changed_at timestamptz,
    silent_since timestamptz
) WITH (fillfactor = 60);

-- What was stored or held of a unit's numbered messages; the gaps are the completeness record.
CREATE TABLE iot.seq_range (
    unit_id integer NOT NULL REFERENCES iot.unit,
    run text NOT NULL,
    seqs int8multirange NOT NULL,
    PRIMARY KEY (unit_id, run)
) WITH (fillfactor = 60);

-- ---------------------------------------------------------------- held
CREATE TABLE iot.held_uplink (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    received_at timestamptz NOT NULL,
    driver text NOT NULL,
    address text NOT NULL,
    topic text NOT NULL DEFAULT '',
    kind text NOT NULL DEFAULT 'telemetry',
    content_format integer,
    payload bytea,
    registers jsonb,
    unit_id integer REFERENCES iot.unit,
    device_id integer REFERENCES iot.device,
    reason text NOT NULL,
    detail text NOT NULL DEFAULT '',
    part jsonb
);
CREATE INDEX held_uplink_device ON iot.held_uplink (device_id, id);
CREATE INDEX held_uplink_unknown ON iot.held_uplink (address, id) WHERE reason = 'unknown_address';

-- Senders that nobody registered yet.
CREATE VIEW iot.inbox AS
SELECT address, min(driver) AS driver, count(*) AS messages, min(received_at) AS first_at, max(received_at) AS last_at
FROM iot.held_uplink WHERE reason = 'unknown_address' GROUP BY address;

-- ---------------------------------------------------------------- alarms
CREATE TABLE iot.alarm (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source_kind text NOT NULL CHECK (source_kind IN ('device', 'area', 'outside')),
    source_id bigint NOT NULL,
    device_id integer REFERENCES iot.device,
    rule text NOT NULL,
    severity text NOT NULL CHECK (severity IN ('critical', 'high', 'medium', 'low')),
    title_vi text NOT NULL,
    title_en text NOT NULL,
    metric text,
    value double precision,
    threshold double precision,
    latched boolean NOT NULL DEFAULT false,
    late boolean NOT NULL DEFAULT false,
    simulated boolean NOT NULL DEFAULT false,
    raised_at timestamptz NOT NULL,           -- rule clock: when it became true in the field
    received_at timestamptz NOT NULL,         -- when the uplink that raised it arrived
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    cleared_at timestamptz,
    acknowledged_at timestamptz,
    acknowledged_by text,
    closed_at timestamptz,
    version integer NOT NULL DEFAULT 1
);
-- Check-then-create is how others get doubles; this index is what makes one open alarm per source and rule true.
CREATE UNIQUE INDEX alarm_open ON iot.alarm (source_kind, source_id, rule) WHERE closed_at IS NULL;
CREATE INDEX alarm_device ON iot.alarm (device_id, id);

CREATE TABLE iot.alarm_event (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    alarm_id bigint NOT NULL REFERENCES iot.alarm,
    kind text NOT NULL CHECK (kind IN ('raised', 'returned', 'cleared', 'acknowledged', 'commented', 'closed')),
    at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    by text,
    value double precision,
    note text
);
CREATE INDEX alarm_event_alarm ON iot.alarm_event (alarm_id, id);

-- Where a rule stands for a source, written on transitions only. `due_at` is a timer that survives a crash.
CREATE TABLE iot.rule_state (
    source_kind text NOT NULL,
    source_id bigint NOT NULL,
    rule text NOT NULL,
    state text NOT NULL CHECK (state IN ('normal', 'pending', 'active')),
    since timestamptz NOT NULL,
    due_at timestamptz,
    last_time timestamptz NOT NULL,
    alarm_id bigint REFERENCES iot.alarm,
    PRIMARY KEY (source_kind, source_id, rule)
);
CREATE INDEX rule_state_due ON iot.rule_state (due_at) WHERE due_at IS NOT NULL;

-- ---------------------------------------------------------------- push
CREATE TABLE iot.push_target (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text NOT NULL UNIQUE CHECK (key ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    kind text NOT NULL CHECK (kind IN ('webhook')),
    url text NOT NULL,
    secret text NOT NULL,
    accepts_simulated boolean NOT NULL DEFAULT false,
    min_severity text NOT NULL DEFAULT 'low' CHECK (min_severity IN ('critical', 'high', 'medium', 'low')),
    created_at timestamptz NOT NULL DEFAULT now(),
    removed_at timestamptz
);

CREATE TABLE iot.outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    target_id integer NOT NULL REFERENCES iot.push_target,
    alarm_id bigint REFERENCES iot.alarm,     -- null: a test message
    message_id text NOT NULL UNIQUE,          -- the webhook-id: the same on every try
    body jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    next_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempts integer NOT NULL DEFAULT 0,
    claimed_until timestamptz,                -- a worker is sending it; past: the worker died, send it again
    last_status integer,
    last_error text,
    delivered_at timestamptz,
    dead_at timestamptz
);
CREATE INDEX outbox_open ON iot.outbox (target_id, next_at) WHERE delivered_at IS NULL AND dead_at IS NULL;
CREATE INDEX outbox_alarm ON iot.outbox (alarm_id, id);

-- ---------------------------------------------------------------- access
-- A sign-in code is good once; it becomes a session of the page. Both end with the token that they came from.
CREATE TABLE iot.token (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL DEFAULT 'token' CHECK (kind IN ('token', 'code', 'session')),
    parent_id integer REFERENCES iot.token ON DELETE CASCADE,
    name text NOT NULL,
    hash bytea NOT NULL UNIQUE,               -- SHA-256 of a 256-bit random token: nothing to guess, so no slow hash
    role text NOT NULL DEFAULT 'admin' CHECK (role IN ('viewer', 'technician', 'operator', 'admin')),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz
);

CREATE TABLE iot.audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    by text NOT NULL,
    action text NOT NULL,
    subject text NOT NULL,
    before jsonb,
    after jsonb
);
CREATE INDEX audit_subject ON iot.audit (subject, id);

-- One line a device for dashboards. An open alarm that names no metric is a silence rule's.
CREATE VIEW iot.device_overview AS
SELECT d.id AS device_id, d.key, d.name, d.class_key, d.latitude, d.longitude, d.simulated,
    a.key AS area, a.name AS area_name, s.last_received_at, s.online,
    CASE WHEN open.loud THEN 'alarm' WHEN open.silent THEN 'silent'
         WHEN s.last_received_at IS NULL THEN 'never' ELSE 'ok' END AS state
FROM iot.device d
LEFT JOIN iot.area a ON a.id = d.area_id
LEFT JOIN iot.device_status s ON s.device_id = d.id
LEFT JOIN (
    SELECT device_id, bool_or(metric IS NOT NULL) AS loud, bool_or(metric IS NULL) AS silent
    FROM iot.alarm WHERE closed_at IS NULL AND cleared_at IS NULL GROUP BY device_id
) open ON open.device_id = d.id
WHERE d.retired_at IS NULL;

-- ---------------------------------------------------------------- change notices
-- Told on COMMIT to every worker: which unit changed (registry), which alarm event happened (alarm), work for push.
CREATE FUNCTION iot.notify_unit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('iot_registry', '');
    RETURN NULL;
END $$;
CREATE TRIGGER unit_changed AFTER INSERT OR UPDATE OR DELETE ON iot.unit
    FOR EACH STATEMENT EXECUTE FUNCTION iot.notify_unit();
CREATE TRIGGER channel_changed AFTER INSERT OR UPDATE OR DELETE ON iot.channel
    FOR EACH STATEMENT EXECUTE FUNCTION iot.notify_unit();
CREATE TRIGGER device_changed AFTER UPDATE OF class_key, simulated, gateway_id ON iot.device
    FOR EACH STATEMENT EXECUTE FUNCTION iot.notify_unit();

CREATE FUNCTION iot.notify_alarm_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('iot_alarm', NEW.id::text);
    RETURN NULL;
END $$;
CREATE TRIGGER alarm_event_added AFTER INSERT ON iot.alarm_event
    FOR EACH ROW EXECUTE FUNCTION iot.notify_alarm_event();

CREATE FUNCTION iot.notify_outbox() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('iot_outbox', '');
    RETURN NULL;
END $$;
CREATE TRIGGER outbox_added AFTER INSERT ON iot.outbox
    FOR EACH STATEMENT EXECUTE FUNCTION iot.notify_outbox();

-- migrate: rollback
