-- thousands of alarms a second: one notice a statement, and a message is claimed without a new entry in any index
-- depends: 0033_many_devices

-- migrate: apply
-- Which alarm events happened, told on COMMIT as `12,13`; a notice holds 8,000 bytes.
DROP TRIGGER alarm_event_added ON iot.alarm_event;
DROP FUNCTION iot.notify_alarm_event();
CREATE FUNCTION iot.alarm_events_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('iot_alarm', string_agg(id::text, ',' ORDER BY id)) FROM (
        SELECT id, (row_number() OVER (ORDER BY id) - 1) / 300 AS part FROM added
    ) each GROUP BY part;
    RETURN NULL;
END $$;
CREATE TRIGGER alarm_event_added AFTER INSERT ON iot.alarm_event REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION iot.alarm_events_added();

-- A row is written three times: added, claimed, delivered. Claiming touches no indexed column, so that with room in its
-- page it is a heap-only update; before, each of seven indexes got an entry for each of the three.
ALTER TABLE iot.outbox SET (fillfactor = 50);
DROP INDEX iot.outbox_queue;
CREATE INDEX outbox_queue ON iot.outbox (target_id, (last_error IS NOT NULL), urgency, id)
    WHERE delivered_at IS NULL AND dead_at IS NULL;
DROP INDEX iot.outbox_created;
CREATE INDEX outbox_created ON iot.outbox USING brin (created_at);

-- An alarm that comes and goes changes when it was raised; a block range index does not mind.
ALTER TABLE iot.alarm SET (fillfactor = 70);
DROP INDEX iot.alarm_raised;
CREATE INDEX alarm_raised ON iot.alarm USING brin (raised_at);

-- migrate: rollback
DROP INDEX iot.alarm_raised, iot.outbox_created, iot.outbox_queue;
CREATE INDEX alarm_raised ON iot.alarm (raised_at);
CREATE INDEX outbox_created ON iot.outbox (created_at);
CREATE INDEX outbox_queue ON iot.outbox (target_id, (attempts > 0), urgency, id)
    WHERE delivered_at IS NULL AND dead_at IS NULL;
ALTER TABLE iot.alarm RESET (fillfactor);
ALTER TABLE iot.outbox RESET (fillfactor);
DROP TRIGGER alarm_event_added ON iot.alarm_event;
DROP FUNCTION iot.alarm_events_added();
CREATE FUNCTION iot.notify_alarm_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('iot_alarm', NEW.id::text);
    RETURN NULL;
END $$;
CREATE TRIGGER alarm_event_added AFTER INSERT ON iot.alarm_event
    FOR EACH ROW EXECUTE FUNCTION iot.notify_alarm_event();
