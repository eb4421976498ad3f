-- commands at local times, by clock and sun
-- depends: 0020_answers

-- migrate: apply
CREATE TABLE iot.schedule (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text NOT NULL UNIQUE CHECK (key ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    selector text NOT NULL,
    points jsonb NOT NULL,                      -- as a person writes them: "mon-fri dusk-15m dim level=60"
    latitude double precision NOT NULL,         -- whose sun counts: the middle of its devices when it was made
    longitude double precision NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text NOT NULL,
    done_until timestamptz NOT NULL DEFAULT now(),   -- moments up to here were sent, or are past
    stored_until timestamptz,                   -- devices that keep a schedule were given it up to here
    override_point text,                        -- what holds instead, from-to
    override_from timestamptz,
    override_to timestamptz
);

-- migrate: rollback
DROP TABLE iot.schedule;
