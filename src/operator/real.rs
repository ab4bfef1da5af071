//! The traits of `world` over the real doors.

use std::collections::BTreeSet;
use std::sync::{Mutex as StdMutex, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex;

use super::error::Error;
use super::leading::Look;
use super::world::{Control, Memory, ServerFailure, Servers};
use crate::plan::{ControlLive, DatabaseChange, DeletionIntent, GRACE_DAYS, InstanceRecord, Placement, ServerLive};
use crate::postgres::{self, Maker, Many, Server, Turn, change_many};
use crate::store::{Condition, Event, FleetRow, Lease, RunRecord, Store};
use crate::tenancy::{Address, Credential, FleetUid, InstanceName, Keyring, Route, Secret, TenantId};

const GRACE: Duration = Duration::from_secs(GRACE_DAYS as u64 * 86_400);

/// The control database under a lease. The lock is held for one statement at a time and never contended: a run writes
/// from one place.
pub struct ControlDatabase<'a> {
    store: &'a Store,
    lease: Mutex<Lease>,
}

impl<'a> ControlDatabase<'a> {
    pub fn new(store: &'a Store, lease: Lease) -> ControlDatabase<'a> {
        ControlDatabase { store, lease: Mutex::new(lease) }
    }

    /// What the database itself says of this run's lease.
    pub async fn look(&self, epoch: u64) -> Look {
        match self.store.still_holds(epoch).await {
            Ok(true) => Look::Held,
            Ok(false) => Look::Lost,
            Err(_) => Look::Unanswered,
        }
    }

    /// Of databases that routes lead to.
    pub async fn save_sizes(&self, sizes: &[DatabaseSize]) -> Result<(), Error> {
        Ok(self.lease.lock().await.save_sizes(sizes).await?)
    }

    pub async fn release(self) {
        self.lease.into_inner().release().await;
    }
}

impl Memory for ControlDatabase<'_> {
    async fn save_instance(&self, name: &str, record: &InstanceRecord) -> Result<(), Error> {
        Ok(self.lease.lock().await.save_instance(name, record).await?)
    }
}

impl Control for ControlDatabase<'_> {
    async fn load(&self) -> Result<(Option<FleetRow>, ControlLive), Error> {
        Ok(self.store.load().await?)
    }

    async fn save_fleet(&self, fleet: &FleetRow) -> Result<(), Error> {
        Ok(self.lease.lock().await.save_fleet(fleet).await?)
    }

    async fn save_placements(&self, placements: &[(TenantId, Placement)]) -> Result<(), Error> {
        Ok(self.lease.lock().await.save_placements(placements).await?)
    }

    async fn publish_routes(
        &self,
        upserts: &[Route],
        removed: &[TenantId],
        renames: &[(TenantId, TenantId)],
    ) -> Result<Option<u64>, Error> {
        Ok(self.lease.lock().await.publish_routes(upserts, removed, renames).await?)
    }

    async fn begin_rename(&self, former: &TenantId, to: &TenantId) -> Result<(), Error> {
        Ok(self.lease.lock().await.begin_rename(former, to).await?)
    }

    async fn cancel_rename(&self, former: &TenantId) -> Result<(), Error> {
        Ok(self.lease.lock().await.cancel_rename(former).await?)
    }

    async fn save_router(&self, name: &str, spec: &serde_json::Value) -> Result<(), Error> {
        Ok(self.lease.lock().await.save_router(name, spec).await?)
    }

    async fn remove_router(&self, name: &str) -> Result<(), Error> {
        Ok(self.lease.lock().await.remove_router(name).await?)
    }

    async fn remove_instance(&self, name: &str) -> Result<(), Error> {
        Ok(self.lease.lock().await.remove_instance(name).await?)
    }

    async fn start_deletion(&self, intent: &DeletionIntent) -> Result<(), Error> {
        Ok(self.lease.lock().await.start_deletion(intent, GRACE).await?)
    }

    async fn finish_deletion(&self, tenant: &TenantId) -> Result<(), Error> {
        Ok(self.lease.lock().await.finish_deletion(tenant).await?)
    }

    async fn remove_placement(&self, tenant: &TenantId) -> Result<(), Error> {
        Ok(self.lease.lock().await.remove_placement(tenant).await?)
    }

    async fn record(&self, run: &RunRecord, events: &[Event], conditions: &[Condition]) -> Result<(), Error> {
        Ok(self.lease.lock().await.record(run, events, conditions).await?)
    }
}

/// The servers of instances, reached with the derived password: as `postgres`, or as a superuser of our own on those that
/// were adopted.
pub struct Instances<'a> {
    pub keys: &'a Keyring,
    pub fleet: FleetUid,
    /// For one connection to come up.
    pub deadline: Duration,
    /// Connections to one server at the same time.
    pub parallel: usize,
    adopted: StdMutex<BTreeSet<InstanceName>>,
    /// Instance, database, bytes, as of the last observation; `None`: nothing is measured.
    sizes: Option<StdMutex<Vec<DatabaseSize>>>,
}

