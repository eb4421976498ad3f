-- A database as release 0001 left it: areas, devices, units, rows, what was held, an alarm, its outbox.
-- Frozen: made by that release's code and pg_dump --inserts; weeks without rows are left out.
CREATE SCHEMA iot;
CREATE SCHEMA telemetry;
CREATE SCHEMA telemetry_part;
CREATE FUNCTION iot.notify_alarm_event() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM pg_notify('iot_alarm', NEW.id::text);
    RETURN NULL;
END $$;
CREATE FUNCTION iot.notify_outbox() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM pg_notify('iot_outbox', '');
    RETURN NULL;
END $$;
CREATE FUNCTION iot.notify_unit() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM pg_notify('iot_registry', '');
    RETURN NULL;
END $$;
CREATE TABLE iot.alarm (
    id bigint NOT NULL,
    source_kind text NOT NULL,
    source_id bigint NOT NULL,
    device_id integer,
    rule text NOT NULL,
    severity text NOT NULL,
    title_vi text NOT NULL,
    title_en text NOT NULL,
    metric text,
    value double precision,
    threshold double precision,
    latched boolean DEFAULT false NOT NULL,
    late boolean DEFAULT false NOT NULL,
    simulated boolean DEFAULT false NOT NULL,
    raised_at timestamp with time zone NOT NULL,
    received_at timestamp with time zone NOT NULL,
    recorded_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    cleared_at timestamp with time zone,
    acknowledged_at timestamp with time zone,
    acknowledged_by text,
    closed_at timestamp with time zone,
    version integer DEFAULT 1 NOT NULL,
    CONSTRAINT alarm_severity_check CHECK ((severity = ANY (ARRAY['critical'::text, 'high'::text, 'medium'::text, 'low'::text]))),
    CONSTRAINT alarm_source_kind_check CHECK ((source_kind = ANY (ARRAY['device'::text, 'area'::text, 'outside'::text])))
);
CREATE TABLE iot.alarm_event (
    id bigint NOT NULL,
    alarm_id bigint NOT NULL,
    kind text NOT NULL,
    at timestamp with time zone NOT NULL,
    recorded_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    by text,
    value double precision,
    note text,
    CONSTRAINT alarm_event_kind_check CHECK ((kind = ANY (ARRAY['raised'::text, 'returned'::text, 'cleared'::text, 'acknowledged'::text, 'commented'::text, 'closed'::text])))
);
ALTER TABLE iot.alarm_event ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME iot.alarm_event_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
ALTER TABLE iot.alarm ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME iot.alarm_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE iot.area (
    id integer NOT NULL,
    key text NOT NULL,
    name text NOT NULL,
    name_en text,
    kind text DEFAULT 'zone'::text NOT NULL,
    code text,
    parent_id integer,
    search text DEFAULT ''::text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT area_key_check CHECK ((key ~ '^[a-z0-9][a-z0-9-]{0,62}$'::text))
);
ALTER TABLE iot.area ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME iot.area_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE iot.audit (
    id bigint NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    by text NOT NULL,
    action text NOT NULL,
    subject text NOT NULL,
    before jsonb,
    after jsonb
);
ALTER TABLE iot.audit ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME iot.audit_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE iot.channel (
    unit_id integer NOT NULL,
    channel text NOT NULL,
    device_id integer NOT NULL
);
CREATE TABLE iot.device (
    id integer NOT NULL,
    key text NOT NULL,
    name text NOT NULL,
    class_key text NOT NULL,
    area_id integer,
    latitude double precision,
    longitude double precision,
    lifecycle text DEFAULT 'provisioned'::text NOT NULL,
    gateway_id integer,
    simulated boolean DEFAULT false NOT NULL,
    labels text[] DEFAULT '{}'::text[] NOT NULL,
    notes text DEFAULT ''::text NOT NULL,
    search text DEFAULT ''::text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    retired_at timestamp with time zone,
    CONSTRAINT device_key_check CHECK ((key ~ '^[a-z0-9][a-z0-9-]{0,62}$'::text)),
    CONSTRAINT device_latitude_check CHECK (((latitude >= ('-90'::integer)::double precision) AND (latitude <= (90)::double precision))),
    CONSTRAINT device_lifecycle_check CHECK ((lifecycle = ANY (ARRAY['planned'::text, 'provisioned'::text, 'active'::text, 'maintenance'::text, 'retired'::text]))),
    CONSTRAINT device_longitude_check CHECK (((longitude >= ('-180'::integer)::double precision) AND (longitude <= (180)::double precision)))
);
ALTER TABLE iot.device ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME iot.device_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE iot.device_status (
    device_id integer NOT NULL,
    last_received_at timestamp with time zone,
    last_time timestamp with time zone,
    said bigint DEFAULT 0 NOT NULL,
    online boolean,
    online_changed_at timestamp with time zone,
    silent_since timestamp with time zone
)
WITH (fillfactor='60');
CREATE VIEW iot.device_overview AS
 SELECT d.id AS device_id,
    d.key,
    d.name,
    d.class_key,
    d.latitude,
    d.longitude,
    d.simulated,
    a.key AS area,
    a.name AS area_name,
    s.last_received_at,
    s.online,
        CASE
            WHEN open.loud THEN 'alarm'::text
            WHEN open.silent THEN 'silent'::text
            WHEN (s.last_received_at IS NULL) THEN 'never'::text
            ELSE 'ok'::text
        END AS state
   FROM (((iot.device d
     LEFT JOIN iot.area a ON ((a.id = d.area_id)))
     LEFT JOIN iot.device_status s ON ((s.device_id = d.id)))
     LEFT JOIN ( SELECT alarm.device_id,
            bool_or((alarm.metric IS NOT NULL)) AS loud,
            bool_or((alarm.metric IS NULL)) AS silent
           FROM iot.alarm
          WHERE ((alarm.closed_at IS NULL) AND (alarm.cleared_at IS NULL))
          GROUP BY alarm.device_id) open ON ((open.device_id = d.id)))
  WHERE (d.retired_at IS NULL);
CREATE TABLE iot.fixed_setting (
    key text NOT NULL,
    value text NOT NULL
);
CREATE TABLE iot.held_uplink (
    id bigint NOT NULL,
    received_at timestamp with time zone NOT NULL,
    driver text NOT NULL,
    address text NOT NULL,
    topic text DEFAULT ''::text NOT NULL,
    kind text DEFAULT 'telemetry'::text NOT NULL,
    content_format integer,
    payload bytea,
    registers jsonb,
    unit_id integer,
    device_id integer,
    reason text NOT NULL,
    detail text DEFAULT ''::text NOT NULL,
    part jsonb
);
ALTER TABLE iot.held_uplink ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME iot.held_uplink_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE VIEW iot.inbox AS
 SELECT held_uplink.address,
    min(held_uplink.driver) AS driver,
    count(*) AS messages,
    min(held_uplink.received_at) AS first_at,
    max(held_uplink.received_at) AS last_at
   FROM iot.held_uplink
  WHERE (held_uplink.reason = 'unknown_address'::text)
  GROUP BY held_uplink.address;
