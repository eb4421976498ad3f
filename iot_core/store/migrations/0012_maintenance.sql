-- maintenance windows and tests: from-to, for a device, an area or a label; who follows units hears which ones changed
-- depends: 0011_claims

-- migrate: apply
-- Exactly one of device, area and label. A window is over at `ends`, whoever runs then; ending it early moves `ends`.
CREATE TABLE iot.maintenance (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL DEFAULT 'maintenance' CHECK (kind IN ('maintenance', 'test')),
    device_id integer REFERENCES iot.device,
    area_id integer REFERENCES iot.area,
    label text,
    starts timestamptz NOT NULL,
    ends timestamptz NOT NULL CHECK (ends >= starts),
    reason text NOT NULL DEFAULT '',
    by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    ended_by text,                            -- who ended it before its time
    CHECK (num_nonnulls(device_id, area_id, label) = 1)
);
CREATE INDEX maintenance_ends ON iot.maintenance (ends);

-- Which devices are inside windows that overlap a span, by the areas and labels of now; retired ones never.
CREATE FUNCTION iot.maintained(since timestamptz, until timestamptz)
RETURNS TABLE (device_id integer, id integer, kind text, starts timestamptz, ends timestamptz, reason text)
LANGUAGE sql STABLE AS $$
    WITH RECURSIVE wanted AS (
        SELECT w.id, w.kind, w.device_id, w.area_id, w.label, w.starts, w.ends, w.reason
        FROM iot.maintenance w WHERE w.ends > since AND w.starts <= until AND w.ends > w.starts
    ), inside AS (
        SELECT wanted.id, wanted.area_id FROM wanted WHERE wanted.area_id IS NOT NULL
        UNION SELECT inside.id, area.id FROM inside JOIN iot.area ON area.parent_id = inside.area_id
    ), meant AS (
        SELECT wanted.id, wanted.device_id FROM wanted WHERE wanted.device_id IS NOT NULL
        UNION SELECT inside.id, device.id FROM inside JOIN iot.device ON device.area_id = inside.area_id
        UNION SELECT wanted.id, device.id FROM wanted JOIN iot.device ON wanted.label = ANY (device.labels)
    )
    SELECT device.id, wanted.id, wanted.kind, wanted.starts, wanted.ends, wanted.reason
    FROM meant JOIN wanted ON wanted.id = meant.id JOIN iot.device ON device.id = meant.device_id
    WHERE device.retired_at IS NULL
$$;

-- What was set by hand had no end. It gets one, because nothing may keep alarms quiet for ever.
INSERT INTO iot.maintenance (device_id, starts, ends, reason, by)
SELECT id, now(), now() + interval '30 days', 'was set by hand, without an end', 'iot-core' FROM iot.device
WHERE lifecycle = 'maintenance';
UPDATE iot.device SET lifecycle = CASE WHEN EXISTS (
    SELECT FROM iot.device_status s WHERE s.device_id = device.id AND s.last_received_at IS NOT NULL
) THEN 'active' ELSE 'provisioned' END WHERE lifecycle = 'maintenance';

-- ---------------------------------------------------------------- alarms
ALTER TABLE iot.alarm
    ADD COLUMN suppressed_by text,            -- `maintenance:12`: what would have rung, had the window not been open
    ADD COLUMN test boolean NOT NULL DEFAULT false;  -- a person set it off on purpose

-- An alarm that is suppressed, or only a test, makes no device look alarmed; `lifecycle` is maintenance inside a window.
CREATE OR REPLACE VIEW iot.device_overview AS
SELECT d.id AS device_id, d.key, d.name, d.class_key, d.latitude, d.longitude, d.simulated,
    a.key AS area, a.name AS area_name, s.last_received_at, s.online,
    CASE WHEN open.loud THEN 'alarm' WHEN open.silent THEN 'silent'
         WHEN s.last_received_at IS NULL THEN 'never' ELSE 'ok' END AS state,
    CASE WHEN kept.device_id IS NOT NULL THEN 'maintenance' ELSE d.lifecycle END AS lifecycle
FROM iot.device d
LEFT JOIN iot.area a ON a.id = d.area_id
LEFT JOIN iot.device_status s ON s.device_id = d.id
LEFT JOIN (
    SELECT device_id, bool_or(metric IS NOT NULL) AS loud, bool_or(metric IS NULL) AS silent
    FROM iot.alarm WHERE closed_at IS NULL AND cleared_at IS NULL AND suppressed_by IS NULL AND NOT test
    GROUP BY device_id
) open ON open.device_id = d.id
LEFT JOIN (
    SELECT DISTINCT device_id FROM iot.maintained(now(), now()) WHERE kind = 'maintenance'
) kept ON kept.device_id = d.id
WHERE d.retired_at IS NULL;

