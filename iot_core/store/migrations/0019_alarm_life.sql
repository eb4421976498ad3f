-- alarms: rules changed at run time, the whole of ISA-18.2's life cycle, floods, handing over
-- depends: 0018_ngsi

-- migrate: apply
-- Rules as people changed them, over those of the classes. A change is a new row; the old one is `ended`. Never deleted:
-- what a rule was on a day can be asked for years later.
CREATE TABLE iot.alarm_rule (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    rule text NOT NULL,
    class_key text NOT NULL,
    area_id integer REFERENCES iot.area,      -- at most one of the three: where it holds; none: for the whole class
    label text,
    device_id integer REFERENCES iot.device,
    body jsonb NOT NULL,                      -- the keys of a rule in class.yaml; laid over what stands above it
    version integer NOT NULL DEFAULT 1,
    by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at timestamptz,
    CHECK (num_nonnulls(area_id, label, device_id) <= 1)
);
CREATE UNIQUE INDEX alarm_rule_now ON iot.alarm_rule
    (rule, COALESCE(area_id, 0), COALESCE(label, ''), COALESCE(device_id, 0)) WHERE ended_at IS NULL;

CREATE FUNCTION iot.notify_rule() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('iot_rule', '');
    RETURN NULL;
END $$;
CREATE TRIGGER alarm_rule_changed AFTER INSERT OR UPDATE ON iot.alarm_rule
    FOR EACH STATEMENT EXECUTE FUNCTION iot.notify_rule();
CREATE TRIGGER device_rule_changed AFTER UPDATE OF area_id, labels, class_key ON iot.device
    FOR EACH STATEMENT EXECUTE FUNCTION iot.notify_rule();
CREATE TRIGGER area_rule_changed AFTER UPDATE OF parent_id ON iot.area
    FOR EACH STATEMENT EXECUTE FUNCTION iot.notify_rule();

-- Shelved: quiet until a time, by a person, for a reason. Out of service: without an end. It belongs to the source and
-- rule, not to one occurrence: what returns while it is shelved stays quiet.
CREATE TABLE iot.shelf (
    source_kind text NOT NULL,
    source_id bigint NOT NULL,
    rule text NOT NULL,
    until timestamptz NOT NULL,               -- the year 9999: out of service
    reason text NOT NULL,
    by text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (source_kind, source_id, rule)
);

ALTER TABLE iot.alarm
    ADD COLUMN shelved_until timestamptz,
    ADD COLUMN shelved_by text,
    ADD COLUMN shelved_reason text,
    ADD COLUMN incident_id bigint REFERENCES iot.alarm,
    ADD COLUMN assigned_to text,
    ADD COLUMN cause text,
    ADD COLUMN returned_at timestamptz;       -- a latched alarm's condition is gone, the alarm is not
ALTER TABLE iot.alarm ADD COLUMN IF NOT EXISTS suppressed_by text;   -- 'maintenance:ID', 'incident:ID'; null: rings
ALTER TABLE iot.alarm ADD COLUMN IF NOT EXISTS test boolean NOT NULL DEFAULT false;
CREATE INDEX alarm_incident ON iot.alarm (incident_id) WHERE incident_id IS NOT NULL;
CREATE INDEX alarm_raised ON iot.alarm (raised_at);
CREATE INDEX alarm_shelved ON iot.alarm (shelved_until) WHERE shelved_until IS NOT NULL AND closed_at IS NULL;
CREATE INDEX alarm_suppressed ON iot.alarm (suppressed_by) WHERE suppressed_by IS NOT NULL AND closed_at IS NULL;

ALTER TABLE iot.alarm_event DROP CONSTRAINT alarm_event_kind_check;
ALTER TABLE iot.alarm_event ADD CONSTRAINT alarm_event_kind_check CHECK (kind IN ('raised', 'returned', 'cleared',
    'acknowledged', 'commented', 'closed', 'severity', 'shelved', 'unshelved', 'suppressed', 'unsuppressed', 'assigned',
    'reopened', 'undone'));
CREATE INDEX alarm_event_at ON iot.alarm_event (at) WHERE kind = 'raised';

-- A shift handed over: what stood then, as the one who went and the one who came saw it.
CREATE TABLE iot.handover (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    since timestamptz NOT NULL,
    by text NOT NULL,
    taken_by text,
    note text,
    report jsonb NOT NULL
);

-- ---------------------------------------------------------------- figures after ISA-18.2 (16) and EEMUA 191
-- Every time an alarm rang for people: neither suppressed, nor shelved, nor a test, nor simulated.
CREATE VIEW iot.alarm_rang AS
SELECT e.at, a.id AS alarm_id, a.rule, a.severity, a.source_kind, a.source_id, a.device_id, d.area_id
FROM iot.alarm_event e JOIN iot.alarm a ON a.id = e.alarm_id LEFT JOIN iot.device d ON d.id = a.device_id
WHERE e.kind = 'raised' AND a.suppressed_by IS NULL AND NOT a.test AND NOT a.simulated
    AND NOT (a.shelved_until IS NOT NULL AND a.shelved_until > e.at);

CREATE VIEW iot.alarm_kpi_10min AS
SELECT date_bin('10 minutes', at, timestamptz '2000-01-01 00:00+00') AS time, count(*) AS alarms, count(*) > 10 AS flood
FROM iot.alarm_rang GROUP BY 1;

CREATE VIEW iot.alarm_kpi_severity AS
SELECT date_trunc('day', at) AS day, severity, count(*) AS alarms FROM iot.alarm_rang GROUP BY 1, 2;

-- The ten worst of a rule and device are usually half of everything: "bad actors".
CREATE VIEW iot.alarm_kpi_frequent AS
SELECT date_trunc('day', r.at) AS day, r.rule, d.key AS device, count(*) AS alarms
FROM iot.alarm_rang r LEFT JOIN iot.device d ON d.id = r.device_id GROUP BY 1, 2, 3;

-- Rang again within a minute of having rung.
CREATE VIEW iot.alarm_kpi_chattering AS
SELECT rule, device_id, at FROM (
    SELECT rule, device_id, at, at - lag(at, 2) OVER (PARTITION BY rule, source_kind, source_id ORDER BY at) AS span
    FROM iot.alarm_rang
) each WHERE span <= interval '1 minute';

-- Active for more than a day.
CREATE VIEW iot.alarm_kpi_stale AS
SELECT id AS alarm_id, rule, device_id, raised_at FROM iot.alarm
WHERE closed_at IS NULL AND cleared_at IS NULL AND raised_at < now() - interval '24 hours' AND NOT simulated AND NOT test;

CREATE VIEW iot.alarm_kpi_answer AS
SELECT e.at, a.id AS alarm_id, a.severity, a.acknowledged_by, a.acknowledged_at - e.recorded_at AS took
FROM iot.alarm a JOIN LATERAL (
    SELECT at, recorded_at FROM iot.alarm_event WHERE alarm_id = a.id AND kind = 'raised' ORDER BY id LIMIT 1
) e ON true
WHERE a.acknowledged_at IS NOT NULL AND NOT a.simulated AND NOT a.test;

-- migrate: rollback