CREATE TABLE iot.metric (
    class_key text NOT NULL,
    key text NOT NULL,
    "bit" smallint NOT NULL,
    sql_type text NOT NULL,
    ucum text NOT NULL,
    title_vi text NOT NULL,
    title_en text NOT NULL,
    retired_at timestamp with time zone,
    CONSTRAINT metric_bit_check CHECK ((("bit" >= 0) AND ("bit" <= 62)))
);
CREATE TABLE iot.outbox (
    id bigint NOT NULL,
    target_id integer NOT NULL,
    alarm_id bigint,
    message_id text NOT NULL,
    body jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    next_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    claimed_until timestamp with time zone,
    last_status integer,
    last_error text,
    delivered_at timestamp with time zone,
    dead_at timestamp with time zone
);
ALTER TABLE iot.outbox ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME iot.outbox_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE iot.push_target (
    id integer NOT NULL,
    key text NOT NULL,
    kind text NOT NULL,
    url text NOT NULL,
    secret text NOT NULL,
    accepts_simulated boolean DEFAULT false NOT NULL,
    min_severity text DEFAULT 'low'::text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    removed_at timestamp with time zone,
    CONSTRAINT push_target_key_check CHECK ((key ~ '^[a-z0-9][a-z0-9-]{0,62}$'::text)),
    CONSTRAINT push_target_kind_check CHECK ((kind = 'webhook'::text)),
    CONSTRAINT push_target_min_severity_check CHECK ((min_severity = ANY (ARRAY['critical'::text, 'high'::text, 'medium'::text, 'low'::text])))
);
ALTER TABLE iot.push_target ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME iot.push_target_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE iot.rule_state (
    source_kind text NOT NULL,
    source_id bigint NOT NULL,
    rule text NOT NULL,
    state text NOT NULL,
    since timestamp with time zone NOT NULL,
    due_at timestamp with time zone,
    last_time timestamp with time zone NOT NULL,
    alarm_id bigint,
    CONSTRAINT rule_state_state_check CHECK ((state = ANY (ARRAY['normal'::text, 'pending'::text, 'active'::text])))
);
CREATE TABLE iot.seq_range (
    unit_id integer NOT NULL,
    run text NOT NULL,
    seqs int8multirange NOT NULL
)
WITH (fillfactor='60');
CREATE TABLE iot.token (
    id integer NOT NULL,
    kind text DEFAULT 'token'::text NOT NULL,
    parent_id integer,
    name text NOT NULL,
    hash bytea NOT NULL,
    role text DEFAULT 'admin'::text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    expires_at timestamp with time zone,
    revoked_at timestamp with time zone,
    CONSTRAINT token_kind_check CHECK ((kind = ANY (ARRAY['token'::text, 'code'::text, 'session'::text]))),
    CONSTRAINT token_role_check CHECK ((role = ANY (ARRAY['viewer'::text, 'technician'::text, 'operator'::text, 'admin'::text])))
);
ALTER TABLE iot.token ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME iot.token_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE iot.unit (
    id integer NOT NULL,
    device_id integer NOT NULL,
    profile text NOT NULL,
    serial text,
    firmware text,
    address text NOT NULL,
    secret_hash text,
    mounted_from timestamp with time zone DEFAULT now() NOT NULL,
    mounted_to timestamp with time zone,
    CONSTRAINT unit_check CHECK ((mounted_to >= mounted_from))
);
ALTER TABLE iot.unit ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME iot.unit_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public._pogo_migration (
    migration_hash character varying(64) NOT NULL,
    migration_id character varying(255),
    applied timestamp with time zone,
    schema_name character varying(64) NOT NULL
);
CREATE TABLE public._pogo_version (
    version integer NOT NULL,
    installed timestamp with time zone
);
CREATE TABLE telemetry.air_quality (
    "time" timestamp with time zone NOT NULL,
    received_at timestamp with time zone NOT NULL,
    bad bigint DEFAULT 0 NOT NULL,
    device_id integer NOT NULL,
    pm1 real,
    pm25 real,
    pm10 real,
    co real,
    no2 real,
    so2 real,
    o3 real,
    co2 real,
    temperature real,
    humidity real,
    pressure real,
    noise real,
    battery real,
    quality smallint DEFAULT 0 NOT NULL,
    extra jsonb
)
PARTITION BY RANGE ("time");
CREATE VIEW telemetry.air_quality_latest AS
 SELECT d.id AS device_id,
    'pm1'::text AS metric,
    r.value,
    r."time",
    r.quality,
    r.bad
   FROM ((iot.device d
     CROSS JOIN LATERAL ( SELECT air_quality."time",
            air_quality.quality,
            (air_quality.pm1)::double precision AS value,
            (((air_quality.bad >> 0) & (1)::bigint) = 1) AS bad
           FROM telemetry.air_quality
          WHERE ((air_quality.device_id = d.id) AND (air_quality.pm1 IS NOT NULL))
          ORDER BY air_quality."time" DESC
         LIMIT 1) r)
     LEFT JOIN iot.device_status s ON ((s.device_id = d.id)))
  WHERE ((d.class_key = 'air_quality'::text) AND ((s.device_id IS NULL) OR (((s.said >> 0) & (1)::bigint) = 1)))
UNION ALL
 SELECT d.id AS device_id,
    'pm25'::text AS metric,
    r.value,
    r."time",
    r.quality,
    r.bad
   FROM ((iot.device d
     CROSS JOIN LATERAL ( SELECT air_quality."time",
            air_quality.quality,
            (air_quality.pm25)::double precision AS value,
            (((air_quality.bad >> 1) & (1)::bigint) = 1) AS bad
           FROM telemetry.air_quality
          WHERE ((air_quality.device_id = d.id) AND (air_quality.pm25 IS NOT NULL))
          ORDER BY air_quality."time" DESC
         LIMIT 1) r)
     LEFT JOIN iot.device_status s ON ((s.device_id = d.id)))
  WHERE ((d.class_key = 'air_quality'::text) AND ((s.device_id IS NULL) OR (((s.said >> 1) & (1)::bigint) = 1)))
UNION ALL
 SELECT d.id AS device_id,
    'pm10'::text AS metric,
    r.value,
    r."time",
    r.quality,
    r.bad
   FROM ((iot.device d
     CROSS JOIN LATERAL ( SELECT air_quality."time",
            air_quality.quality,
            (air_quality.pm10)::double precision AS value,
            (((air_quality.bad >> 2) & (1)::bigint) = 1) AS bad
           FROM telemetry.air_quality
          WHERE ((air_quality.device_id = d.id) AND (air_quality.pm10 IS NOT NULL))
          ORDER BY air_quality."time" DESC
         LIMIT 1) r)
     LEFT JOIN iot.device_status s ON ((s.device_id = d.id)))
  WHERE ((d.class_key = 'air_quality'::text) AND ((s.device_id IS NULL) OR (((s.said >> 2) & (1)::bigint) = 1)))
UNION ALL
 SELECT d.id AS device_id,
    'co'::text AS metric,
    r.value,
    r."time",
    r.quality,
    r.bad
   FROM ((iot.device d
     CROSS JOIN LATERAL ( SELECT air_quality."time",
            air_quality.quality,
            (air_quality.co)::double precision AS value,
            (((air_quality.bad >> 3) & (1)::bigint) = 1) AS bad
           FROM telemetry.air_quality
          WHERE ((air_quality.device_id = d.id) AND (air_quality.co IS NOT NULL))
          ORDER BY air_quality."time" DESC
         LIMIT 1) r)
     LEFT JOIN iot.device_status s ON ((s.device_id = d.id)))
  WHERE ((d.class_key = 'air_quality'::text) AND ((s.device_id IS NULL) OR (((s.said >> 3) & (1)::bigint) = 1)))
UNION ALL
 SELECT d.id AS device_id,
    'no2'::text AS metric,
    r.value,
    r."time",
    r.quality,
    r.bad
   FROM ((iot.device d
     CROSS JOIN LATERAL ( SELECT air_quality."time",
            air_quality.quality,
            (air_quality.no2)::double precision AS value,
            (((air_quality.bad >> 4) & (1)::bigint) = 1) AS bad
           FROM telemetry.air_quality
          WHERE ((air_quality.device_id = d.id) AND (air_quality.no2 IS NOT NULL))
          ORDER BY air_quality."time" DESC
         LIMIT 1) r)
     LEFT JOIN iot.device_status s ON ((s.device_id = d.id)))
  WHERE ((d.class_key = 'air_quality'::text) AND ((s.device_id IS NULL) OR (((s.said >> 4) & (1)::bigint) = 1)))
UNION ALL
 SELECT d.id AS device_id,
    'so2'::text AS metric,
    r.value,
    r."time",
    r.quality,
    r.bad
   FROM ((iot.device d
     CROSS JOIN LATERAL ( SELECT air_quality."time",
            air_quality.quality,
            (air_quality.so2)::double precision AS value,
            (((air_quality.bad >> 5) & (1)::bigint) = 1) AS bad
           FROM telemetry.air_quality
          WHERE ((air_quality.device_id = d.id) AND (air_quality.so2 IS NOT NULL))
          ORDER BY air_quality."time" DESC
         LIMIT 1) r)
     LEFT JOIN iot.device_status s ON ((s.device_id = d.id)))
  WHERE ((d.class_key = 'air_quality'::text) AND ((s.device_id IS NULL) OR (((s.said >> 5) & (1)::bigint) = 1)))
