//! What is written while a plan is carried out, so that a lost answer or a lagging read costs nothing.

use std::time::Duration;

use sqlx::types::Json;

use super::error::Error;
use super::lease::{Lease, fenced};
use super::load::FleetRow;
use super::routes::versioned;
use crate::plan::{DeletionIntent, InstanceRecord, Placement};
use crate::tenancy::TenantId;

const SAVE_FLEET: &str = fenced!(
    "written AS (INSERT INTO o7s.fleet (uid, name, project_id, environment_id)
        SELECT $2, $3, $4, $5 FROM fence
        ON CONFLICT (only_row) DO UPDATE SET uid = excluded.uid, name = excluded.name,
            project_id = excluded.project_id, environment_id = excluded.environment_id)
    SELECT count(*) FROM fence"
);
const SAVE_INSTANCE: &str = fenced!(
    "written AS (INSERT INTO o7s.instances (name, service_id, volume_id, volume_requested_at,
            private_host, private_port, public_host, public_port, applied)
        SELECT $2, $3, $4, $5, $6, $7, $8, $9, $10 FROM fence
        ON CONFLICT (name) DO UPDATE SET service_id = excluded.service_id, volume_id = excluded.volume_id,
            volume_requested_at = excluded.volume_requested_at, private_host = excluded.private_host,
            private_port = excluded.private_port, public_host = excluded.public_host,
            public_port = excluded.public_port, applied = excluded.applied, changed_at = now())
    SELECT count(*) FROM fence"
);
const REMOVE_INSTANCE: &str = fenced!(
    "written AS (DELETE FROM o7s.instances USING fence WHERE name = $2)
    SELECT count(*) FROM fence"
);
const SAVE_PLACEMENTS: &str = fenced!(
    "written AS (INSERT INTO o7s.placements AS have (tenant, instance, database)
        SELECT wanted.* FROM fence, unnest($2::text[], $3::text[], $4::text[]) AS wanted
        ON CONFLICT (tenant) DO UPDATE SET instance = excluded.instance, database = excluded.database,
            placed_at = now()
        WHERE (have.instance, have.database) IS DISTINCT FROM (excluded.instance, excluded.database))
    SELECT count(*) FROM fence"
);
const REMOVE_PLACEMENT: &str = fenced!(
    "written AS (DELETE FROM o7s.placements USING fence WHERE tenant = $2)
    SELECT count(*) FROM fence"
);
const SAVE_ROUTER: &str = versioned!(
    "changed AS (INSERT INTO o7s.routers AS have (name, spec, version) SELECT $2, $3, next.version FROM next
        ON CONFLICT (name) DO UPDATE SET spec = excluded.spec, version = excluded.version
        WHERE have.spec IS DISTINCT FROM excluded.spec RETURNING name)"
);
const REMOVE_ROUTER: &str =
    versioned!("changed AS (DELETE FROM o7s.routers USING fence WHERE name = $2 RETURNING name)");
/// The first date stands when a crash makes us ask twice.
/// A deletion in its grace time keeps its date; one whose date has passed is begun anew only where its database never
/// left.
const START_DELETION: &str = fenced!(
    "written AS (INSERT INTO o7s.deletions (tenant, instance, renamed_to, due_at)
        SELECT $2, $3, $4, now() + $5 * interval '1 millisecond' FROM fence
        ON CONFLICT (tenant) DO UPDATE SET instance = excluded.instance, renamed_to = excluded.renamed_to,
            due_at = excluded.due_at WHERE o7s.deletions.due_at <= now())
    SELECT count(*) FROM fence"
);
/// The former name may be taken again, and the new one is nobody's former name any more.
const BEGIN_RENAME: &str = versioned!(
    "written AS (INSERT INTO o7s.renames (former, own) SELECT $2, $3 FROM fence
        ON CONFLICT (former) DO UPDATE SET own = excluded.own, begun_at = now(), done_at = NULL),
    taken AS (DELETE FROM o7s.renames USING fence WHERE former = $3),
    changed AS (UPDATE o7s.routes SET state = 'suspended', version = next.version FROM next
        WHERE tenant = $2 AND state = 'active' RETURNING tenant)"
);
const CANCEL_RENAME: &str = fenced!(
    "written AS (DELETE FROM o7s.renames USING fence WHERE former = $2)
    SELECT count(*) FROM fence"
);
const FINISH_DELETION: &str = fenced!(
    "written AS (DELETE FROM o7s.deletions USING fence WHERE tenant = $2)
    SELECT count(*) FROM fence"
);

