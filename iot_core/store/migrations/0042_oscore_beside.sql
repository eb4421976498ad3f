-- a new OSCORE key stands beside the old one until its device has used it
-- depends: 0041_english_area_names

-- migrate: apply
ALTER TABLE iot.credential DROP CONSTRAINT credential_kind_check;
ALTER TABLE iot.credential ADD CONSTRAINT credential_kind_check
    CHECK (kind IN ('login', 'oscore', 'next', 'oscore_next'));

-- migrate: rollback
DELETE FROM iot.credential WHERE kind = 'oscore_next';
ALTER TABLE iot.credential DROP CONSTRAINT credential_kind_check;
ALTER TABLE iot.credential ADD CONSTRAINT credential_kind_check CHECK (kind IN ('login', 'oscore', 'next'));
