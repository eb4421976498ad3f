-- two persons are two accounts: which user ordered, beside the name of then
-- depends: 0038_who_was_told

-- migrate: apply
ALTER TABLE iot.command_order ADD COLUMN by_user integer REFERENCES iot.user_account;  -- null: a program, the core
UPDATE iot.command_order o SET by_user = u.id FROM iot.user_account u
WHERE u.name = o.by AND u.removed_at IS NULL AND u.created_at <= o.created_at
    AND o.second_person AND o.confirmed_at IS NULL;
-- Was held on names, of which one person can have several, and two persons one.
ALTER TABLE iot.command_order DROP CONSTRAINT command_order_check;

-- migrate: rollback
ALTER TABLE iot.command_order ADD CONSTRAINT command_order_check CHECK (confirmed_by <> by) NOT VALID;
ALTER TABLE iot.command_order DROP COLUMN by_user;
