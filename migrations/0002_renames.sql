-- Tenants that were given another name. A row without `done_at` is a rename that was begun; the rest is kept for some
-- weeks, because a commit may be reverted and nobody wants an empty database in place of the renamed one then.
CREATE TABLE o7s.renames (
    former text PRIMARY KEY,
    own text NOT NULL,
    begun_at timestamptz NOT NULL DEFAULT now(),
    done_at timestamptz
);
