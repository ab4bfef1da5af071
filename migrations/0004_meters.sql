-- What each tenant used, by minute, hour and day. Routers write minutes; hours and days are set from them, never added to.
-- Counters that are zero are NULL: they take no room. Rows outlive their tenants.

-- Where something was used. Rows of usage name it by its number.
CREATE TABLE o7s.meter_places (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant text NOT NULL,
    instance text NOT NULL,
    UNIQUE (tenant, instance)
);

-- One for each life of a router process. It numbers its batches 1, 2, 3, …; `seq` is the last one that is in.
CREATE TABLE o7s.meter_writers (
    writer uuid PRIMARY KEY,
    epoch bigint GENERATED ALWAYS AS IDENTITY,
    router text NOT NULL,
    seq bigint NOT NULL DEFAULT 0,
    started_at timestamptz NOT NULL DEFAULT now(),
    -- All that was counted before is in.
    counted_until timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now(),
    -- It has ended, and all that it counted is in.
    clean boolean NOT NULL DEFAULT false
);

-- A router has ended without a last flush: what it counted in this time may be missing.
CREATE TABLE o7s.meter_gaps (
    writer uuid PRIMARY KEY,
    router text NOT NULL,
    since timestamptz NOT NULL,
    until timestamptz NOT NULL
);

CREATE TABLE o7s.meter_minutes (
    minute timestamptz NOT NULL,
    place integer NOT NULL,
    sessions bigint,
    queries bigint,
    reads bigint,
    writes bigint,
    ddl bigint,
    other bigint,
    rows bigint,
    transactions bigint,
    bytes_in bigint,
    bytes_out bigint,
    server_micros bigint,
    connection_ms bigint,
    waits bigint,
    wait_micros bigint,
    errors_statement bigint,
    errors_constraint bigint,
    errors_transaction bigint,
    errors_resources bigint,
    errors_other bigint,
    rejected_connections bigint,
    rejected_server_connections bigint,
    rejected_queries bigint,
    rejected_egress bigint,
    rejected_storage bigint,
    rejected_statement_time bigint,
    rejected_requests bigint
) PARTITION BY RANGE (minute);
CREATE TABLE o7s.meter_hours (LIKE o7s.meter_minutes);
ALTER TABLE o7s.meter_hours RENAME minute TO hour;
CREATE TABLE o7s.meter_days (LIKE o7s.meter_hours);
ALTER TABLE o7s.meter_days RENAME hour TO day;
-- Minutes are written at their end and read by time; hours and days are read by tenant, and lie on disk in the order of time.
ALTER TABLE o7s.meter_minutes ADD PRIMARY KEY (minute, place);
ALTER TABLE o7s.meter_hours ADD PRIMARY KEY (place, hour);
ALTER TABLE o7s.meter_days ADD PRIMARY KEY (place, day);
CREATE INDEX meter_hours_by_time ON o7s.meter_hours USING brin (hour);
CREATE INDEX meter_days_by_time ON o7s.meter_days USING brin (day);

-- Hours whose minutes, and days whose hours, say more than they do. A day is here as long as one of its hours is.
CREATE TABLE o7s.meter_dirty (
    span text NOT NULL CHECK (span IN ('hour', 'day')),
    since timestamptz NOT NULL,
    PRIMARY KEY (span, since)
);

-- One row. Flushes share it, and whoever sums up or drops has it alone. There are partitions of minutes from `minutes_from`
-- (older counts are written there) to `minutes_until`.
CREATE TABLE o7s.meter_state (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    minutes_from timestamptz NOT NULL,
    minutes_until timestamptz NOT NULL,
    cleaned_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO o7s.meter_state (minutes_from, minutes_until)
    SELECT day, day FROM (SELECT date_trunc('day', now(), 'UTC')) AS today (day);

-- How large each tenant's database was when its instance was last asked.
CREATE TABLE o7s.storage (
    tenant text PRIMARY KEY,
    bytes bigint NOT NULL,
    measured_at timestamptz NOT NULL DEFAULT now()
);
