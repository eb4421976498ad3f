-- many devices that come or go at once: told by number, and taken back without reading everybody's row
-- depends: 0032_report_again

-- migrate: apply
-- A notice holds 8,000 bytes, so many are told in pieces; above 10,000 reading everything is the shorter way, and notices
-- that are alike are told once.
CREATE OR REPLACE FUNCTION iot.tell_units(devices integer[]) RETURNS void LANGUAGE sql AS $$
    SELECT pg_notify('iot_registry',
        CASE WHEN cardinality(devices) <= 10000 THEN array_to_string(devices[first : first + 499], ',') ELSE '' END)
    FROM generate_series(1, cardinality(devices), 500) AS first
$$;

-- Whoever takes a device or a unit away is asked by each of these whether it is still needed.
CREATE INDEX device_gateway ON iot.device (gateway_id) WHERE gateway_id IS NOT NULL;
CREATE INDEX claim_unit ON iot.claim (unit_id) WHERE unit_id IS NOT NULL;
CREATE INDEX held_uplink_unit ON iot.held_uplink (unit_id) WHERE unit_id IS NOT NULL;
CREATE INDEX commissioning_unit ON iot.commissioning (unit_id);
CREATE INDEX firmware_update_device ON iot.firmware_update (device_id);

-- migrate: rollback
