-- rollups: which hours are due, cumulative meters, what a class's rollups are made of
-- depends: 0002_area_history

-- migrate: apply
ALTER TABLE iot.metric ADD COLUMN counter boolean NOT NULL DEFAULT false;

-- Hours whose rows changed and whose rollups are not redone yet. Written by each flush in its own transaction and only
-- ever appended to: two workers that share a row here would wait for each other's COMMIT.
CREATE TABLE iot.rollup_due (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    class_key text NOT NULL,
    first timestamptz NOT NULL,               -- measured times of the first and the last changed row, both included
    last timestamptz NOT NULL,
    devices integer[],                        -- null: any
    taken boolean NOT NULL DEFAULT false      -- by a refresh that first waits for TimescaleDB's own
);
CREATE INDEX rollup_due_class ON iot.rollup_due (class_key);

-- Where the rollups of a class stand. `raw_from`: nothing older is in the class's table any more, so no bucket before it
-- may be made anew. Buckets before `kept_before` stand in kept tables, newer ones in continuous aggregates (if there are).
CREATE TABLE iot.rollup_state (
    class_key text PRIMARY KEY,
    raw_from timestamptz NOT NULL DEFAULT '2000-01-01 00:00+00',
    kept_before timestamptz NOT NULL DEFAULT '2000-01-01 00:00+00',
    kept_days_before timestamptz NOT NULL DEFAULT '2000-01-01 00:00+00',
    checked_at timestamptz NOT NULL DEFAULT now(),  -- when a core last compared them with raw at night
    checked_to timestamptz NOT NULL DEFAULT '2000-01-01 00:00+00'  -- and how far its round through history got
);

-- Continuous aggregates cannot take a column more: a new metric opens a new pair of them, filled before it is used.
CREATE TABLE iot.rollup_generation (
    class_key text NOT NULL REFERENCES iot.rollup_state,
    number integer NOT NULL,
    columns text[] NOT NULL,
    used boolean NOT NULL,                    -- false: being filled
    PRIMARY KEY (class_key, number)
);

CREATE SCHEMA telemetry_rollup;   -- kept tables and continuous aggregates behind telemetry.<class>_1h and _1d

-- ---------------------------------------------------------------- cumulative meters
-- The value, in the metric's own unit, at which a model's register starts from 0 again; from the profiles at each start.
CREATE TABLE iot.register (
    profile text NOT NULL,
    metric text NOT NULL,
    modulus double precision NOT NULL CHECK (modulus > 0),
    PRIMARY KEY (profile, metric)
);

-- What happened between two readings of a register: the only place where this is decided (docs/storage.md).
CREATE FUNCTION iot.step_kind(previous float8, value float8, modulus float8, exchanged boolean) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN previous IS NULL THEN 'first'
        WHEN exchanged THEN 'exchange'
        WHEN value >= previous THEN 'rise'
        WHEN previous >= modulus * 0.9 AND value <= modulus * 0.1 THEN 'rollover'
        WHEN value >= 0 AND value < previous * 0.5 THEN 'reset'
        ELSE 'reverse'
    END
$$;

CREATE FUNCTION iot.step_consumption(previous float8, value float8, modulus float8, exchanged boolean) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE iot.step_kind(previous, value, modulus, exchanged)
        WHEN 'rise' THEN value - previous
        WHEN 'reverse' THEN value - previous
        WHEN 'rollover' THEN value + modulus - previous
        WHEN 'reset' THEN value
        ELSE 0
    END
$$;

-- When a register of a device ended for good: a unit was taken down, and the next one has not the same serial number.
CREATE VIEW iot.register_end AS
SELECT fed.device_id, unit.mounted_to AS at
FROM iot.unit
CROSS JOIN LATERAL (
    SELECT unit.device_id UNION SELECT channel.device_id FROM iot.channel WHERE channel.unit_id = unit.id
) fed
WHERE unit.mounted_to IS NOT NULL AND ((
    SELECT later.serial FROM iot.unit later
    WHERE later.device_id = unit.device_id AND later.mounted_from >= unit.mounted_to
    ORDER BY later.mounted_from, later.id LIMIT 1
) = unit.serial) IS NOT TRUE;

CREATE FUNCTION iot.register_modulus(device integer, metric_key text, at timestamptz) RETURNS float8
LANGUAGE sql STABLE AS $$
    SELECT register.modulus
    FROM iot.unit LEFT JOIN iot.register ON register.profile = unit.profile AND register.metric = metric_key
    WHERE unit.mounted_from <= at
        AND (unit.device_id = device
             OR EXISTS (SELECT FROM iot.channel WHERE channel.unit_id = unit.id AND channel.device_id = device))
    ORDER BY unit.mounted_from DESC, unit.id DESC LIMIT 1
$$;