UNION ALL
 SELECT d.id AS device_id,
    'o3'::text AS metric,
    r.value,
    r."time",
    r.quality,
    r.bad
   FROM ((iot.device d
     CROSS JOIN LATERAL ( SELECT air_quality."time",
            air_quality.quality,
            (air_quality.o3)::double precision AS value,
            (((air_quality.bad >> 6) & (1)::bigint) = 1) AS bad
           FROM telemetry.air_quality
          WHERE ((air_quality.device_id = d.id) AND (air_quality.o3 IS NOT NULL))
          ORDER BY air_quality."time" DESC
         LIMIT 1) r)
     LEFT JOIN iot.device_status s ON ((s.device_id = d.id)))
  WHERE ((d.class_key = 'air_quality'::text) AND ((s.device_id IS NULL) OR (((s.said >> 6) & (1)::bigint) = 1)))
UNION ALL
 SELECT d.id AS device_id,
    'co2'::text AS metric,
    r.value,
    r."time",
    r.quality,
    r.bad
   FROM ((iot.device d
     CROSS JOIN LATERAL ( SELECT air_quality."time",
            air_quality.quality,
            (air_quality.co2)::double precision AS value,
            (((air_quality.bad >> 7) & (1)::bigint) = 1) AS bad
           FROM telemetry.air_quality
          WHERE ((air_quality.device_id = d.id) AND (air_quality.co2 IS NOT NULL))
          ORDER BY air_quality."time" DESC
         LIMIT 1) r)
     LEFT JOIN iot.device_status s ON ((s.device_id = d.id)))
  WHERE ((d.class_key = 'air_quality'::text) AND ((s.device_id IS NULL) OR (((s.said >> 7) & (1)::bigint) = 1)))
UNION ALL
 SELECT d.id AS device_id,
    'temperature'::text AS metric,
    r.value,
    r."time",
    r.quality,
    r.bad
   FROM ((iot.device d
     CROSS JOIN LATERAL ( SELECT air_quality."time",
            air_quality.quality,
            (air_quality.temperature)::double precision AS value,
            (((air_quality.bad >> 8) & (1)::bigint) = 1) AS bad
           FROM telemetry.air_quality
          WHERE ((air_quality.device_id = d.id) AND (air_quality.temperature IS NOT NULL))
          ORDER BY air_quality."time" DESC
         LIMIT 1) r)
     LEFT JOIN iot.device_status s ON ((s.device_id = d.id)))
  WHERE ((d.class_key = 'air_quality'::text) AND ((s.device_id IS NULL) OR (((s.said >> 8) & (1)::bigint) = 1)))
UNION ALL
 SELECT d.id AS device_id,
    'humidity'::text AS metric,
    r.value,
    r."time",
    r.quality,
    r.bad
   FROM ((iot.device d
     CROSS JOIN LATERAL ( SELECT air_quality."time",
            air_quality.quality,
            (air_quality.humidity)::double precision AS value,
            (((air_quality.bad >> 9) & (1)::bigint) = 1) AS bad
           FROM telemetry.air_quality
          WHERE ((air_quality.device_id = d.id) AND (air_quality.humidity IS NOT NULL))
          ORDER BY air_quality."time" DESC
         LIMIT 1) r)
     LEFT JOIN iot.device_status s ON ((s.device_id = d.id)))
  WHERE ((d.class_key = 'air_quality'::text) AND ((s.device_id IS NULL) OR (((s.said >> 9) & (1)::bigint) = 1)))
UNION ALL
 SELECT d.id AS device_id,
    'pressure'::text AS metric,
    r.value,
    r."time",
    r.quality,
    r.bad
   FROM ((iot.device d
     CROSS JOIN LATERAL ( SELECT air_quality."time",
            air_quality.quality,
            (air_quality.pressure)::double precision AS value,
            (((air_quality.bad >> 10) & (1)::bigint) = 1) AS bad
           FROM telemetry.air_quality
          WHERE ((air_quality.device_id = d.id) AND (air_quality.pressure IS NOT NULL))
          ORDER BY air_quality."time" DESC
         LIMIT 1) r)
     LEFT JOIN iot.device_status s ON ((s.device_id = d.id)))
  WHERE ((d.class_key = 'air_quality'::text) AND ((s.device_id IS NULL) OR (((s.said >> 10) & (1)::bigint) = 1)))
UNION ALL
 SELECT d.id AS device_id,
    'noise'::text AS metric,
    r.value,
    r."time",
    r.quality,
    r.bad
   FROM ((iot.device d
     CROSS JOIN LATERAL ( SELECT air_quality."time",
            air_quality.quality,
            (air_quality.noise)::double precision AS value,
            (((air_quality.bad >> 11) & (1)::bigint) = 1) AS bad
           FROM telemetry.air_quality
          WHERE ((air_quality.device_id = d.id) AND (air_quality.noise IS NOT NULL))
          ORDER BY air_quality."time" DESC
         LIMIT 1) r)
     LEFT JOIN iot.device_status s ON ((s.device_id = d.id)))
  WHERE ((d.class_key = 'air_quality'::text) AND ((s.device_id IS NULL) OR (((s.said >> 11) & (1)::bigint) = 1)))
UNION ALL
 SELECT d.id AS device_id,
    'battery'::text AS metric,
    r.value,
    r."time",
    r.quality,
    r.bad
   FROM ((iot.device d
     CROSS JOIN LATERAL ( SELECT air_quality."time",
            air_quality.quality,
            (air_quality.battery)::double precision AS value,
            (((air_quality.bad >> 12) & (1)::bigint) = 1) AS bad
           FROM telemetry.air_quality
          WHERE ((air_quality.device_id = d.id) AND (air_quality.battery IS NOT NULL))
          ORDER BY air_quality."time" DESC
         LIMIT 1) r)
     LEFT JOIN iot.device_status s ON ((s.device_id = d.id)))
  WHERE ((d.class_key = 'air_quality'::text) AND ((s.device_id IS NULL) OR (((s.said >> 12) & (1)::bigint) = 1)));
CREATE TABLE telemetry.water_meter (
    "time" timestamp with time zone NOT NULL,
    received_at timestamp with time zone NOT NULL,
    bad bigint DEFAULT 0 NOT NULL,
    device_id integer NOT NULL,
    volume double precision,
    flow double precision,
    pressure real,
    temperature real,
    battery real,
    leak boolean,
    burst boolean,
    reverse_flow boolean,
    tamper boolean,
    dry boolean,
    quality smallint DEFAULT 0 NOT NULL,
    extra jsonb
)
PARTITION BY RANGE ("time");
CREATE VIEW telemetry.water_meter_latest AS
 SELECT d.id AS device_id,
    'volume'::text AS metric,
    r.value,
    r."time",
    r.quality,
    r.bad
   FROM ((iot.device d
     CROSS JOIN LATERAL ( SELECT water_meter."time",
            water_meter.quality,
            water_meter.volume AS value,
            (((water_meter.bad >> 0) & (1)::bigint) = 1) AS bad
           FROM telemetry.water_meter
          WHERE ((water_meter.device_id = d.id) AND (water_meter.volume IS NOT NULL))
          ORDER BY water_meter."time" DESC
         LIMIT 1) r)
     LEFT JOIN iot.device_status s ON ((s.device_id = d.id)))
  WHERE ((d.class_key = 'water_meter'::text) AND ((s.device_id IS NULL) OR (((s.said >> 0) & (1)::bigint) = 1)))
