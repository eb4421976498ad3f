-- NGSI-LD subscriptions; the audit to syslog targets that ask for it; reports to the environmental authority
-- depends: 0017_technician

-- migrate: apply
ALTER TABLE iot.push_target DROP CONSTRAINT push_target_kind_check;
ALTER TABLE iot.push_target ADD CHECK (kind IN ('webhook', 'mqtt', 'apprise', 'syslog', 'feed', 'ngsi'));

CREATE TABLE iot.ngsi_subscription (
    id text PRIMARY KEY,
    target_id integer NOT NULL REFERENCES iot.push_target,
    body jsonb NOT NULL,
    household boolean NOT NULL,               -- its maker may see single households
    seen_at timestamptz NOT NULL,             -- what was received until then has been told
    told_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Security events: what is written into the audit goes, in the same transaction, to targets that ask for it.
CREATE FUNCTION iot.push_audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO iot.outbox (target_id, message_id, body, urgency)
    SELECT t.id, 'msg_' || replace(gen_random_uuid()::text, '-', ''), jsonb_build_object(
        'type', 'audit.recorded', 'timestamp', to_char(NEW.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"'),
        'data', jsonb_build_object('audit', jsonb_build_object('by', NEW."by", 'action', NEW.action,
            'subject', NEW.subject))), 2
    FROM iot.push_target t WHERE t.removed_at IS NULL AND t.options ->> 'audit' = 'true';
    RETURN NULL;
END $$;
CREATE TRIGGER audit_pushed AFTER INSERT ON iot.audit FOR EACH ROW EXECUTE FUNCTION iot.push_audit();

-- Files to the environmental authority: one for a station and a time, whatever becomes of its sending.
CREATE TABLE iot.report_file (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    device_id integer NOT NULL REFERENCES iot.device,
    period timestamptz NOT NULL,              -- the end of the five minutes that it tells of
    name text NOT NULL,
    lines integer NOT NULL,
    digest text NOT NULL,                     -- SHA-256 in hex
    made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempts integer NOT NULL DEFAULT 0,
    next_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_error text,
    sent_at timestamptz,
    body text NOT NULL,
    UNIQUE (device_id, period)
);
CREATE INDEX report_file_open ON iot.report_file (next_at) WHERE sent_at IS NULL;

-- migrate: rollback
DROP TABLE iot.report_file;
DROP TRIGGER audit_pushed ON iot.audit;
DROP FUNCTION iot.push_audit();
DROP TABLE iot.ngsi_subscription;