-- Every reading of a cumulative register with what was consumed since the one before it, by measured time.
-- Readings that are marked bad, or of quality calibration or bad, are no readings here. `devices` null: all of the class.
CREATE FUNCTION telemetry.meter_steps(
    class_key text, metric text, devices integer[], start timestamptz, stop timestamptz
) RETURNS TABLE (device_id integer, "time" timestamptz, value float8, previous float8, consumption float8, kind text)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    mask bigint;
    gone_before timestamptz := (SELECT s.raw_from FROM iot.rollup_state s WHERE s.class_key = meter_steps.class_key);
    chosen text := CASE WHEN devices IS NULL THEN '' ELSE ' AND r.device_id = ANY ($1)' END;
    counts text;
BEGIN
    SELECT 1::bigint << m.bit INTO mask FROM iot.metric m
    WHERE m.class_key = meter_steps.class_key AND m.key = meter_steps.metric;
    IF mask IS NULL THEN
        RAISE EXCEPTION 'class % has no metric %', class_key, metric USING ERRCODE = 'undefined_column';
    END IF;
    counts := format('r.%I IS NOT NULL AND r.quality < 2 AND r.bad & %s = 0', metric, mask);
    RETURN QUERY EXECUTE format($sql$
        WITH ends AS (
            SELECT e.device_id, array_agg(e.at) AS at FROM iot.register_end e GROUP BY e.device_id
        ), said AS (
            SELECT r.device_id, r.time, r.%1$I::float8 AS value,
                lag(r.%1$I::float8) OVER w AS before, lag(r.time) OVER w AS before_at
            FROM telemetry.%2$I r
            WHERE r.time >= $2 AND r.time < $3 AND %3$s%4$s
            WINDOW w AS (PARTITION BY r.device_id ORDER BY r.time)
        ), paired AS (
            SELECT s.device_id, s.time, s.value,
                CASE WHEN s.before_at IS NULL THEN p.value ELSE s.before END AS previous,
                COALESCE(s.before_at, p.time) AS previous_at
            FROM said s LEFT JOIN LATERAL (
                (SELECT r.time, r.%1$I::float8 AS value FROM telemetry.%2$I r
                WHERE s.before_at IS NULL AND r.device_id = s.device_id AND r.time < s.time AND %3$s
                ORDER BY r.time DESC LIMIT 1)
                UNION ALL  -- its row is gone with others of its age: the last of an hour that was kept
                (SELECT h.time, h.%6$I::float8 FROM telemetry.%7$I h
                WHERE s.before_at IS NULL AND h.device_id = s.device_id AND h.time < %8$L AND h.%6$I IS NOT NULL
                ORDER BY h.time DESC LIMIT 1)
                ORDER BY 1 DESC LIMIT 1
            ) p ON true
        ), judged AS (
            SELECT p.*,
                e.at IS NOT NULL AND EXISTS (
                    SELECT FROM unnest(e.at) AS ended WHERE ended > p.previous_at AND ended <= p.time
                ) AS exchanged,
                CASE WHEN p.value < p.previous THEN iot.register_modulus(p.device_id, %5$L, p.time) END AS modulus
            FROM paired p LEFT JOIN ends e ON e.device_id = p.device_id
        )
        SELECT j.device_id, j.time, j.value, j.previous,
            iot.step_consumption(j.previous, j.value, j.modulus, j.exchanged),
            iot.step_kind(j.previous, j.value, j.modulus, j.exchanged)
        FROM judged j
    $sql$, metric, class_key, counts, chosen, metric, metric || '_last', class_key || '_1h', gone_before)
    USING devices, start, stop;
END $$;

-- What each device consumed from `start` (included) to `stop` (excluded): steps count where they end.
CREATE FUNCTION telemetry.consumption(
    class_key text, metric text, devices integer[], start timestamptz, stop timestamptz
) RETURNS TABLE (device_id integer, consumption float8)
LANGUAGE sql STABLE AS $$
    SELECT s.device_id, sum(s.consumption) FROM telemetry.meter_steps(class_key, metric, devices, start, stop) s
    GROUP BY s.device_id
$$;

-- An exchange that is recorded, or mended, after the fact changes a step that was counted already.
CREATE FUNCTION iot.unit_ended() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO iot.rollup_due (class_key, first, last, devices)
    SELECT device.class_key, ended.at, ended.at, array_agg(device.id)
    FROM (VALUES (OLD.mounted_to), (NEW.mounted_to)) AS ended (at), iot.device
    WHERE ended.at IS NOT NULL
        AND (device.id = NEW.device_id OR device.id IN (SELECT device_id FROM iot.channel WHERE unit_id = NEW.id))
        AND EXISTS (SELECT FROM iot.metric WHERE metric.class_key = device.class_key AND metric.counter)
    GROUP BY device.class_key, ended.at;
    RETURN NULL;
END $$;
CREATE TRIGGER unit_ended AFTER UPDATE OF mounted_to, mounted_from, serial ON iot.unit
    FOR EACH ROW WHEN (OLD.mounted_to IS DISTINCT FROM NEW.mounted_to OR OLD.serial IS DISTINCT FROM NEW.serial)
    EXECUTE FUNCTION iot.unit_ended();

-- migrate: rollback
