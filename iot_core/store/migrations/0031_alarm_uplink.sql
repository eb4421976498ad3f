-- the uplink that raised an alarm is kept with it, so that its way can be told from the bytes on
-- depends: 0030_numbers_and_intervals

-- migrate: apply
-- Of the reading that raised it first. `payload` is cut at 4 KB, `size` is what it was. Written in the
-- transaction that makes the alarm, and only then: what raises nothing is not kept twice.
CREATE TABLE iot.alarm_uplink (
    alarm_id bigint PRIMARY KEY REFERENCES iot.alarm ON DELETE CASCADE,
    driver text NOT NULL,
    address text NOT NULL,
    topic text NOT NULL,
    content_format integer,
    payload bytea,
    size integer NOT NULL,
    registers jsonb,
    measured_at timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    flushed_at timestamptz NOT NULL,           -- when the batch that it was in began to be written
    written_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- migrate: rollback
DROP TABLE iot.alarm_uplink;
