-- The control database: what O7s remembers between runs, and the routing table that routers follow.
-- No secret is in it: passwords are derived from the master key. All of it can be rebuilt from the marks on services,
-- databases and roles. The schema `o7s` and its table `migrations` are made by whoever runs this file.

-- One row: whose control database this is. It is written last when a lost one is rebuilt.
CREATE TABLE o7s.fleet (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    uid text NOT NULL,
    name text NOT NULL,
    project_id text NOT NULL,
    environment_id text NOT NULL,
    known_since timestamptz NOT NULL DEFAULT now()
);

-- Progress and addresses of each database service, by its name on Railway.
CREATE TABLE o7s.instances (
    name text PRIMARY KEY,
    service_id text,
    volume_id text,
    volume_requested_at timestamptz,
    private_host text,
    private_port integer,
    public_host text,
    public_port integer,
    -- Fingerprint of the specification last applied whole.
    applied text,
    changed_at timestamptz NOT NULL DEFAULT now(),
    CHECK (num_nulls(private_host, private_port, public_host, public_port) IN (0, 4))
);

-- Where a tenant's database is; chosen once.
CREATE TABLE o7s.placements (
    tenant text PRIMARY KEY,
    instance text NOT NULL,
    database text NOT NULL,
    placed_at timestamptz NOT NULL DEFAULT now()
);

-- One row: grows by one with each transaction that changes `routes`, which also sends NOTIFY o7s_routes.
CREATE TABLE o7s.routing (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    version bigint NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO o7s.routing (version) VALUES (0);

CREATE TABLE o7s.routes (
    tenant text PRIMARY KEY,
    instance text NOT NULL,
    database text NOT NULL,
    private_host text NOT NULL,
    private_port integer NOT NULL,
    public_host text NOT NULL,
    public_port integer NOT NULL,
    state text NOT NULL CHECK (state IN ('active', 'suspended', 'retired')),
    tier text NOT NULL,
    generation bigint NOT NULL,
    roles text[] NOT NULL,
    limits jsonb NOT NULL,
    over_limit jsonb NOT NULL,
    upgrade jsonb,
    -- The version of the table that brought this row to what it is.
    version bigint NOT NULL
);

-- Router manifests as written; the routers themselves read them.
CREATE TABLE o7s.routers (
    name text PRIMARY KEY,
    spec jsonb NOT NULL
);

-- Databases renamed away, and when they may be dropped by this server's clock.
CREATE TABLE o7s.deletions (
    tenant text PRIMARY KEY,
    instance text NOT NULL,
    renamed_to text NOT NULL,
    asked_at timestamptz NOT NULL DEFAULT now(),
    due_at timestamptz NOT NULL
);

CREATE TABLE o7s.conditions (
    kind text NOT NULL,
    name text NOT NULL,
    condition text NOT NULL CHECK (condition IN ('Ready', 'Progressing', 'Degraded', 'Blocked')),
    status text NOT NULL CHECK (status IN ('True', 'False', 'Unknown')),
    reason text NOT NULL,
    message text NOT NULL,
    -- Of the manifest the condition speaks of.
    digest text,
    -- When `status` last changed.
    since timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, name, condition)
);

CREATE TABLE o7s.runs (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id uuid NOT NULL UNIQUE,
    epoch bigint NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL,
    outcome text NOT NULL,
    plan_digest text,
    requests bigint NOT NULL,
    mutations bigint NOT NULL
);

CREATE TABLE o7s.events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    kind text NOT NULL,
    name text NOT NULL,
    reason text NOT NULL,
    message text NOT NULL,
    -- `manifests/tenants/acme.yaml:9`
    cause text,
    run uuid NOT NULL,
    epoch bigint NOT NULL
);
CREATE INDEX events_of_an_object ON o7s.events (kind, name, id);

-- Who may write: the holder of the advisory lock, under the epoch it got with it. Every write compares the epoch.
CREATE TABLE o7s.lease (
    name text PRIMARY KEY,
    epoch bigint NOT NULL,
    holder text NOT NULL,
    taken_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO o7s.lease (name, epoch, holder) VALUES ('reconcile', 0, 'nobody');

-- Nothing here is for the server's other roles.
REVOKE ALL ON SCHEMA o7s FROM PUBLIC;