impl Lease {
    /// From here on the database counts as known: what is absent from it was never there. So whoever rebuilds a lost
    /// one writes this last.
    pub async fn save_fleet(&mut self, fleet: &FleetRow) -> Result<(), Error> {
        let query =
            sqlx::query_scalar(SAVE_FLEET).bind(self.epoch).bind(fleet.uid.as_str()).bind(fleet.name.as_str());
        let query = query.bind(fleet.project.as_str()).bind(fleet.environment.as_str());
        self.write("remember the fleet", query).await
    }

    pub async fn save_instance(&mut self, name: &str, record: &InstanceRecord) -> Result<(), Error> {
        let endpoint = record.endpoint.as_ref();
        let query = sqlx::query_scalar(SAVE_INSTANCE).bind(self.epoch).bind(name);
        let query = query.bind(record.service.as_ref().map(|id| id.as_str().to_owned()));
        let query = query.bind(record.volume.as_ref().map(|id| id.as_str().to_owned()));
        let query = query.bind(record.volume_requested_at);
        let query = query.bind(endpoint.map(|endpoint| endpoint.private.host.clone()));
        let query = query.bind(endpoint.map(|endpoint| i32::from(endpoint.private.port)));
        let query = query.bind(endpoint.map(|endpoint| endpoint.public.host.clone()));
        let query = query.bind(endpoint.map(|endpoint| i32::from(endpoint.public.port)));
        let query = query.bind(record.applied.as_ref().map(|digest| digest.as_str().to_owned()));
        self.write("remember an instance", query).await
    }

    pub async fn remove_instance(&mut self, name: &str) -> Result<(), Error> {
        self.write_one(REMOVE_INSTANCE, "forget an instance", name).await
    }

    /// One statement for any number; each tenant at most once.
    pub async fn save_placements(&mut self, placements: &[(TenantId, Placement)]) -> Result<(), Error> {
        let column = |of: fn(&(TenantId, Placement)) -> &str| -> Vec<String> {
            placements.iter().map(|one| of(one).to_owned()).collect()
        };
        let query = sqlx::query_scalar(SAVE_PLACEMENTS).bind(self.epoch).bind(column(|(tenant, _)| tenant.as_str()));
        let query =
            query.bind(column(|(_, place)| place.instance.as_str())).bind(column(|(_, place)| &place.database));
        self.write("remember where tenants are", query).await
    }

    pub async fn remove_placement(&mut self, tenant: &TenantId) -> Result<(), Error> {
        self.write_one(REMOVE_PLACEMENT, "forget where a tenant was", tenant.as_str()).await
    }

    pub async fn save_router(&mut self, name: &str, spec: &serde_json::Value) -> Result<(), Error> {
        let query = sqlx::query_scalar(SAVE_ROUTER).bind(self.epoch).bind(name).bind(Json(spec));
        self.write("save a router's manifest", query).await
    }

    pub async fn remove_router(&mut self, name: &str) -> Result<(), Error> {
        self.write_one(REMOVE_ROUTER, "remove a router's manifest", name).await
    }

    /// Due `grace` from now by the server's clock, whatever `intent` says. Asked twice, the first date stands.
    pub async fn start_deletion(&mut self, intent: &DeletionIntent, grace: Duration) -> Result<(), Error> {
        let grace_ms = i64::try_from(grace.as_millis()).unwrap_or(i64::MAX);
        let query = sqlx::query_scalar(START_DELETION).bind(self.epoch).bind(intent.tenant.as_str());
        let query = query.bind(intent.instance.as_str()).bind(&intent.renamed_to).bind(grace_ms);
        self.write("begin a deletion", query).await
    }

    /// The route of `former` is suspended until the rename is done or undone, and routers hear of it.
    pub async fn begin_rename(&mut self, former: &TenantId, to: &TenantId) -> Result<(), Error> {
        let query = sqlx::query_scalar(BEGIN_RENAME).bind(self.epoch).bind(former.as_str()).bind(to.as_str());
        self.write("begin a rename", query).await
    }

    pub async fn cancel_rename(&mut self, former: &TenantId) -> Result<(), Error> {
        self.write_one(CANCEL_RENAME, "undo a rename", former.as_str()).await
    }

    pub async fn finish_deletion(&mut self, tenant: &TenantId) -> Result<(), Error> {
        self.write_one(FINISH_DELETION, "finish a deletion", tenant.as_str()).await
    }

    async fn write_one(&mut self, sql: &'static str, doing: &'static str, name: &str) -> Result<(), Error> {
        let query = sqlx::query_scalar(sql).bind(self.epoch).bind(name);
        self.write(doing, query).await
    }
}
