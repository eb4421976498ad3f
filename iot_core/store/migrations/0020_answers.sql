-- writes that are asked for twice are done once
-- depends: 0019_alarm_life

-- migrate: apply
-- What was answered to a write that carried an idempotency key; kept for ten minutes.
CREATE TABLE iot.answer (
    asker text NOT NULL,                      -- `user 3`, or `token 7` of a program
    key text NOT NULL,
    request bytea NOT NULL,                   -- SHA-256 of method, path and body: the same key must mean the same
    status integer NOT NULL,
    body bytea NOT NULL,                      -- sealed (store/vault.py): it may hold a secret that is shown once
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (asker, key)
);
CREATE INDEX answer_age ON iot.answer (created_at);

-- Which request did it: tells that a write was committed whose answer nobody could keep any more.
ALTER TABLE iot.operation ADD COLUMN request text;
CREATE INDEX operation_request ON iot.operation (request) WHERE request IS NOT NULL;

-- migrate: rollback