-- ---------------------------------------------------------------- change notices
-- `iot_registry` tells which devices' units changed (`12,13`), or nothing where they are many, or where rows or
-- addresses went that nobody could find again: then everything is to be read. `iot_maintenance` tells of windows.
CREATE FUNCTION iot.tell_units(devices integer[]) RETURNS void LANGUAGE sql AS $$
    SELECT pg_notify('iot_registry', CASE WHEN cardinality(devices) <= 500 THEN array_to_string(devices, ',') ELSE '' END)
    WHERE cardinality(devices) > 0
$$;
CREATE FUNCTION iot.units_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM iot.tell_units(ARRAY(SELECT DISTINCT device_id FROM changed));
    RETURN NULL;
END $$;
CREATE FUNCTION iot.channels_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM iot.tell_units(ARRAY(SELECT DISTINCT unit.device_id FROM changed JOIN iot.unit ON unit.id = changed.unit_id));
    RETURN NULL;
END $$;
CREATE FUNCTION iot.devices_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM iot.tell_units(ARRAY(
        SELECT changed.id FROM changed JOIN was ON was.id = changed.id
        WHERE (changed.class_key, changed.simulated, changed.gateway_id) IS DISTINCT FROM
            (was.class_key, was.simulated, was.gateway_id)
        UNION SELECT unit.device_id FROM changed JOIN was ON was.id = changed.id AND was.class_key <> changed.class_key
            JOIN iot.channel ON channel.device_id = changed.id JOIN iot.unit ON unit.id = channel.unit_id
    ));
    IF EXISTS (SELECT FROM iot.maintenance WHERE ends > now() AND device_id IS NULL) AND EXISTS (
        SELECT FROM changed JOIN was ON was.id = changed.id
        WHERE (changed.area_id, changed.labels, changed.retired_at) IS DISTINCT FROM (was.area_id, was.labels, was.retired_at)
    ) THEN
        PERFORM pg_notify('iot_maintenance', '');
    END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION iot.devices_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM iot.maintenance WHERE ends > now() AND device_id IS NULL) THEN
        PERFORM pg_notify('iot_maintenance', '');
    END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION iot.windows_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('iot_maintenance', '');
    RETURN NULL;
END $$;

DROP TRIGGER unit_changed ON iot.unit;
DROP TRIGGER channel_changed ON iot.channel;
DROP TRIGGER device_changed ON iot.device;
CREATE TRIGGER unit_added AFTER INSERT ON iot.unit REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION iot.units_changed();
CREATE TRIGGER unit_changed AFTER UPDATE ON iot.unit REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION iot.units_changed();
CREATE TRIGGER unit_moved AFTER UPDATE OF address, device_id ON iot.unit
    FOR EACH STATEMENT EXECUTE FUNCTION iot.notify_unit();
CREATE TRIGGER unit_removed AFTER DELETE ON iot.unit FOR EACH STATEMENT EXECUTE FUNCTION iot.notify_unit();
CREATE TRIGGER channel_added AFTER INSERT ON iot.channel REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION iot.channels_changed();
CREATE TRIGGER channel_changed AFTER UPDATE ON iot.channel REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION iot.channels_changed();
CREATE TRIGGER channel_removed AFTER DELETE ON iot.channel REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION iot.channels_changed();
-- Taking numbers from a credential is no change; its secret is one, for whoever keeps keys in memory.
CREATE FUNCTION iot.credential_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM iot.tell_units(ARRAY(SELECT device_id FROM iot.unit WHERE id = coalesce(NEW.unit_id, OLD.unit_id)));
    RETURN NULL;
END $$;
DROP TRIGGER credential_changed ON iot.credential;
CREATE TRIGGER credential_changed AFTER INSERT OR DELETE OR UPDATE OF secret ON iot.credential
    FOR EACH ROW EXECUTE FUNCTION iot.credential_changed();
CREATE TRIGGER device_changed AFTER UPDATE ON iot.device REFERENCING OLD TABLE AS was NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION iot.devices_changed();
CREATE TRIGGER device_added AFTER INSERT ON iot.device FOR EACH STATEMENT EXECUTE FUNCTION iot.devices_added();
CREATE TRIGGER maintenance_changed AFTER INSERT OR UPDATE OR DELETE ON iot.maintenance
    FOR EACH STATEMENT EXECUTE FUNCTION iot.windows_changed();
CREATE TRIGGER area_changed AFTER UPDATE OF parent_id ON iot.area
    FOR EACH STATEMENT EXECUTE FUNCTION iot.windows_changed();

-- migrate: rollback
