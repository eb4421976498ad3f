-- a new secret goes to a device by itself: sealed until the device has shown that it has it
-- depends: 0028_driver_session

-- migrate: apply
ALTER TABLE iot.credential DROP CONSTRAINT credential_kind_check;
ALTER TABLE iot.credential ADD CONSTRAINT credential_kind_check CHECK (kind IN ('login', 'oscore', 'next'));
ALTER TABLE iot.command_order DROP CONSTRAINT command_order_source_check;
ALTER TABLE iot.command_order ADD CONSTRAINT command_order_source_check
    CHECK (source IN ('person', 'schedule', 'twin', 'firmware', 'rotation'));
-- The copy of a new secret is for the sender alone, which looks it up: no driver has to hear of it.
DROP TRIGGER credential_changed ON iot.credential;
CREATE TRIGGER credential_added AFTER INSERT OR UPDATE OF secret ON iot.credential
    FOR EACH ROW WHEN (NEW.kind <> 'next') EXECUTE FUNCTION iot.credential_changed();
CREATE TRIGGER credential_removed AFTER DELETE ON iot.credential
    FOR EACH ROW WHEN (OLD.kind <> 'next') EXECUTE FUNCTION iot.credential_changed();

-- migrate: rollback
DROP TRIGGER credential_added ON iot.credential;
DROP TRIGGER credential_removed ON iot.credential;
CREATE TRIGGER credential_changed AFTER INSERT OR DELETE OR UPDATE OF secret ON iot.credential
    FOR EACH ROW EXECUTE FUNCTION iot.credential_changed();
DELETE FROM iot.credential WHERE kind = 'next';
ALTER TABLE iot.credential DROP CONSTRAINT credential_kind_check;
ALTER TABLE iot.credential ADD CONSTRAINT credential_kind_check CHECK (kind IN ('login', 'oscore'));
DELETE FROM iot.command_order WHERE source = 'rotation';
ALTER TABLE iot.command_order DROP CONSTRAINT command_order_source_check;
ALTER TABLE iot.command_order ADD CONSTRAINT command_order_source_check
    CHECK (source IN ('person', 'schedule', 'twin', 'firmware'));
