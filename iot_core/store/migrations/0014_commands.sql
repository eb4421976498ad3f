-- commands with a life: orders, and a command of it for each device
-- depends: 0013_exchange

-- migrate: apply
-- One request of a person or a schedule: the same command to one device or many.
CREATE TABLE iot.command_order (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    params jsonb NOT NULL,
    selector text NOT NULL DEFAULT '',
    by text NOT NULL,
    source text NOT NULL DEFAULT 'person' CHECK (source IN ('person', 'schedule', 'twin', 'firmware')),
    idempotency_key text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    rate real CHECK (rate > 0),                 -- commands a second; null: as fast as they go
    stop_after integer CHECK (stop_after > 0),  -- this many failed: the rest is not sent
    stopped_at timestamptz,
    second_person boolean NOT NULL DEFAULT false,
    confirmed_by text CHECK (confirmed_by <> by),
    confirmed_at timestamptz
);
CREATE UNIQUE INDEX command_order_once ON iot.command_order (by, idempotency_key) WHERE idempotency_key IS NOT NULL;

-- Its id goes to the device with every try, so that a device which hears it twice carries it out once.
CREATE TABLE iot.command (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id bigint NOT NULL REFERENCES iot.command_order ON DELETE CASCADE,
    device_id integer NOT NULL REFERENCES iot.device,
    state text NOT NULL DEFAULT 'queued'
        CHECK (state IN ('queued', 'sent', 'delivered', 'succeeded', 'failed', 'expired')),
    detail text NOT NULL DEFAULT '',            -- the device's own words
    problem jsonb,                              -- {code, facts}: our sentence about why it is where it is
    wanted jsonb,                               -- metric -> [low, high]: the reading that shows it done
    expires_at timestamptz NOT NULL,            -- a device that gets it later must not carry it out
    settle_at timestamptz NOT NULL,             -- until then a word or a reading may still show it done
    presence boolean NOT NULL DEFAULT false,    -- sent only while the device is online
    again boolean NOT NULL DEFAULT true,        -- may be sent again when nobody knows whether it arrived
    tries integer NOT NULL DEFAULT 0,
    most_tries integer,                         -- null: until it expires
    next_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    trying_until timestamptz,                   -- a core is sending it; past: that core died
    queued_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    sent_at timestamptz,
    delivered_at timestamptz,
    ended_at timestamptz
);
CREATE INDEX command_order_rows ON iot.command (order_id, id);
CREATE INDEX command_device ON iot.command (device_id, id DESC);
CREATE INDEX command_open ON iot.command (next_at) WHERE ended_at IS NULL;

-- Told on COMMIT: there is work for the sender; and each step of a command, for the page.
CREATE FUNCTION iot.notify_command_work() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('iot_command', '');
    RETURN NULL;
END $$;
CREATE TRIGGER command_added AFTER INSERT ON iot.command FOR EACH STATEMENT EXECUTE FUNCTION iot.notify_command_work();
CREATE TRIGGER command_order_changed AFTER UPDATE ON iot.command_order -- rows: a statement that changes none wakes nobody
    FOR EACH ROW EXECUTE FUNCTION iot.notify_command_work();
CREATE FUNCTION iot.notify_command_step() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('iot_command_step', NEW.id::text);
    RETURN NULL;
END $$;
CREATE TRIGGER command_began AFTER INSERT ON iot.command FOR EACH ROW EXECUTE FUNCTION iot.notify_command_step();
CREATE TRIGGER command_step AFTER UPDATE ON iot.command FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state)
    EXECUTE FUNCTION iot.notify_command_step();

-- migrate: rollback
DROP TABLE iot.command;
DROP TABLE iot.command_order;
DROP FUNCTION iot.notify_command_work;
DROP FUNCTION iot.notify_command_step;