UNION ALL
 SELECT d.id AS device_id,
    'flow'::text AS metric,
    r.value,
    r."time",
    r.quality,
    r.bad
   FROM ((iot.device d
     CROSS JOIN LATERAL ( SELECT water_meter."time",
            water_meter.quality,
            water_meter.flow AS value,
            (((water_meter.bad >> 1) & (1)::bigint) = 1) AS bad
           FROM telemetry.water_meter
          WHERE ((water_meter.device_id = d.id) AND (water_meter.flow IS NOT NULL))
          ORDER BY water_meter."time" DESC
         LIMIT 1) r)
     LEFT JOIN iot.device_status s ON ((s.device_id = d.id)))
  WHERE ((d.class_key = 'water_meter'::text) AND ((s.device_id IS NULL) OR (((s.said >> 1) & (1)::bigint) = 1)))
UNION ALL
 SELECT d.id AS device_id,
    'pressure'::text AS metric,
    r.value,
    r."time",
    r.quality,
    r.bad
   FROM ((iot.device d
     CROSS JOIN LATERAL ( SELECT water_meter."time",
            water_meter.quality,
            (water_meter.pressure)::double precision AS value,
            (((water_meter.bad >> 2) & (1)::bigint) = 1) AS bad
           FROM telemetry.water_meter
          WHERE ((water_meter.device_id = d.id) AND (water_meter.pressure IS NOT NULL))
          ORDER BY water_meter."time" DESC
         LIMIT 1) r)
     LEFT JOIN iot.device_status s ON ((s.device_id = d.id)))
  WHERE ((d.class_key = 'water_meter'::text) AND ((s.device_id IS NULL) OR (((s.said >> 2) & (1)::bigint) = 1)))
UNION ALL
 SELECT d.id AS device_id,
    'temperature'::text AS metric,
    r.value,
    r."time",
    r.quality,
    r.bad
   FROM ((iot.device d
     CROSS JOIN LATERAL ( SELECT water_meter."time",
            water_meter.quality,
            (water_meter.temperature)::double precision AS value,
            (((water_meter.bad >> 3) & (1)::bigint) = 1) AS bad
           FROM telemetry.water_meter
          WHERE ((water_meter.device_id = d.id) AND (water_meter.temperature IS NOT NULL))
          ORDER BY water_meter."time" DESC
         LIMIT 1) r)
     LEFT JOIN iot.device_status s ON ((s.device_id = d.id)))
  WHERE ((d.class_key = 'water_meter'::text) AND ((s.device_id IS NULL) OR (((s.said >> 3) & (1)::bigint) = 1)))
UNION ALL
 SELECT d.id AS device_id,
    'battery'::text AS metric,
    r.value,
    r."time",
    r.quality,
    r.bad
   FROM ((iot.device d
     CROSS JOIN LATERAL ( SELECT water_meter."time",
            water_meter.quality,
            (water_meter.battery)::double precision AS value,
            (((water_meter.bad >> 4) & (1)::bigint) = 1) AS bad
           FROM telemetry.water_meter
          WHERE ((water_meter.device_id = d.id) AND (water_meter.battery IS NOT NULL))
          ORDER BY water_meter."time" DESC
         LIMIT 1) r)
     LEFT JOIN iot.device_status s ON ((s.device_id = d.id)))
  WHERE ((d.class_key = 'water_meter'::text) AND ((s.device_id IS NULL) OR (((s.said >> 4) & (1)::bigint) = 1)))
UNION ALL
 SELECT d.id AS device_id,
    'leak'::text AS metric,
    r.value,
    r."time",
    r.quality,
    r.bad
   FROM ((iot.device d
     CROSS JOIN LATERAL ( SELECT water_meter."time",
            water_meter.quality,
            ((water_meter.leak)::integer)::double precision AS value,
            (((water_meter.bad >> 5) & (1)::bigint) = 1) AS bad
           FROM telemetry.water_meter
          WHERE ((water_meter.device_id = d.id) AND (water_meter.leak IS NOT NULL))
          ORDER BY water_meter."time" DESC
         LIMIT 1) r)
     LEFT JOIN iot.device_status s ON ((s.device_id = d.id)))
  WHERE ((d.class_key = 'water_meter'::text) AND ((s.device_id IS NULL) OR (((s.said >> 5) & (1)::bigint) = 1)))
UNION ALL
 SELECT d.id AS device_id,
    'burst'::text AS metric,
    r.value,
    r."time",
    r.quality,
    r.bad
   FROM ((iot.device d
     CROSS JOIN LATERAL ( SELECT water_meter."time",
            water_meter.quality,
            ((water_meter.burst)::integer)::double precision AS value,
            (((water_meter.bad >> 6) & (1)::bigint) = 1) AS bad
           FROM telemetry.water_meter
          WHERE ((water_meter.device_id = d.id) AND (water_meter.burst IS NOT NULL))
          ORDER BY water_meter."time" DESC
         LIMIT 1) r)
     LEFT JOIN iot.device_status s ON ((s.device_id = d.id)))
  WHERE ((d.class_key = 'water_meter'::text) AND ((s.device_id IS NULL) OR (((s.said >> 6) & (1)::bigint) = 1)))
UNION ALL
 SELECT d.id AS device_id,
    'reverse_flow'::text AS metric,
    r.value,
    r."time",
    r.quality,
    r.bad
   FROM ((iot.device d
     CROSS JOIN LATERAL ( SELECT water_meter."time",
            water_meter.quality,
            ((water_meter.reverse_flow)::integer)::double precision AS value,
            (((water_meter.bad >> 7) & (1)::bigint) = 1) AS bad
           FROM telemetry.water_meter
          WHERE ((water_meter.device_id = d.id) AND (water_meter.reverse_flow IS NOT NULL))
          ORDER BY water_meter."time" DESC
         LIMIT 1) r)
     LEFT JOIN iot.device_status s ON ((s.device_id = d.id)))
  WHERE ((d.class_key = 'water_meter'::text) AND ((s.device_id IS NULL) OR (((s.said >> 7) & (1)::bigint) = 1)))
UNION ALL
 SELECT d.id AS device_id,
    'tamper'::text AS metric,
    r.value,
    r."time",
    r.quality,
    r.bad
   FROM ((iot.device d
     CROSS JOIN LATERAL ( SELECT water_meter."time",
            water_meter.quality,
            ((water_meter.tamper)::integer)::double precision AS value,
            (((water_meter.bad >> 8) & (1)::bigint) = 1) AS bad
           FROM telemetry.water_meter
          WHERE ((water_meter.device_id = d.id) AND (water_meter.tamper IS NOT NULL))
          ORDER BY water_meter."time" DESC
         LIMIT 1) r)
     LEFT JOIN iot.device_status s ON ((s.device_id = d.id)))
  WHERE ((d.class_key = 'water_meter'::text) AND ((s.device_id IS NULL) OR (((s.said >> 8) & (1)::bigint) = 1)))
UNION ALL
 SELECT d.id AS device_id,
    'dry'::text AS metric,
    r.value,
    r."time",
    r.quality,
    r.bad
   FROM ((iot.device d
     CROSS JOIN LATERAL ( SELECT water_meter."time",
            water_meter.quality,
            ((water_meter.dry)::integer)::double precision AS value,
            (((water_meter.bad >> 9) & (1)::bigint) = 1) AS bad
           FROM telemetry.water_meter
          WHERE ((water_meter.device_id = d.id) AND (water_meter.dry IS NOT NULL))
          ORDER BY water_meter."time" DESC
         LIMIT 1) r)
     LEFT JOIN iot.device_status s ON ((s.device_id = d.id)))
  WHERE ((d.class_key = 'water_meter'::text) AND ((s.device_id IS NULL) OR (((s.said >> 9) & (1)::bigint) = 1)));
CREATE VIEW telemetry.latest AS
 SELECT 'air_quality'::text AS class_key,
    air_quality_latest.device_id,
    air_quality_latest.metric,
    air_quality_latest.value,
    air_quality_latest."time",
    air_quality_latest.quality,
    air_quality_latest.bad
   FROM telemetry.air_quality_latest
UNION ALL
 SELECT 'water_meter'::text AS class_key,
    water_meter_latest.device_id,
    water_meter_latest.metric,
    water_meter_latest.value,
    water_meter_latest."time",
    water_meter_latest.quality,
    water_meter_latest.bad
   FROM telemetry.water_meter_latest;
