-- whoever runs schedules sleeps until the next moment, or until one changes
-- depends: 0025_runbook

-- migrate: apply
CREATE FUNCTION iot.tell_schedule() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('iot_schedule', '');
    RETURN NULL;
END $$;
CREATE TRIGGER tell AFTER INSERT OR UPDATE OR DELETE ON iot.schedule
    FOR EACH STATEMENT EXECUTE FUNCTION iot.tell_schedule();
CREATE TRIGGER tell_schedule AFTER INSERT OR UPDATE OR DELETE ON iot.holiday
    FOR EACH STATEMENT EXECUTE FUNCTION iot.tell_schedule();

-- migrate: rollback
DROP TRIGGER tell_schedule ON iot.holiday;
DROP TRIGGER tell ON iot.schedule;
DROP FUNCTION iot.tell_schedule;
