//! A model of the control database: rows as the plan sees them, one statement a call.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use ogelnates::operator::{Control, Error, Memory};
use ogelnates::plan::{ControlLive, DeletionIntent, GRACE_DAYS, InstanceRecord, PendingDeletion, Placement, Rename};
use ogelnates::store::{self, Condition, ConditionStatus, Event, FleetRow, RunRecord};
use ogelnates::tenancy::{Route, RouteState, TenantId};
use tokio::time::Instant;

use super::servers::Contents;
use super::sim::{Calls, start};

#[derive(Clone, Default)]
pub struct Rows {
    pub fleet: Option<FleetRow>,
    pub live: ControlLive,
    pub events: Vec<Event>,
    pub conditions: Vec<Condition>,
}

pub struct ControlModel {
    calls: Arc<Calls>,
    /// What routes must lead to.
    contents: Contents,
    began: Instant,
    pub rows: RefCell<Rows>,
    /// What a run had when it was dropped: nothing of that run is written any more.
    dropped: Cell<bool>,
}

impl ControlModel {
    pub fn new(calls: Arc<Calls>, contents: Contents) -> ControlModel {
        let live = ControlLive { schema_version: 1, ..ControlLive::default() };
        let rows = RefCell::new(Rows { live, ..Rows::default() });
        ControlModel { calls, contents, began: Instant::now(), rows, dropped: Cell::new(false) }
    }

    fn now(&self) -> DateTime<Utc> {
        start() + TimeDelta::from_std(self.began.elapsed()).expect("short")
    }

    pub fn know(&self, fleet: FleetRow) {
        self.rows.borrow_mut().fleet.get_or_insert(fleet);
    }

    /// Everything in it is lost; an empty schema stands in its place.
    pub fn drop_everything(&self) {
        let live = ControlLive { schema_version: 1, ..ControlLive::default() };
        *self.rows.borrow_mut() = Rows { live, ..Rows::default() };
        self.dropped.set(true);
    }

    pub async fn take_lease_and_load(&self) -> (Option<FleetRow>, ControlLive) {
        let take = || {
            self.dropped.set(false);
            self.rows.borrow_mut().live.epoch += 1;
        };
        self.calls.call(take).await;
        self.loaded().await
    }

    async fn loaded(&self) -> (Option<FleetRow>, ControlLive) {
        let read = || {
            let rows = self.rows.borrow();
            let read_at = Some(self.now());
            let mut live = ControlLive { known: rows.fleet.is_some(), read_at, ..rows.live.clone() };
            live.deletions.values_mut().for_each(|row| row.due = row.due_at <= self.now());
            (rows.fleet.clone(), live)
        };
        self.calls.call(read).await
    }

    async fn write(&self, change: impl FnOnce(&mut Rows)) -> Result<(), Error> {
        let write = || {
            if self.dropped.get() {
                return Err(store::Error::NotBootstrapped.into());
            }
            change(&mut self.rows.borrow_mut());
            Ok(())
        };
        self.calls.call(write).await
    }

    /// At no instant does an active route lead to a database that is not there or a role that may not log in.
    fn assert_leads_somewhere(&self, route: &Route) {
        if route.state != RouteState::Active {
            return;
        }
        let contents = self.contents.borrow();
        let there = contents.values().any(|server| {
            let database = server.databases.get(&route.database);
            let open = database.is_some_and(|db| db.allow_connections && !db.public_connect);
            open && server.roles.get(route.tenant.as_str()).is_some_and(|role| role.can_login && role.password_ours)
        });
        assert!(there, "route {} leads to a database that is not ready", route.tenant);
    }

    pub fn picture(&self) -> String {
        let rows = self.rows.borrow();
        let placements = rows.live.placements.iter().map(|(t, p)| format!("placement {t} on {}", p.instance));
        let routes = rows.live.routes.values().map(|r| {
            format!("route {} to {}/{} {} {:?}", r.tenant, r.instance, r.database, r.state.as_str(), r.limits)
        });
        let conditions = rows.conditions.iter().filter(|c| c.kind == "tenant");
        let conditions =
            conditions.map(|c| format!("{} {} ready {}", c.kind, c.name, c.status == ConditionStatus::True));
        placements.chain(routes).chain(conditions).collect::<Vec<_>>().join("\n")
    }
}

impl Memory for ControlModel {
    async fn save_instance(&self, name: &str, record: &InstanceRecord) -> Result<(), Error> {
        self.write(|rows| drop(rows.live.instances.insert(name.to_owned(), record.clone()))).await
    }
}