CREATE TABLE telemetry_part.air_quality_20261116 (
    "time" timestamp with time zone NOT NULL,
    received_at timestamp with time zone NOT NULL,
    bad bigint DEFAULT 0 NOT NULL,
    device_id integer NOT NULL,
    pm1 real,
    pm25 real,
    pm10 real,
    co real,
    no2 real,
    so2 real,
    o3 real,
    co2 real,
    temperature real,
    humidity real,
    pressure real,
    noise real,
    battery real,
    quality smallint DEFAULT 0 NOT NULL,
    extra jsonb
);
CREATE TABLE telemetry_part.water_meter_20261116 (
    "time" timestamp with time zone NOT NULL,
    received_at timestamp with time zone NOT NULL,
    bad bigint DEFAULT 0 NOT NULL,
    device_id integer NOT NULL,
    volume double precision,
    flow double precision,
    pressure real,
    temperature real,
    battery real,
    leak boolean,
    burst boolean,
    reverse_flow boolean,
    tamper boolean,
    dry boolean,
    quality smallint DEFAULT 0 NOT NULL,
    extra jsonb
);
ALTER TABLE ONLY telemetry.air_quality ATTACH PARTITION telemetry_part.air_quality_20261116 FOR VALUES FROM ('2026-11-16 00:00:00+00') TO ('2026-11-23 00:00:00+00');
ALTER TABLE ONLY telemetry.water_meter ATTACH PARTITION telemetry_part.water_meter_20261116 FOR VALUES FROM ('2026-11-16 00:00:00+00') TO ('2026-11-23 00:00:00+00');
INSERT INTO iot.alarm OVERRIDING SYSTEM VALUE VALUES (1, 'device', 1, 1, 'air_quality.silent', 'low', 'Mất kết nối', 'Silent', NULL, NULL, NULL, false, false, false, '2026-11-20 00:00:00+00', '2026-11-20 00:00:00+00', '2026-11-28 10:27:31.416976+00', NULL, NULL, NULL, NULL, 1);
INSERT INTO iot.alarm_event OVERRIDING SYSTEM VALUE VALUES (1, 1, 'raised', '2026-11-20 00:00:00+00', '2026-11-28 10:27:31.417257+00', NULL, NULL, NULL);
INSERT INTO iot.area OVERRIDING SYSTEM VALUE VALUES (1, 'hong-gai', 'Phường Hồng Gai', NULL, 'ward', NULL, NULL, '', '2026-11-28 10:27:31.410375+00');
INSERT INTO iot.area OVERRIDING SYSTEM VALUE VALUES (2, 'dma-1', 'DMA 1', NULL, 'dma', NULL, 1, '', '2026-11-28 10:27:31.410375+00');
INSERT INTO iot.audit OVERRIDING SYSTEM VALUE VALUES (1, '2026-11-28 10:27:31.418603+00', 'local', 'device.add', 'device/aq-1', NULL, NULL);
INSERT INTO iot.device OVERRIDING SYSTEM VALUE VALUES (1, 'aq-1', 'Trạm 1', 'air_quality', 1, NULL, NULL, 'active', NULL, false, '{}', '', '', '2026-11-28 10:27:31.410375+00', NULL);
INSERT INTO iot.device OVERRIDING SYSTEM VALUE VALUES (2, 'wm-1', 'Đồng hồ 1', 'water_meter', 2, NULL, NULL, 'active', NULL, false, '{}', '', '', '2026-11-28 10:27:31.410375+00', NULL);
INSERT INTO iot.device OVERRIDING SYSTEM VALUE VALUES (3, 'wm-2', 'Đồng hồ 2', 'water_meter', 2, NULL, NULL, 'retired', NULL, false, '{}', '', '', '2026-11-28 10:27:31.410375+00', NULL);
INSERT INTO iot.device_status VALUES (1, '2026-11-20 00:00:00+00', '2026-11-20 00:00:00+00', 3, true, NULL, NULL);
INSERT INTO iot.fixed_setting VALUES ('timezone', 'Asia/Ho_Chi_Minh');
INSERT INTO iot.held_uplink OVERRIDING SYSTEM VALUE VALUES (1, '2026-11-20 00:00:00+00', 'mqtt', 'iot:aq-1', 'iot/v1/aq-1/telemetry', 'telemetry', NULL, '\x7b', NULL, 1, 1, 'not_json', '', NULL);
INSERT INTO iot.held_uplink OVERRIDING SYSTEM VALUE VALUES (2, '2026-11-20 00:00:00+00', 'mqtt', 'iot:stranger', 'x', 'telemetry', NULL, '\x7b7d', NULL, NULL, NULL, 'unknown_address', '', NULL);
INSERT INTO iot.metric VALUES ('air_quality', 'pm1', 0, 'real', 'ug/m3', 'Bụi mịn PM1', 'Particles PM1', NULL);
INSERT INTO iot.metric VALUES ('air_quality', 'pm25', 1, 'real', 'ug/m3', 'Bụi mịn PM2,5', 'Fine particles PM2.5', NULL);
INSERT INTO iot.metric VALUES ('air_quality', 'pm10', 2, 'real', 'ug/m3', 'Bụi PM10', 'Particles PM10', NULL);
INSERT INTO iot.metric VALUES ('air_quality', 'co', 3, 'real', 'ug/m3', 'Cacbon monoxit (CO)', 'Carbon monoxide (CO)', NULL);
INSERT INTO iot.metric VALUES ('air_quality', 'no2', 4, 'real', 'ug/m3', 'Nitơ đioxit (NO₂)', 'Nitrogen dioxide (NO₂)', NULL);
INSERT INTO iot.metric VALUES ('air_quality', 'so2', 5, 'real', 'ug/m3', 'Lưu huỳnh đioxit (SO₂)', 'Sulphur dioxide (SO₂)', NULL);
INSERT INTO iot.metric VALUES ('air_quality', 'o3', 6, 'real', 'ug/m3', 'Ozon (O₃)', 'Ozone (O₃)', NULL);
INSERT INTO iot.metric VALUES ('air_quality', 'co2', 7, 'real', '[ppm]', 'Cacbon đioxit (CO₂)', 'Carbon dioxide (CO₂)', NULL);
INSERT INTO iot.metric VALUES ('air_quality', 'temperature', 8, 'real', 'Cel', 'Nhiệt độ', 'Temperature', NULL);
INSERT INTO iot.metric VALUES ('air_quality', 'humidity', 9, 'real', '%', 'Độ ẩm tương đối', 'Relative humidity', NULL);
INSERT INTO iot.metric VALUES ('air_quality', 'pressure', 10, 'real', 'hPa', 'Áp suất khí quyển', 'Air pressure', NULL);
INSERT INTO iot.metric VALUES ('air_quality', 'noise', 11, 'real', 'dB[SPL]', 'Mức ồn', 'Sound level', NULL);
INSERT INTO iot.metric VALUES ('air_quality', 'battery', 12, 'real', '%', 'Pin', 'Battery', NULL);
INSERT INTO iot.metric VALUES ('water_meter', 'volume', 0, 'double precision', 'm3', 'Chỉ số nước', 'Volume', NULL);
INSERT INTO iot.metric VALUES ('water_meter', 'flow', 1, 'double precision', 'm3/h', 'Lưu lượng', 'Flow rate', NULL);
INSERT INTO iot.metric VALUES ('water_meter', 'pressure', 2, 'real', 'bar', 'Áp lực nước', 'Water pressure', NULL);
INSERT INTO iot.metric VALUES ('water_meter', 'temperature', 3, 'real', 'Cel', 'Nhiệt độ nước', 'Water temperature', NULL);
INSERT INTO iot.metric VALUES ('water_meter', 'battery', 4, 'real', '%', 'Pin', 'Battery', NULL);
INSERT INTO iot.metric VALUES ('water_meter', 'leak', 5, 'boolean', '1', 'Rò rỉ nước', 'Leak', NULL);
INSERT INTO iot.metric VALUES ('water_meter', 'burst', 6, 'boolean', '1', 'Vỡ ống', 'Burst', NULL);
INSERT INTO iot.metric VALUES ('water_meter', 'reverse_flow', 7, 'boolean', '1', 'Nước chảy ngược', 'Reverse flow', NULL);
INSERT INTO iot.metric VALUES ('water_meter', 'tamper', 8, 'boolean', '1', 'Can thiệp trái phép', 'Tamper', NULL);
INSERT INTO iot.metric VALUES ('water_meter', 'dry', 9, 'boolean', '1', 'Đồng hồ không có nước', 'Meter dry', NULL);
INSERT INTO iot.outbox OVERRIDING SYSTEM VALUE VALUES (1, 1, 1, 'm-1', '{"a": 1}', '2026-11-28 10:27:31.418038+00', '2026-11-28 10:27:31.418038+00', 0, NULL, NULL, NULL, NULL, NULL);
INSERT INTO iot.push_target OVERRIDING SYSTEM VALUE VALUES (1, 'ioc', 'webhook', 'http://127.0.0.1:9000/alarms', 'whsec_bm90IGEgc2VjcmV0IG9mIGFueWJvZHk=', false, 'low', '2026-11-28 10:27:31.410375+00', NULL);
INSERT INTO iot.rule_state VALUES ('device', 1, 'air_quality.silent', 'active', '2026-11-20 00:00:00+00', NULL, '2026-11-20 00:00:00+00', 1);
INSERT INTO iot.seq_range VALUES (1, 'run-1', '{[1,6),[8,10)}');
INSERT INTO iot.token OVERRIDING SYSTEM VALUE VALUES (1, 'token', NULL, 'reader', '\x00', 'viewer', '2026-11-28 10:27:31.410375+00', NULL, NULL);
INSERT INTO iot.unit OVERRIDING SYSTEM VALUE VALUES (1, 1, 'native-air-quality', NULL, NULL, 'iot:aq-1', NULL, '2026-01-01 00:00:00+00', NULL);
INSERT INTO iot.unit OVERRIDING SYSTEM VALUE VALUES (2, 2, 'native-water-meter', NULL, NULL, 'iot:wm-1', NULL, '2026-01-01 00:00:00+00', NULL);
INSERT INTO iot.unit OVERRIDING SYSTEM VALUE VALUES (3, 3, 'native-water-meter', NULL, NULL, 'iot:wm-2', NULL, '2026-01-01 00:00:00+00', '2026-11-01 00:00:00+00');
INSERT INTO public._pogo_migration VALUES ('1e6218c01a2544c455877bc048393e7a9254faf06f3b6e1a8cd1ecc277b2041b', '0001_first', '2026-11-28 10:27:31.066917+00', 'public');
INSERT INTO public._pogo_version VALUES (0, '2026-11-28 10:27:30.92706+00');
INSERT INTO public._pogo_version VALUES (1, '2026-11-28 10:27:30.938874+00');
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-18 16:00:00+00', '2026-11-18 16:00:00+00', 0, 1, NULL, 0.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-18 16:30:00+00', '2026-11-18 16:30:00+00', 0, 1, NULL, 30.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-18 17:00:00+00', '2026-11-18 17:00:00+00', 0, 1, NULL, 0.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-18 17:30:00+00', '2026-11-18 17:30:00+00', 0, 1, NULL, 30.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-18 18:00:00+00', '2026-11-18 18:00:00+00', 0, 1, NULL, 0.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-18 18:30:00+00', '2026-11-18 18:30:00+00', 0, 1, NULL, 30.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-18 19:00:00+00', '2026-11-18 19:00:00+00', 0, 1, NULL, 0.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-18 19:30:00+00', '2026-11-18 19:30:00+00', 0, 1, NULL, 30.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-18 20:00:00+00', '2026-11-18 20:00:00+00', 0, 1, NULL, 0.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-18 20:30:00+00', '2026-11-18 20:30:00+00', 0, 1, NULL, 30.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-18 21:00:00+00', '2026-11-18 21:00:00+00', 0, 1, NULL, 0.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-18 21:30:00+00', '2026-11-18 21:30:00+00', 0, 1, NULL, 30.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-18 22:00:00+00', '2026-11-18 22:00:00+00', 0, 1, NULL, 0.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-18 22:30:00+00', '2026-11-18 22:30:00+00', 0, 1, NULL, 30.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-18 23:00:00+00', '2026-11-18 23:00:00+00', 0, 1, NULL, 0.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-18 23:30:00+00', '2026-11-18 23:30:00+00', 0, 1, NULL, 30.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-19 00:00:00+00', '2026-11-19 00:00:00+00', 0, 1, NULL, 0.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-19 00:30:00+00', '2026-11-19 00:30:00+00', 0, 1, NULL, 30.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-19 01:00:00+00', '2026-11-19 01:00:00+00', 0, 1, NULL, 0.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-19 01:30:00+00', '2026-11-19 01:30:00+00', 0, 1, NULL, 30.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-19 02:00:00+00', '2026-11-19 02:00:00+00', 0, 1, NULL, 0.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-19 02:30:00+00', '2026-11-19 02:30:00+00', 0, 1, NULL, 30.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-19 03:00:00+00', '2026-11-19 03:00:00+00', 0, 1, NULL, 0.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-19 03:30:00+00', '2026-11-19 03:30:00+00', 0, 1, NULL, 30.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-19 04:00:00+00', '2026-11-19 04:00:00+00', 0, 1, NULL, 0.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-19 04:30:00+00', '2026-11-19 04:30:00+00', 0, 1, NULL, 30.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-19 05:00:00+00', '2026-11-19 05:00:00+00', 0, 1, NULL, 0.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-19 05:30:00+00', '2026-11-19 05:30:00+00', 0, 1, NULL, 30.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-19 06:00:00+00', '2026-11-19 06:00:00+00', 0, 1, NULL, 0.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-19 06:30:00+00', '2026-11-19 06:30:00+00', 0, 1, NULL, 30.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-19 07:00:00+00', '2026-11-19 07:00:00+00', 0, 1, NULL, 0.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-19 07:30:00+00', '2026-11-19 07:30:00+00', 0, 1, NULL, 30.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-19 08:00:00+00', '2026-11-19 08:00:00+00', 0, 1, NULL, 0.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-19 08:30:00+00', '2026-11-19 08:30:00+00', 0, 1, NULL, 30.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-19 09:00:00+00', '2026-11-19 09:00:00+00', 0, 1, NULL, 0.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-19 09:30:00+00', '2026-11-19 09:30:00+00', 0, 1, NULL, 30.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-19 10:00:00+00', '2026-11-19 10:00:00+00', 0, 1, NULL, 0.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-19 10:30:00+00', '2026-11-19 10:30:00+00', 0, 1, NULL, 30.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-19 11:00:00+00', '2026-11-19 11:00:00+00', 0, 1, NULL, 0.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-19 11:30:00+00', '2026-11-19 11:30:00+00', 0, 1, NULL, 30.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-19 12:00:00+00', '2026-11-19 12:00:00+00', 0, 1, NULL, 0.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-19 12:30:00+00', '2026-11-19 12:30:00+00', 0, 1, NULL, 30.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-19 13:00:00+00', '2026-11-19 13:00:00+00', 0, 1, NULL, 0.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-19 13:30:00+00', '2026-11-19 13:30:00+00', 0, 1, NULL, 30.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-19 14:00:00+00', '2026-11-19 14:00:00+00', 0, 1, NULL, 0.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-19 14:30:00+00', '2026-11-19 14:30:00+00', 0, 1, NULL, 30.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-19 15:00:00+00', '2026-11-19 15:00:00+00', 0, 1, NULL, 0.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-19 15:30:00+00', '2026-11-19 15:30:00+00', 0, 1, NULL, 30.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-19 16:00:00+00', '2026-11-19 16:00:00+00', 0, 1, NULL, 0.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-19 16:30:00+00', '2026-11-19 16:30:00+00', 0, 1, NULL, 30.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-19 17:00:00+00', '2026-11-19 17:00:00+00', 0, 1, NULL, 0.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-19 17:30:00+00', '2026-11-19 17:30:00+00', 0, 1, NULL, 30.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-19 18:00:00+00', '2026-11-19 18:00:00+00', 0, 1, NULL, 0.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-19 18:30:00+00', '2026-11-19 18:30:00+00', 0, 1, NULL, 30.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-19 19:00:00+00', '2026-11-19 19:00:00+00', 0, 1, NULL, 0.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-19 19:30:00+00', '2026-11-19 19:30:00+00', 0, 1, NULL, 30.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-19 20:00:00+00', '2026-11-19 20:00:00+00', 0, 1, NULL, 0.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-19 20:30:00+00', '2026-11-19 20:30:00+00', 0, 1, NULL, 30.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-19 21:00:00+00', '2026-11-19 21:00:00+00', 0, 1, NULL, 0.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.air_quality_20261116 VALUES ('2026-11-19 21:30:00+00', '2026-11-19 21:30:00+00', 0, 1, NULL, 30.25, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-18 16:00:00+00', '2026-11-18 16:00:00+00', 0, 2, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-18 16:30:00+00', '2026-11-18 16:30:00+00', 0, 2, 0.3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-18 17:00:00+00', '2026-11-18 17:00:00+00', 0, 2, 0.6, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-18 17:30:00+00', '2026-11-18 17:30:00+00', 0, 2, 0.9, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-18 18:00:00+00', '2026-11-18 18:00:00+00', 0, 2, 1.2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-18 18:30:00+00', '2026-11-18 18:30:00+00', 0, 2, 1.5, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-18 19:00:00+00', '2026-11-18 19:00:00+00', 0, 2, 1.8, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-18 19:30:00+00', '2026-11-18 19:30:00+00', 0, 2, 2.1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-18 20:00:00+00', '2026-11-18 20:00:00+00', 0, 2, 2.4, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-18 20:30:00+00', '2026-11-18 20:30:00+00', 0, 2, 2.7, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-18 21:00:00+00', '2026-11-18 21:00:00+00', 0, 2, 3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-18 21:30:00+00', '2026-11-18 21:30:00+00', 0, 2, 3.3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-18 22:00:00+00', '2026-11-18 22:00:00+00', 0, 2, 3.6, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-18 22:30:00+00', '2026-11-18 22:30:00+00', 0, 2, 3.9, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-18 23:00:00+00', '2026-11-18 23:00:00+00', 0, 2, 4.2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-18 23:30:00+00', '2026-11-18 23:30:00+00', 0, 2, 4.5, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-19 00:00:00+00', '2026-11-19 00:00:00+00', 0, 2, 4.8, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-19 00:30:00+00', '2026-11-19 00:30:00+00', 0, 2, 5.1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-19 01:00:00+00', '2026-11-19 01:00:00+00', 0, 2, 5.4, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-19 01:30:00+00', '2026-11-19 01:30:00+00', 0, 2, 5.7, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-19 02:00:00+00', '2026-11-19 02:00:00+00', 0, 2, 6, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-19 02:30:00+00', '2026-11-19 02:30:00+00', 0, 2, 6.3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-19 03:00:00+00', '2026-11-19 03:00:00+00', 0, 2, 6.6, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-19 03:30:00+00', '2026-11-19 03:30:00+00', 0, 2, 6.9, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-19 04:00:00+00', '2026-11-19 04:00:00+00', 0, 2, 7.2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-19 04:30:00+00', '2026-11-19 04:30:00+00', 0, 2, 7.5, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-19 05:00:00+00', '2026-11-19 05:00:00+00', 0, 2, 7.8, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-19 05:30:00+00', '2026-11-19 05:30:00+00', 0, 2, 8.1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-19 06:00:00+00', '2026-11-19 06:00:00+00', 0, 2, 8.4, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-19 06:30:00+00', '2026-11-19 06:30:00+00', 0, 2, 8.7, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-19 07:00:00+00', '2026-11-19 07:00:00+00', 0, 2, 9, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-19 07:30:00+00', '2026-11-19 07:30:00+00', 0, 2, 9.3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-19 08:00:00+00', '2026-11-19 08:00:00+00', 0, 2, 9.6, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-19 08:30:00+00', '2026-11-19 08:30:00+00', 0, 2, 9.9, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-19 09:00:00+00', '2026-11-19 09:00:00+00', 0, 2, 10.2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-19 09:30:00+00', '2026-11-19 09:30:00+00', 0, 2, 10.5, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-19 10:00:00+00', '2026-11-19 10:00:00+00', 0, 2, 10.8, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-19 10:30:00+00', '2026-11-19 10:30:00+00', 0, 2, 11.1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-19 11:00:00+00', '2026-11-19 11:00:00+00', 0, 2, 11.4, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-19 11:30:00+00', '2026-11-19 11:30:00+00', 0, 2, 11.7, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-19 12:00:00+00', '2026-11-19 12:00:00+00', 0, 2, 12, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-19 12:30:00+00', '2026-11-19 12:30:00+00', 0, 2, 12.3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-19 13:00:00+00', '2026-11-19 13:00:00+00', 0, 2, 12.6, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-19 13:30:00+00', '2026-11-19 13:30:00+00', 0, 2, 12.9, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-19 14:00:00+00', '2026-11-19 14:00:00+00', 0, 2, 13.2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-19 14:30:00+00', '2026-11-19 14:30:00+00', 0, 2, 13.5, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-19 15:00:00+00', '2026-11-19 15:00:00+00', 0, 2, 13.8, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-19 15:30:00+00', '2026-11-19 15:30:00+00', 0, 2, 14.1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-19 16:00:00+00', '2026-11-19 16:00:00+00', 0, 2, 14.4, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-19 16:30:00+00', '2026-11-19 16:30:00+00', 0, 2, 14.7, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-19 17:00:00+00', '2026-11-19 17:00:00+00', 0, 2, 15, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-19 17:30:00+00', '2026-11-19 17:30:00+00', 0, 2, 15.3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-19 18:00:00+00', '2026-11-19 18:00:00+00', 0, 2, 15.6, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-19 18:30:00+00', '2026-11-19 18:30:00+00', 0, 2, 15.9, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-19 19:00:00+00', '2026-11-19 19:00:00+00', 0, 2, 16.2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-19 19:30:00+00', '2026-11-19 19:30:00+00', 0, 2, 16.5, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-19 20:00:00+00', '2026-11-19 20:00:00+00', 0, 2, 16.8, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-19 20:30:00+00', '2026-11-19 20:30:00+00', 0, 2, 17.1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-19 21:00:00+00', '2026-11-19 21:00:00+00', 0, 2, 17.4, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
INSERT INTO telemetry_part.water_meter_20261116 VALUES ('2026-11-19 21:30:00+00', '2026-11-19 21:30:00+00', 0, 2, 17.7, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL);
SELECT pg_catalog.setval('iot.alarm_event_id_seq', 1, true);
SELECT pg_catalog.setval('iot.alarm_id_seq', 1, true);
SELECT pg_catalog.setval('iot.area_id_seq', 2, true);
SELECT pg_catalog.setval('iot.audit_id_seq', 1, true);
SELECT pg_catalog.setval('iot.device_id_seq', 3, true);
SELECT pg_catalog.setval('iot.held_uplink_id_seq', 2, true);
SELECT pg_catalog.setval('iot.outbox_id_seq', 1, true);
SELECT pg_catalog.setval('iot.push_target_id_seq', 1, true);
SELECT pg_catalog.setval('iot.token_id_seq', 1, true);
SELECT pg_catalog.setval('iot.unit_id_seq', 3, true);
ALTER TABLE ONLY iot.alarm_event
    ADD CONSTRAINT alarm_event_pkey PRIMARY KEY (id);
