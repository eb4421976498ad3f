-- a unit whose credentials were taken back, until it gets new ones: what it says on a connection still open is held
-- depends: 0043_rang

-- migrate: apply
ALTER TABLE iot.unit ADD COLUMN revoked_at timestamptz;
CREATE INDEX unit_revoked ON iot.unit (device_id) WHERE revoked_at IS NOT NULL;

-- Revoking also ends certificates, mostly none: whoever follows units hears which, and need not read everybody's row.
DROP TRIGGER certificate_changed ON iot.certificate;
CREATE TRIGGER certificate_added AFTER INSERT ON iot.certificate REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION iot.units_changed();
CREATE TRIGGER certificate_changed AFTER UPDATE ON iot.certificate REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION iot.units_changed();

-- migrate: rollback
DROP TRIGGER certificate_added ON iot.certificate;
DROP TRIGGER certificate_changed ON iot.certificate;
CREATE TRIGGER certificate_changed AFTER INSERT OR UPDATE ON iot.certificate
    FOR EACH STATEMENT EXECUTE FUNCTION iot.notify_unit();
ALTER TABLE iot.unit DROP COLUMN revoked_at;
