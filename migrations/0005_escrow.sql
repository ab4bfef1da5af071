-- Ceilings that all routers keep together. Of each tenant and meter there is one bucket; routers are granted parts of it in
-- advance, so that a query waits for nobody. The rules, and why the sum never passes the ceiling: src/tenancy/escrow.rs.
-- Meters: 0 connections, 1 queries in 60 s, 2 requests in 60 s, 3 bytes of egress in a month.

-- Routers that ask, by process.
CREATE TABLE o7s.escrow_replicas (
    boot uuid PRIMARY KEY,
    -- The newest request that was answered; an older one that comes late is not.
    request bigint NOT NULL,
    -- What it spends of each ceiling without asking, in thousandths.
    share integer NOT NULL,
    share_from timestamptz NOT NULL,
    seen_at timestamptz NOT NULL,
    left_at timestamptz
);

-- What one router may hold of a bucket.
CREATE TYPE o7s.holding AS (
    -- The process, and the lease within it.
    boot uuid,
    lease bigint,
    amount bigint,
    until timestamptz,
    -- Spent since the lease began, as it last said.
    reported bigint,
    -- It got less than it wanted.
    short boolean
);
-- Spent, and in which second (of the epoch) that was reported.
CREATE TYPE o7s.spending AS (second bigint, amount bigint);

CREATE TABLE o7s.escrow (
    tenant text NOT NULL,
    meter smallint NOT NULL,
    held o7s.holding[] NOT NULL DEFAULT '{}',
    spent o7s.spending[] NOT NULL DEFAULT '{}',
    -- Of the month, for egress.
    month date,
    total bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, meter)
) WITH (fillfactor = 50);