ALTER TABLE ONLY iot.alarm
    ADD CONSTRAINT alarm_pkey PRIMARY KEY (id);
ALTER TABLE ONLY iot.area
    ADD CONSTRAINT area_key_key UNIQUE (key);
ALTER TABLE ONLY iot.area
    ADD CONSTRAINT area_pkey PRIMARY KEY (id);
ALTER TABLE ONLY iot.audit
    ADD CONSTRAINT audit_pkey PRIMARY KEY (id);
ALTER TABLE ONLY iot.channel
    ADD CONSTRAINT channel_pkey PRIMARY KEY (unit_id, channel);
ALTER TABLE ONLY iot.device
    ADD CONSTRAINT device_key_key UNIQUE (key);
ALTER TABLE ONLY iot.device
    ADD CONSTRAINT device_pkey PRIMARY KEY (id);
ALTER TABLE ONLY iot.device_status
    ADD CONSTRAINT device_status_pkey PRIMARY KEY (device_id);
ALTER TABLE ONLY iot.fixed_setting
    ADD CONSTRAINT fixed_setting_pkey PRIMARY KEY (key);
ALTER TABLE ONLY iot.held_uplink
    ADD CONSTRAINT held_uplink_pkey PRIMARY KEY (id);
ALTER TABLE ONLY iot.metric
    ADD CONSTRAINT metric_class_key_bit_key UNIQUE (class_key, "bit");
