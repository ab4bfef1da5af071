-- API keys as routers follow them: each change of one has its version of `routing`, and a revoked one stays, so that who
-- was away for a while hears of it.
ALTER TABLE o7s.api_keys ADD version bigint NOT NULL DEFAULT 0;
CREATE INDEX api_keys_by_version ON o7s.api_keys (version);
-- A rename may bring two of one name together. Whoever makes a key holds the lease, and looks first.
DROP INDEX o7s.api_keys_in_use;
CREATE INDEX api_keys_by_tenant ON o7s.api_keys (tenant);