/// Instance, database, bytes.
pub type DatabaseSize = (String, String, u64);

impl<'a> Instances<'a> {
    pub fn new(keys: &'a Keyring, fleet: FleetUid, deadline: Duration, parallel: usize) -> Instances<'a> {
        Instances { keys, fleet, deadline, parallel, adopted: StdMutex::default(), sizes: None }
    }

    fn user(&self, name: &InstanceName) -> &'static str {
        let adopted = self.adopted.lock().unwrap_or_else(PoisonError::into_inner);
        if adopted.contains(name) { postgres::ADMIN_ROLE } else { postgres::SUPERUSER }
    }
}

impl Instances<'_> {
    /// From now on each observation also measures the databases of the server it has in hand: instances that sleep are not
    /// woken for it.
    #[must_use]
    pub fn measuring(self) -> Self {
        Instances { sizes: Some(StdMutex::default()), ..self }
    }

    pub fn sizes(&self) -> Vec<DatabaseSize> {
        self.sizes
            .as_ref()
            .map(|sizes| sizes.lock().unwrap_or_else(PoisonError::into_inner).clone())
            .unwrap_or_default()
    }

    async fn open(&self, name: &InstanceName, at: &Address) -> Result<Server, ServerFailure> {
        let password = self.keys.password(&Credential::Admin { instance: name.clone() });
        let entrance = (self.user(name), &password);
        Server::connect(at, entrance, self.deadline).await.map_err(|error| failure(&error))
    }
}

pub(super) fn failure(error: &postgres::Error) -> ServerFailure {
    ServerFailure { code: error.code().into(), message: explain(error), help: error.help().to_owned() }
}

/// An error and its causes on one line.
pub(super) fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

impl Servers for Instances<'_> {
    fn know_adopted(&self, names: BTreeSet<InstanceName>) {
        *self.adopted.lock().unwrap_or_else(PoisonError::into_inner) = names;
    }

    async fn admit(
        &self,
        name: &InstanceName,
        at: &Address,
        entrance: (&str, &Secret),
        force: bool,
    ) -> Result<(), ServerFailure> {
        let mut server = Server::connect(at, entrance, self.deadline).await.map_err(|error| failure(&error))?;
        let maker = Maker { keys: self.keys, fleet: &self.fleet };
        let admitted = server.admit_admin(maker, name, force).await.map_err(|error| failure(&error));
        server.close().await;
        admitted
    }

    async fn dismiss(&self, name: &InstanceName, at: &Address) -> Result<(), ServerFailure> {
        let password = self.keys.password(&Credential::Admin { instance: name.clone() });
        let entrance = (postgres::ADMIN_ROLE, &password);
        let mut server = Server::connect(at, entrance, self.deadline).await.map_err(|error| failure(&error))?;
        let dismissed = server.dismiss_admin().await.map_err(|error| failure(&error));
        server.close().await;
        dismissed
    }

    async fn observe(&self, name: &InstanceName, at: &Address) -> Result<ServerLive, ServerFailure> {
        let mut server = self.open(name, at).await?;
        let live = server.observe(self.keys, &self.fleet).await.map_err(|error| failure(&error));
        if let Some(sizes) = &self.sizes {
            // Without them a run is as good as with them; the next one measures again.
            let measured = server.sizes().await.unwrap_or_default();
            let mut sizes = sizes.lock().unwrap_or_else(PoisonError::into_inner);
            sizes.retain(|(instance, ..)| instance != name.as_str());
            sizes.extend(measured.into_iter().map(|(database, bytes)| (name.to_string(), database, bytes)));
        }
        server.close().await;
        live
    }

    async fn look_before_rename(
        &self,
        name: &InstanceName,
        at: &Address,
        rename: &DatabaseChange,
    ) -> Result<(), ServerFailure> {
        let mut server = self.open(name, at).await?;
        let looked = server.look_before_rename(&self.fleet, rename).await.map_err(|error| failure(&error));
        server.close().await;
        looked
    }

    async fn change(
        &self,
        name: &InstanceName,
        at: &Address,
        groups: &[Vec<DatabaseChange>],
        tell: &dyn Fn(Turn),
    ) -> Vec<Result<(), ServerFailure>> {
        let password = self.keys.password(&Credential::Admin { instance: name.clone() });
        let many = Many {
            address: at,
            user: self.user(name),
            password: &password,
            deadline: self.deadline,
            keys: self.keys,
            fleet: &self.fleet,
            parallel: self.parallel,
        };
        let results = change_many(&many, groups, tell).await;
        results.into_iter().map(|result| result.map_err(|error| failure(&error))).collect()
    }
}