ALTER TABLE ONLY iot.metric
    ADD CONSTRAINT metric_pkey PRIMARY KEY (class_key, key);
ALTER TABLE ONLY iot.outbox
    ADD CONSTRAINT outbox_message_id_key UNIQUE (message_id);
ALTER TABLE ONLY iot.outbox
    ADD CONSTRAINT outbox_pkey PRIMARY KEY (id);
ALTER TABLE ONLY iot.push_target
    ADD CONSTRAINT push_target_key_key UNIQUE (key);
ALTER TABLE ONLY iot.push_target
    ADD CONSTRAINT push_target_pkey PRIMARY KEY (id);
ALTER TABLE ONLY iot.rule_state
    ADD CONSTRAINT rule_state_pkey PRIMARY KEY (source_kind, source_id, rule);
ALTER TABLE ONLY iot.seq_range
    ADD CONSTRAINT seq_range_pkey PRIMARY KEY (unit_id, run);
ALTER TABLE ONLY iot.token
    ADD CONSTRAINT token_hash_key UNIQUE (hash);
ALTER TABLE ONLY iot.token
    ADD CONSTRAINT token_pkey PRIMARY KEY (id);
ALTER TABLE ONLY iot.unit
    ADD CONSTRAINT unit_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public._pogo_migration
    ADD CONSTRAINT _pogo_migration_pkey PRIMARY KEY (migration_hash, schema_name);