-- One request of one router, for all its tenants, at a time no later than its commit: an earlier one counts more, never
-- less. NULL: a newer request was answered already.
CREATE FUNCTION o7s.exchange_at(at timestamptz, me uuid, number bigint, asks jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    now_second bigint := floor(extract(epoch FROM at));
    this_month date := date_trunc('month', at AT TIME ZONE 'UTC');
    mine o7s.escrow_replicas;
    shares integer[];
    dead uuid[];
    answers jsonb[] := '{}';
    one record;
    bucket o7s.escrow;
    ceiling bigint;
    is_rate boolean;
    fresh bigint;
    used bigint;
    -- What routers may spend without asking.
    parts bigint;
    free bigint;
    fair bigint;
    granted bigint;
    rivals bigint;
    frees_at timestamptz;
BEGIN
    UPDATE o7s.escrow_replicas SET request = number, seen_at = at WHERE boot = me AND request < number RETURNING * INTO mine;
    IF NOT FOUND THEN
        -- Shares are given out one at a time.
        PERFORM pg_advisory_xact_lock(20061, 5);
        INSERT INTO o7s.escrow_replicas (boot, request, share, share_from, seen_at)
            SELECT me, number, greatest(0, least(50, 200 - coalesce(sum(share), 0))), at + interval '70 seconds', at
            FROM o7s.escrow_replicas WHERE coalesce(left_at + interval '70 seconds', seen_at + interval '6 hours 70 seconds') > at
            ON CONFLICT DO NOTHING RETURNING * INTO mine;
        IF NOT FOUND THEN
            RETURN NULL;
        END IF;
        DELETE FROM o7s.escrow_replicas WHERE coalesce(left_at, seen_at) < at - interval '1 day';
    END IF;
    SELECT coalesce(array_agg(share), '{}') INTO shares FROM o7s.escrow_replicas
        WHERE share > 0 AND coalesce(left_at + interval '70 seconds', seen_at + interval '6 hours 70 seconds') > at;
    -- One that was killed leaves no connection behind; one that is cut off does.
    SELECT coalesce(array_agg(boot), '{}') INTO dead FROM o7s.escrow_replicas
        WHERE left_at IS NOT NULL OR seen_at < at - interval '60 seconds'
            AND NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'o7s router ' || boot);

    -- In one order, so that two routers never wait for each other.
    FOR one IN
        SELECT ask.*, route.tenant IS NOT NULL AS routed, route.limits
        FROM jsonb_to_recordset(asks)
            AS ask (tenant text, meter smallint, lease bigint, spent bigint, keep bigint, want bigint)
        LEFT JOIN o7s.routes AS route USING (tenant) ORDER BY ask.tenant, ask.meter, ask.lease
    LOOP
        ceiling := CASE one.meter
            WHEN 0 THEN (one.limits->>'connections')::bigint
            WHEN 1 THEN (one.limits->>'queriesPerMinute')::bigint
            WHEN 2 THEN (one.limits->>'requestsPerMinute')::bigint
            WHEN 3 THEN (one.limits->>'egressPerMonth')::bigint
        END;
        IF NOT one.routed THEN
            ceiling := 0;
        END IF;
        is_rate := one.meter IN (1, 2);
        INSERT INTO o7s.escrow (tenant, meter) VALUES (one.tenant, one.meter) ON CONFLICT DO NOTHING;
        SELECT * INTO bucket FROM o7s.escrow WHERE tenant = one.tenant AND meter = one.meter FOR UPDATE;

        fresh := one.spent - coalesce((SELECT reported FROM unnest(bucket.held) WHERE boot = me AND lease = one.lease), 0);
        IF one.meter = 3 THEN
            IF bucket.month IS DISTINCT FROM this_month THEN
                bucket.month := this_month;
                bucket.total := 0;
            END IF;
            -- What was not given back may have been spent.
            bucket.total := bucket.total + fresh + coalesce((SELECT sum(amount) FROM unnest(bucket.held)
                WHERE (boot, lease) <> (me, one.lease) AND (until <= at OR boot = ANY (dead))), 0);
        ELSIF is_rate THEN
            -- A clock that was set back must not keep anything longer than a minute.
            SELECT coalesce(array_agg(row(least(second, now_second), amount)::o7s.spending), '{}') INTO bucket.spent
                FROM unnest(bucket.spent) WHERE second + 61 > extract(epoch FROM at);
            IF fresh > 0 THEN
                SELECT array_agg(row(second, amount)::o7s.spending ORDER BY second) INTO bucket.spent FROM (
                    SELECT second, sum(amount)::bigint AS amount
                    FROM (SELECT * FROM unnest(bucket.spent) UNION ALL VALUES (now_second, fresh)) AS all_spent
                    GROUP BY second) AS by_second;
            END IF;
        END IF;
        SELECT coalesce(array_agg(row(boot, lease, amount, least(until, at + interval '6 hours'), reported, short)::o7s.holding),
                '{}') INTO bucket.held
            FROM unnest(bucket.held)
            WHERE (boot, lease) <> (me, one.lease)
                AND CASE WHEN is_rate THEN until + interval '60 seconds' > at ELSE until > at AND boot <> ALL (dead) END;
        used := coalesce((SELECT sum(amount) FROM unnest(bucket.held)), 0)
            + coalesce((SELECT sum(amount) FROM unnest(bucket.spent)), 0) + bucket.total + one.keep;
        parts := CASE WHEN one.meter = 3 OR ceiling IS NULL THEN 0
            ELSE coalesce((SELECT sum(ceiling * share / 1000) FROM unnest(shares) AS share), 0) END;
        IF ceiling IS NULL THEN
            granted := one.want;
        ELSE
            free := greatest(0, ceiling - used - parts);
            SELECT count(*) INTO rivals FROM unnest(bucket.held) WHERE (amount > 0 OR short) AND until > at;
            -- None may hold much while another runs out, and of the last tokens only a few.
            fair := CASE WHEN is_rate AND rivals > 0 THEN greatest(1, least(ceiling / 10 - one.keep,
                CASE WHEN free < ceiling / 4 THEN free / (2 * (rivals + 1)) ELSE free END)) ELSE free END;
            granted := least(one.want, free, fair);
        END IF;
        frees_at := NULL;
        IF granted < one.want THEN
            SELECT min(frees) INTO frees_at FROM (
                SELECT to_timestamp(second + 61) AS frees FROM unnest(bucket.spent)
                UNION ALL SELECT until + interval '60 seconds' FROM unnest(bucket.held) WHERE is_rate
                UNION ALL SELECT (this_month + interval '1 month') AT TIME ZONE 'UTC' WHERE one.meter = 3) AS frees;
        END IF;
        bucket.held := bucket.held || row(me, one.lease, one.keep + granted,
            at + CASE WHEN is_rate THEN interval '10 seconds' ELSE interval '6 hours' END, one.spent,
            granted < one.want)::o7s.holding;
        UPDATE o7s.escrow SET held = bucket.held, spent = bucket.spent, month = bucket.month, total = bucket.total
            WHERE tenant = one.tenant AND meter = one.meter;
        answers := answers || jsonb_build_object('lease', one.lease, 'granted', granted, 'used', used + parts,
            'freesIn', CASE WHEN frees_at IS NOT NULL
                THEN greatest(0, ceil(extract(epoch FROM frees_at - at) * 1000))::bigint END);
    END LOOP;
    RETURN jsonb_build_object('share', CASE WHEN mine.share_from <= at THEN mine.share ELSE 0 END,
        'answers', to_jsonb(answers));
END $$;

CREATE FUNCTION o7s.exchange(me uuid, number bigint, asks jsonb) RETURNS jsonb LANGUAGE sql AS
    'SELECT o7s.exchange_at(clock_timestamp(), me, number, asks)';
