-- areas move, merge and are renamed; what was true when stays known
-- depends: 0001_first

-- migrate: apply
ALTER TABLE iot.area
    ADD COLUMN latitude double precision CHECK (latitude BETWEEN -90 AND 90),
    ADD COLUMN longitude double precision CHECK (longitude BETWEEN -180 AND 180),
    ADD COLUMN outline jsonb,                 -- GeoJSON geometry
    ADD COLUMN ended_at timestamptz,          -- it was merged into another, or abolished
    ADD COLUMN into_id integer REFERENCES iot.area,
    ADD COLUMN path_search text NOT NULL DEFAULT '';  -- names of its own, of what went into it, and around both, at any time
CREATE INDEX area_parent ON iot.area (parent_id);

-- What an area was called and where it hung, from-to. The first version reaches back without end: an area is older
-- than our knowledge of it.
CREATE TABLE iot.area_version (
    area_id integer NOT NULL REFERENCES iot.area ON DELETE CASCADE,
    valid tstzrange NOT NULL CHECK (NOT isempty(valid)),
    name text NOT NULL,
    name_en text,
    kind text NOT NULL,
    code text,
    parent_id integer REFERENCES iot.area,
    PRIMARY KEY (area_id, valid)
);
CREATE INDEX area_version_parent ON iot.area_version (parent_id);
INSERT INTO iot.area_version (area_id, valid, name, name_en, kind, code, parent_id)
SELECT id, tstzrange(NULL, NULL), name, name_en, kind, code, parent_id FROM iot.area;

-- In which area a device stood, from-to.
CREATE TABLE iot.device_area_version (
    device_id integer NOT NULL REFERENCES iot.device ON DELETE CASCADE,
    valid tstzrange NOT NULL CHECK (NOT isempty(valid)),
    area_id integer REFERENCES iot.area,
    PRIMARY KEY (device_id, valid)
);
CREATE INDEX device_area_version_area ON iot.device_area_version (area_id);
INSERT INTO iot.device_area_version (device_id, valid, area_id) SELECT id, tstzrange(NULL, NULL), area_id FROM iot.device;

-- Kept by the database, because many hands move devices. A move that took effect earlier says so in the setting
-- `iot.effective_at` of its transaction; otherwise it takes effect now.
CREATE FUNCTION iot.keep_device_area() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    effective timestamptz := coalesce(nullif(current_setting('iot.effective_at', true), '')::timestamptz, now());
    began timestamptz;
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO iot.device_area_version VALUES (NEW.id, tstzrange(NULL, NULL), NEW.area_id);
        RETURN NULL;
    END IF;
    SELECT lower(valid) INTO began FROM iot.device_area_version WHERE device_id = NEW.id AND upper_inf(valid);
    IF began IS NOT NULL AND began >= effective THEN  -- what is corrected at once never was
        DELETE FROM iot.device_area_version WHERE device_id = NEW.id AND lower(valid) >= effective;
    END IF;
    UPDATE iot.device_area_version SET valid = tstzrange(lower(valid), effective)
    WHERE device_id = NEW.id AND (upper_inf(valid) OR upper(valid) > effective);
    IF EXISTS (SELECT FROM iot.device_area_version WHERE device_id = NEW.id AND upper(valid) = effective
               AND area_id IS NOT DISTINCT FROM NEW.area_id) THEN
        UPDATE iot.device_area_version SET valid = tstzrange(lower(valid), NULL)
        WHERE device_id = NEW.id AND upper(valid) = effective;
    ELSE
        INSERT INTO iot.device_area_version VALUES (NEW.id, tstzrange(effective, NULL), NEW.area_id);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER device_area_kept AFTER INSERT ON iot.device FOR EACH ROW EXECUTE FUNCTION iot.keep_device_area();
CREATE TRIGGER device_area_moved AFTER UPDATE OF area_id ON iot.device
    FOR EACH ROW WHEN (OLD.area_id IS DISTINCT FROM NEW.area_id) EXECUTE FUNCTION iot.keep_device_area();

-- Devices of an area by the areas of today: where they stand now, whatever it was called before.
CREATE FUNCTION iot.devices_in_area_now(area_key text) RETURNS TABLE (device_id integer) LANGUAGE sql STABLE AS $$
    WITH RECURSIVE inside AS (
        SELECT id FROM iot.area WHERE key = area_key
        UNION SELECT area.id FROM iot.area JOIN inside ON area.parent_id = inside.id
    )
    SELECT id FROM iot.device WHERE area_id IN (SELECT id FROM inside)
$$;

-- Devices of an area by the areas of then: from when to when each stood inside it. Join telemetry on `during @> time`.
CREATE FUNCTION iot.devices_in_area_then(area_key text) RETURNS TABLE (device_id integer, during tstzmultirange)
LANGUAGE sql STABLE AS $$
    WITH RECURSIVE inside AS (
        SELECT id AS area_id, tstzrange(NULL, NULL) AS during FROM iot.area WHERE key = area_key
        UNION
        SELECT version.area_id, version.valid * inside.during
        FROM iot.area_version version JOIN inside ON version.parent_id = inside.area_id AND version.valid && inside.during
    )
    SELECT stood.device_id, range_agg(stood.valid * inside.during)
    FROM iot.device_area_version stood JOIN inside ON stood.area_id = inside.area_id AND stood.valid && inside.during
    GROUP BY stood.device_id
$$;

-- ---------------------------------------------------------------- changes that can be undone
-- One deed of one person; its rows in iot.audit say what was before and after.
CREATE TABLE iot.operation (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    by text NOT NULL,
    action text NOT NULL,
    effective_at timestamptz,                 -- when it became true in the field, where that is not `at`
    undoes bigint REFERENCES iot.operation,
    undone_by bigint REFERENCES iot.operation
);
ALTER TABLE iot.audit ADD COLUMN operation bigint REFERENCES iot.operation;
CREATE INDEX audit_operation ON iot.audit (operation);
CREATE INDEX audit_at ON iot.audit (at);

-- migrate: rollback