ALTER TABLE ONLY public._pogo_version
    ADD CONSTRAINT _pogo_version_pkey PRIMARY KEY (version);
CREATE INDEX alarm_device ON iot.alarm USING btree (device_id, id);
CREATE INDEX alarm_event_alarm ON iot.alarm_event USING btree (alarm_id, id);
CREATE UNIQUE INDEX alarm_open ON iot.alarm USING btree (source_kind, source_id, rule) WHERE (closed_at IS NULL);
CREATE INDEX audit_subject ON iot.audit USING btree (subject, id);
CREATE INDEX device_area ON iot.device USING btree (area_id);
CREATE INDEX held_uplink_device ON iot.held_uplink USING btree (device_id, id);
CREATE INDEX held_uplink_unknown ON iot.held_uplink USING btree (address, id) WHERE (reason = 'unknown_address'::text);
CREATE INDEX outbox_alarm ON iot.outbox USING btree (alarm_id, id);
CREATE INDEX outbox_open ON iot.outbox USING btree (target_id, next_at) WHERE ((delivered_at IS NULL) AND (dead_at IS NULL));
CREATE INDEX rule_state_due ON iot.rule_state USING btree (due_at) WHERE (due_at IS NOT NULL);
CREATE UNIQUE INDEX unit_address_mounted ON iot.unit USING btree (address) WHERE (mounted_to IS NULL);
CREATE INDEX unit_device ON iot.unit USING btree (device_id, mounted_from);
CREATE UNIQUE INDEX air_quality_device_time ON ONLY telemetry.air_quality USING btree (device_id, "time");
CREATE UNIQUE INDEX water_meter_device_time ON ONLY telemetry.water_meter USING btree (device_id, "time");
CREATE UNIQUE INDEX air_quality_20261116_device_id_time_idx ON telemetry_part.air_quality_20261116 USING btree (device_id, "time");
CREATE UNIQUE INDEX water_meter_20261116_device_id_time_idx ON telemetry_part.water_meter_20261116 USING btree (device_id, "time");
ALTER INDEX telemetry.air_quality_device_time ATTACH PARTITION telemetry_part.air_quality_20261116_device_id_time_idx;
ALTER INDEX telemetry.water_meter_device_time ATTACH PARTITION telemetry_part.water_meter_20261116_device_id_time_idx;
CREATE TRIGGER alarm_event_added AFTER INSERT ON iot.alarm_event FOR EACH ROW EXECUTE FUNCTION iot.notify_alarm_event();
CREATE TRIGGER channel_changed AFTER INSERT OR DELETE OR UPDATE ON iot.channel FOR EACH STATEMENT EXECUTE FUNCTION iot.notify_unit();
CREATE TRIGGER device_changed AFTER UPDATE OF class_key, simulated, gateway_id ON iot.device FOR EACH STATEMENT EXECUTE FUNCTION iot.notify_unit();
CREATE TRIGGER outbox_added AFTER INSERT ON iot.outbox FOR EACH STATEMENT EXECUTE FUNCTION iot.notify_outbox();
CREATE TRIGGER unit_changed AFTER INSERT OR DELETE OR UPDATE ON iot.unit FOR EACH STATEMENT EXECUTE FUNCTION iot.notify_unit();
ALTER TABLE ONLY iot.alarm
    ADD CONSTRAINT alarm_device_id_fkey FOREIGN KEY (device_id) REFERENCES iot.device(id);
ALTER TABLE ONLY iot.alarm_event
    ADD CONSTRAINT alarm_event_alarm_id_fkey FOREIGN KEY (alarm_id) REFERENCES iot.alarm(id);
ALTER TABLE ONLY iot.area
    ADD CONSTRAINT area_parent_id_fkey FOREIGN KEY (parent_id) REFERENCES iot.area(id);
ALTER TABLE ONLY iot.channel
    ADD CONSTRAINT channel_device_id_fkey FOREIGN KEY (device_id) REFERENCES iot.device(id);
ALTER TABLE ONLY iot.channel
    ADD CONSTRAINT channel_unit_id_fkey FOREIGN KEY (unit_id) REFERENCES iot.unit(id);
ALTER TABLE ONLY iot.device
    ADD CONSTRAINT device_area_id_fkey FOREIGN KEY (area_id) REFERENCES iot.area(id);
ALTER TABLE ONLY iot.device
    ADD CONSTRAINT device_gateway_id_fkey FOREIGN KEY (gateway_id) REFERENCES iot.device(id);
ALTER TABLE ONLY iot.device_status
    ADD CONSTRAINT device_status_device_id_fkey FOREIGN KEY (device_id) REFERENCES iot.device(id);
ALTER TABLE ONLY iot.held_uplink
    ADD CONSTRAINT held_uplink_device_id_fkey FOREIGN KEY (device_id) REFERENCES iot.device(id);
ALTER TABLE ONLY iot.held_uplink
    ADD CONSTRAINT held_uplink_unit_id_fkey FOREIGN KEY (unit_id) REFERENCES iot.unit(id);
ALTER TABLE ONLY iot.outbox
    ADD CONSTRAINT outbox_alarm_id_fkey FOREIGN KEY (alarm_id) REFERENCES iot.alarm(id);
ALTER TABLE ONLY iot.outbox
    ADD CONSTRAINT outbox_target_id_fkey FOREIGN KEY (target_id) REFERENCES iot.push_target(id);
ALTER TABLE ONLY iot.rule_state
    ADD CONSTRAINT rule_state_alarm_id_fkey FOREIGN KEY (alarm_id) REFERENCES iot.alarm(id);
ALTER TABLE ONLY iot.seq_range
    ADD CONSTRAINT seq_range_unit_id_fkey FOREIGN KEY (unit_id) REFERENCES iot.unit(id);
ALTER TABLE ONLY iot.token
    ADD CONSTRAINT token_parent_id_fkey FOREIGN KEY (parent_id) REFERENCES iot.token(id) ON DELETE CASCADE;
ALTER TABLE ONLY iot.unit
    ADD CONSTRAINT unit_device_id_fkey FOREIGN KEY (device_id) REFERENCES iot.device(id);
