-- what is looked for again and again is found without reading everybody's row
-- depends: 0022_authority

-- migrate: apply
-- Few rules are open at a time; silence, orphans and every start ask for those.
CREATE INDEX rule_state_open ON iot.rule_state (rule) WHERE state <> 'normal';
CREATE INDEX channel_device ON iot.channel (device_id);

-- migrate: rollback
