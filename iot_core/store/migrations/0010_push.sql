-- push targets of several kinds with filter, format and language; receipts; centers that send us alarms
-- depends: 0009_profile_topics

-- migrate: apply
ALTER TABLE iot.push_target DROP CONSTRAINT push_target_kind_check;
ALTER TABLE iot.push_target
    ADD CHECK (kind IN ('webhook', 'mqtt', 'apprise', 'syslog', 'feed')),
    ADD COLUMN format text NOT NULL DEFAULT 'json' CHECK (format IN ('json', 'cap', 'text', 'cef')),
    ADD COLUMN language text NOT NULL DEFAULT 'vi' CHECK (language IN ('vi', 'en')),
    ADD COLUMN template text,
    ADD COLUMN classes text[] NOT NULL DEFAULT '{}',          -- empty: all
    ADD COLUMN areas text[] NOT NULL DEFAULT '{}',            -- with everything under them; empty: everywhere
    ADD COLUMN hours text NOT NULL DEFAULT '',                -- "mon-fri 07:00-17:00"; empty: always
    ADD COLUMN watchdog boolean NOT NULL DEFAULT false,
    ADD COLUMN heartbeat_s integer CHECK (heartbeat_s BETWEEN 1 AND 86400),
    ADD COLUMN heartbeat_at timestamptz,
    ADD COLUMN old_secret text,                               -- still signed with until then
    ADD COLUMN old_secret_until timestamptz,
    ADD COLUMN options jsonb NOT NULL DEFAULT '{}',           -- of its kind: TLS files, MQTT login, CAP sender
    ADD COLUMN changed_at timestamptz NOT NULL DEFAULT clock_timestamp();

ALTER TABLE iot.outbox
    ADD COLUMN urgency smallint NOT NULL DEFAULT 3,           -- the severity's place: 0 is critical
    ADD COLUMN first_tried_at timestamptz,
    ADD COLUMN body_digest text,                              -- SHA-256 of what was sent last, in hex
    ADD COLUMN revived_at timestamptz;                        -- brought back from the dead: 24 h more from here
CREATE INDEX outbox_created ON iot.outbox (created_at);
CREATE INDEX outbox_queue ON iot.outbox (target_id, (attempts > 0), urgency, id)
    WHERE delivered_at IS NULL AND dead_at IS NULL;
CREATE INDEX outbox_heads ON iot.outbox (alarm_id, target_id, id) WHERE delivered_at IS NULL AND dead_at IS NULL;

-- Days on which hours of targets and escalations follow `holiday` and not their weekday.
CREATE TABLE iot.holiday (
    day date PRIMARY KEY,
    name text NOT NULL DEFAULT ''
);

-- Who had an alarm before them first, and when.
CREATE TABLE iot.alarm_seen (
    alarm_id bigint NOT NULL REFERENCES iot.alarm ON DELETE CASCADE,
    by text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (alarm_id, by)
);

-- This core among others: so that an alarm which comes back to where it began is known.
INSERT INTO iot.fixed_setting (key, value) VALUES ('core_id', gen_random_uuid()::text);

-- migrate: rollback
DELETE FROM iot.fixed_setting WHERE key = 'core_id';
DROP TABLE iot.holiday, iot.alarm_seen;
DROP INDEX iot.outbox_created, iot.outbox_queue, iot.outbox_heads;
ALTER TABLE iot.outbox DROP COLUMN urgency, DROP COLUMN first_tried_at, DROP COLUMN body_digest, DROP COLUMN revived_at;
ALTER TABLE iot.push_target DROP COLUMN format, DROP COLUMN language, DROP COLUMN template, DROP COLUMN classes,
    DROP COLUMN areas, DROP COLUMN hours, DROP COLUMN watchdog, DROP COLUMN heartbeat_s, DROP COLUMN heartbeat_at,
    DROP COLUMN old_secret, DROP COLUMN old_secret_until, DROP COLUMN options, DROP COLUMN changed_at,
    DROP CONSTRAINT push_target_kind_check;
