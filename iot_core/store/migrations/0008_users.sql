-- people with passwords, rights that hold for areas, where a change came from, deeds that are asked for twice
-- depends: 0007_credential_changed

-- migrate: apply
CREATE TABLE iot.user_account (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL CHECK (name ~ '^[a-z0-9][a-z0-9._-]{0,62}$'),
    title text NOT NULL DEFAULT '',           -- as people call them, any script
    password_hash text NOT NULL,              -- argon2id, with its parameters
    created_at timestamptz NOT NULL DEFAULT now(),
    removed_at timestamptz
);
CREATE UNIQUE INDEX user_account_name ON iot.user_account (name) WHERE removed_at IS NULL;

-- A role holds for an area with all inside it; without an area, everywhere.
CREATE TABLE iot.user_right (
    user_id integer NOT NULL REFERENCES iot.user_account ON DELETE CASCADE,
    role text NOT NULL CHECK (role IN ('viewer', 'technician', 'operator', 'admin')),
    area_id integer REFERENCES iot.area ON DELETE CASCADE
);
CREATE UNIQUE INDEX user_right_once ON iot.user_right (user_id, role, coalesce(area_id, 0));

-- A token of a user may do no more than the user may at that moment, and no more than its own role in its own areas.
ALTER TABLE iot.token
    ADD COLUMN user_id integer REFERENCES iot.user_account ON DELETE CASCADE,
    ADD COLUMN area_ids integer[],            -- null: everywhere
    ADD COLUMN used_at timestamptz;           -- to the hour

-- Told on COMMIT: what somebody may do has changed; open streams look again.
CREATE FUNCTION iot.notify_access() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('iot_access', '');
    RETURN NULL;
END $$;
CREATE TRIGGER token_changed AFTER DELETE OR UPDATE OF revoked_at, expires_at, role, area_ids ON iot.token
    FOR EACH STATEMENT EXECUTE FUNCTION iot.notify_access();
CREATE TRIGGER user_changed AFTER DELETE OR UPDATE ON iot.user_account
    FOR EACH STATEMENT EXECUTE FUNCTION iot.notify_access();
CREATE TRIGGER right_changed AFTER INSERT OR DELETE OR UPDATE ON iot.user_right
    FOR EACH STATEMENT EXECUTE FUNCTION iot.notify_access();

ALTER TABLE iot.audit
    ADD COLUMN address text,                  -- from where; null: this machine's own doing
    ADD COLUMN via text;                      -- with which token, where `by` is a user
CREATE INDEX audit_by ON iot.audit (by, id);

-- migrate: rollback
