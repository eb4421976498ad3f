-- what a technician notes of a device and its unit, and the record of its commissioning
-- depends: 0016_twin

-- migrate: apply
CREATE TABLE iot.commissioning (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    device_id integer NOT NULL REFERENCES iot.device,
    unit_id integer NOT NULL REFERENCES iot.unit,
    at timestamptz NOT NULL DEFAULT now(),
    by text NOT NULL,
    passed boolean NOT NULL,
    record jsonb NOT NULL
);
CREATE INDEX commissioning_device ON iot.commissioning (device_id, id);

ALTER TABLE iot.maintenance ADD COLUMN operation bigint;  -- undoing it ends the window

ALTER TABLE iot.device ADD COLUMN photos text[] NOT NULL DEFAULT '{}';  -- where they are kept: paths or addresses
ALTER TABLE iot.unit
    ADD COLUMN warranty_until date,
    ADD COLUMN calibrated_at date,
    ADD COLUMN calibration_due date;

-- migrate: rollback