impl Control for ControlModel {
    async fn load(&self) -> Result<(Option<FleetRow>, ControlLive), Error> {
        Ok(self.loaded().await)
    }

    async fn save_fleet(&self, fleet: &FleetRow) -> Result<(), Error> {
        self.write(|rows| rows.fleet = Some(fleet.clone())).await
    }

    async fn save_placements(&self, placements: &[(TenantId, Placement)]) -> Result<(), Error> {
        self.write(|rows| rows.live.placements.extend(placements.iter().cloned())).await
    }

    async fn publish_routes(
        &self,
        upserts: &[Route],
        removed: &[TenantId],
        renames: &[(TenantId, TenantId)],
    ) -> Result<Option<u64>, Error> {
        let mut version = None;
        let publish = |rows: &mut Rows| {
            upserts.iter().for_each(|route| self.assert_leads_somewhere(route));
            let before = rows.live.routes.clone();
            rows.live.routes.extend(upserts.iter().map(|route| (route.tenant.clone(), route.clone())));
            removed.iter().for_each(|tenant| drop(rows.live.routes.remove(tenant)));
            for (former, own) in renames {
                let route = &rows.live.routes[own];
                let place = Placement { instance: route.instance.clone(), database: route.database.clone() };
                rows.live.placements.remove(former);
                rows.live.placements.insert(own.clone(), place);
                rows.live.renames.insert(former.clone(), Rename { to: own.clone(), done: true });
                rows.conditions.retain(|one| (one.kind.as_str(), one.name.as_str()) != ("tenant", former.as_str()));
            }
            if rows.live.routes != before {
                rows.live.routing_version += 1;
                version = Some(rows.live.routing_version);
            }
        };
        self.write(publish).await?;
        Ok(version)
    }

    async fn save_router(&self, name: &str, spec: &serde_json::Value) -> Result<(), Error> {
        self.write(|rows| drop(rows.live.routers.insert(name.to_owned(), spec.clone()))).await
    }

    async fn remove_router(&self, name: &str) -> Result<(), Error> {
        self.write(|rows| drop(rows.live.routers.remove(name))).await
    }

    async fn begin_rename(&self, former: &TenantId, to: &TenantId) -> Result<(), Error> {
        let begin = |rows: &mut Rows| {
            rows.live.renames.remove(to);
            rows.live.renames.insert(former.clone(), Rename { to: to.clone(), done: false });
            if let Some(route) = rows.live.routes.get_mut(former).filter(|route| route.state == RouteState::Active) {
                route.state = RouteState::Suspended;
                rows.live.routing_version += 1;
            }
        };
        self.write(begin).await
    }

    async fn cancel_rename(&self, former: &TenantId) -> Result<(), Error> {
        self.write(|rows| drop(rows.live.renames.remove(former))).await
    }

    async fn remove_instance(&self, name: &str) -> Result<(), Error> {
        self.write(|rows| drop(rows.live.instances.remove(name))).await
    }

    async fn start_deletion(&self, intent: &DeletionIntent) -> Result<(), Error> {
        // By this database's clock, whatever the operator's says.
        let row = PendingDeletion {
            instance: intent.instance.clone(),
            renamed_to: intent.renamed_to.clone(),
            due_at: self.now() + TimeDelta::days(GRACE_DAYS),
            due: false,
        };
        self.write(|rows| {
            let stored = rows.live.deletions.entry(intent.tenant.clone()).or_insert_with(|| row.clone());
            if stored.due {
                *stored = row;
            }
        })
        .await
    }

    async fn finish_deletion(&self, tenant: &TenantId) -> Result<(), Error> {
        self.write(|rows| drop(rows.live.deletions.remove(tenant))).await
    }

    async fn remove_placement(&self, tenant: &TenantId) -> Result<(), Error> {
        self.write(|rows| drop(rows.live.placements.remove(tenant))).await
    }

    async fn record(&self, _run: &RunRecord, events: &[Event], conditions: &[Condition]) -> Result<(), Error> {
        let keep = |rows: &mut Rows| {
            rows.events.extend(events.iter().cloned());
            for condition in conditions {
                rows.conditions.retain(|have| (&have.kind, &have.name) != (&condition.kind, &condition.name));
                rows.conditions.push(condition.clone());
            }
            rows.conditions.sort_by(|a, b| (&a.kind, &a.name).cmp(&(&b.kind, &b.name)));
        };
        self.write(keep).await
    }
}
