-- What routers need beside the routes: who they are, what each has in force, which tenants are paused, and API keys.
-- Whatever changes routes, pauses, routers or keys uses up a version of `routing` and sends NOTIFY o7s_routes.

-- Its database was made by somebody else: whoever has a role there logs in with the role's own password.
ALTER TABLE o7s.routes ADD adopted boolean NOT NULL DEFAULT false;
UPDATE o7s.routes SET adopted = database <> tenant;

-- Of a paused tenant: how long what runs has to end by itself.
ALTER TABLE o7s.routes ADD patience_ms bigint CHECK (patience_ms >= 0);

-- Routes that are gone, so that who was away for a while hears of it: those of the last 10,000 versions.
CREATE TABLE o7s.removed_routes (
    tenant text PRIMARY KEY,
    version bigint NOT NULL
);

ALTER TABLE o7s.routers ADD version bigint NOT NULL DEFAULT 0;

-- Numbers that running routers hold, each as long as it is seen. A number is in every cancel key its router gives out.
CREATE TABLE o7s.router_replicas (
    number smallint PRIMARY KEY CHECK (number BETWEEN 0 AND 255),
    -- Of the process.
    boot uuid NOT NULL UNIQUE,
    -- Where it takes cancel requests of its clients, `IP:PORT`.
    address text,
    -- All routes of this version are in force there.
    applied bigint NOT NULL DEFAULT 0,
    started_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now()
);

-- Routes in force on a replica that is not through with all of their version yet.
CREATE TABLE o7s.route_acks (
    replica smallint NOT NULL REFERENCES o7s.router_replicas ON DELETE CASCADE,
    tenant text NOT NULL,
    version bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (replica, tenant)
);

CREATE TABLE o7s.api_keys (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant text NOT NULL,
    -- What people call it.
    name text NOT NULL,
    -- SHA-256 of the key; the key itself is shown once and kept nowhere.
    hash bytea NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    -- As declared (`reader`); NULL is the owner.
    role text,
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz
);
CREATE UNIQUE INDEX api_keys_in_use ON o7s.api_keys (tenant, name) WHERE revoked_at IS NULL;
