//! What a run needs of the outside. Railway is always reached through its client; the control database and the
//! instances' servers are reached through these traits, so that the same run can be replayed fault by fault in memory.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::error::Error;
use super::leading::Leading;
use super::tell::Tell;
use crate::plan::{ControlLive, DatabaseChange, DeletionIntent, InstanceRecord, Placement, ServerLive};
use crate::postgres::Turn;
use crate::railway::Client;
use crate::store::{Condition, Event, FleetRow, RunRecord};
use crate::tenancy::{
    Address, EnvironmentId, ErrorCode, FleetUid, InstanceName, Keyring, ProjectId, Route, Secret, TenantId,
};

/// One Railway environment and everything a call to it needs.
pub struct Door<'a> {
    pub railway: &'a Client,
    pub project: ProjectId,
    pub environment: EnvironmentId,
    pub keys: &'a Keyring,
    pub fleet: FleetUid,
    /// Cancelled by Ctrl-C: the call in flight is finished, the next is not begun.
    pub stop: &'a CancellationToken,
    /// Whether this run holds the lease; `None` where nothing is changed or nothing is held.
    pub leading: Option<&'a Leading>,
    /// Lines for a person who waits.
    pub progress: &'a dyn Fn(Tell<'_>),
    pub clock: &'a dyn Fn() -> DateTime<Utc>,
    pub timing: Timing,
    /// Names this run in events.
    pub run: uuid::Uuid,
    /// This process runs inside that environment and uses private addresses.
    pub inside: bool,
}

impl Door<'_> {
    /// Call before anything that changes the world.
    pub fn go_on(&self) -> Result<(), Error> {
        match self.leading {
            Some(leading) if !leading.holds() => Err(Error::NotLeading),
            _ if self.stop.is_cancelled() => Err(Error::Stopped),
            _ => Ok(()),
        }
    }

    /// A pause between two looks. A stop request ends it, and whatever was being waited for.
    pub async fn wait(&self, time: Duration) -> Result<(), Error> {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = sleep(time) => {}
        }
        self.go_on()
    }

    pub fn address<'b>(&self, endpoint: &'b crate::tenancy::Endpoint) -> &'b Address {
        if self.inside { &endpoint.private } else { &endpoint.public }
    }
}

/// Bounds of every wait.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// How long a list may still hide what exists: new volumes were seen to take 28 s, we wait three times that.
    pub settle: Duration,
    /// From the patch to a running deployment.
    pub ready: Duration,
    /// Between two looks.
    pub poll: Duration,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing { settle: Duration::from_secs(90), ready: Duration::from_secs(300), poll: Duration::from_secs(1) }
    }
}

/// Pauses between looks at what may show late: doubling, because each look is a request, and cut so that the last look
/// is at the deadline itself.
pub(super) struct Pace {
    next: Duration,
    deadline: Instant,
}

impl Pace {
    const LONGEST: Duration = Duration::from_secs(15);

    pub(super) fn until(deadline: Instant, timing: &Timing) -> Pace {
        Pace { next: timing.poll, deadline }
    }

    pub(super) fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(Self::LONGEST);
        pause.min(self.deadline.saturating_duration_since(Instant::now()))
    }
}

/// Remembers progress that Railway's lagging lists cannot show.
pub trait Memory {
    fn save_instance(&self, name: &str, record: &InstanceRecord) -> impl Future<Output = Result<(), Error>>;
}

/// The control database under this run's lease.
pub trait Control: Memory {
    fn load(&self) -> impl Future<Output = Result<(Option<FleetRow>, ControlLive), Error>>;
    fn save_fleet(&self, fleet: &FleetRow) -> impl Future<Output = Result<(), Error>>;
    fn save_placements(&self, placements: &[(TenantId, Placement)]) -> impl Future<Output = Result<(), Error>>;
    /// `None` when nothing differed; else the new version. Of each rename (former name, own name) the place moves with
    /// the route, in the same transaction.
    fn publish_routes(
        &self,
        upserts: &[Route],
        removed: &[TenantId],
        renames: &[(TenantId, TenantId)],
    ) -> impl Future<Output = Result<Option<u64>, Error>>;
    fn save_router(&self, name: &str, spec: &serde_json::Value) -> impl Future<Output = Result<(), Error>>;
    fn remove_router(&self, name: &str) -> impl Future<Output = Result<(), Error>>;
    /// Remembers that the first is being renamed to the second, and suspends its route.
    fn begin_rename(&self, former: &TenantId, to: &TenantId) -> impl Future<Output = Result<(), Error>>;
    fn cancel_rename(&self, former: &TenantId) -> impl Future<Output = Result<(), Error>>;
    fn remove_instance(&self, name: &str) -> impl Future<Output = Result<(), Error>>;
    fn start_deletion(&self, intent: &DeletionIntent) -> impl Future<Output = Result<(), Error>>;
    fn finish_deletion(&self, tenant: &TenantId) -> impl Future<Output = Result<(), Error>>;
    fn remove_placement(&self, tenant: &TenantId) -> impl Future<Output = Result<(), Error>>;
    fn record(
        &self,
        run: &RunRecord,
        events: &[Event],
        conditions: &[Condition],
    ) -> impl Future<Output = Result<(), Error>>;
}

/// Why a server did not do what it was asked, in words for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFailure {
    pub code: ErrorCode,
    pub message: String,
    pub help: String,
}

/// The servers of instances, reached as their superuser.
pub trait Servers {
    /// The instances that somebody else made, where O7s is another superuser. Each observation tells them first.
    fn know_adopted(&self, names: BTreeSet<InstanceName>);
    /// Makes that superuser, entering as the one that is there.
    fn admit(
        &self,
        name: &InstanceName,
        at: &Address,
        entrance: (&str, &Secret),
        force: bool,
    ) -> impl Future<Output = Result<(), ServerFailure>>;
    /// Closes it.
    fn dismiss(&self, name: &InstanceName, at: &Address) -> impl Future<Output = Result<(), ServerFailure>>;
    fn observe(&self, name: &InstanceName, at: &Address) -> impl Future<Output = Result<ServerLive, ServerFailure>>;
    /// Whether the names that a [`DatabaseChange::RenameTenant`] gives are free there. Changes nothing.
    fn look_before_rename(
        &self,
        name: &InstanceName,
        at: &Address,
        rename: &DatabaseChange,
    ) -> impl Future<Output = Result<(), ServerFailure>>;
    /// Carries out each group in its order; groups run side by side. One result a group, in the order given.
    fn change(
        &self,
        name: &InstanceName,
        at: &Address,
        groups: &[Vec<DatabaseChange>],
        tell: &dyn Fn(Turn),
    ) -> impl Future<Output = Vec<Result<(), ServerFailure>>>;
}
