-- where the devices of a model speak, so that what they say is held while its own profile cannot be read
-- depends: 0008_users

-- migrate: apply
ALTER TABLE iot.profile
    ADD COLUMN address text NOT NULL DEFAULT '',      -- the form of a unit's address, with {address} once
    ADD COLUMN topics text[] NOT NULL DEFAULT '{}';   -- MQTT patterns with {address}

-- migrate: rollback
ALTER TABLE iot.profile DROP COLUMN address, DROP COLUMN topics;
