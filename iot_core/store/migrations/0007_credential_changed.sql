-- who keeps keys in memory hears when one is made anew or forgotten; taking numbers is no change
-- depends: 0006_credential

-- migrate: apply
CREATE TRIGGER credential_changed AFTER INSERT OR DELETE OR UPDATE OF secret ON iot.credential
    FOR EACH STATEMENT EXECUTE FUNCTION iot.notify_unit();

-- migrate: rollback
DROP TRIGGER credential_changed ON iot.credential;
