//! One world: a Railway in memory, the servers on its volumes, a control database, a virtual clock, and a count of every
//! call that could be the last one of a killed run.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::{self, BoxFuture};
use ogelnates::local::world::{At, Fault, Plan as RailwayPlan, Rule};
use ogelnates::local::{Fate, InProcess};
use ogelnates::manifest::{Desired, Source, load};
use ogelnates::operator::{
    Bootstrapped, Door, Error, Ground, Reconciled, Tell, Timing, bootstrap, observe, reconcile,
};
use ogelnates::plan::{Consent, Live};
use ogelnates::railway::{Client, ClientConfig, HttpRequest, HttpResponse, Token, Transport, TransportError};
use ogelnates::store::FleetRow;
use ogelnates::tenancy::{CONTROL_SERVICE, Keyring, Secret};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::control::ControlModel;
use super::servers::ServersModel;

/// Where a run is killed: before the call of this number is made, or after it took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kill {
    Before(u64),
    After(u64),
}

/// Counts calls of every kind and ends the run at the chosen one.
#[derive(Default)]
pub struct Calls {
    made: AtomicU64,
    /// When each was made.
    moments: Mutex<Vec<Instant>>,
    requests: AtomicU64,
    kill: Mutex<Option<Kill>>,
    pub killed: Notify,
    /// The call of this number is held back, until `go_on`.
    hold: Mutex<Option<u64>>,
    held: Notify,
    go_on: Notify,
}

impl Calls {
    /// The call's effect happens in `effect`, whole or not at all; a killed run never hears of it.
    pub async fn call<T>(&self, effect: impl FnOnce() -> T) -> T {
        let number = self.made.fetch_add(1, Relaxed);
        self.moments.lock().expect("one thread").push(Instant::now());
        let is_held = self.hold.lock().expect("one thread").take_if(|held| *held == number).is_some();
        if is_held {
            self.held.notify_one();
            self.go_on.notified().await;
        }
        if self.strikes(Kill::Before(number)) {
            self.die().await;
        }
        let result = effect();
        if self.strikes(Kill::After(number)) {
            self.die().await;
        }
        result
    }

    /// When each call was made that this world, or this copy of one, has seen.
    pub fn moments(&self) -> Vec<Instant> {
        self.moments.lock().expect("one thread").clone()
    }

    fn strikes(&self, here: Kill) -> bool {
        *self.kill.lock().expect("one thread") == Some(here)
    }

    async fn die(&self) {
        *self.kill.lock().expect("one thread") = None;
        self.killed.notify_one();
        future::pending::<()>().await;
    }
}

pub struct Sim {
    pub railway: Arc<Mutex<InProcess>>,
    pub control: ControlModel,
    pub servers: ServersModel,
    pub calls: Arc<Calls>,
    pub keys: Keyring,
    twice: Arc<AtomicU64>,
    /// Of the clients' jitter; else each run has its own.
    seed: Option<u64>,
    began: Instant,
    /// Added to the operator's clock only: its machine may be wrong.
    pub skew: Cell<TimeDelta>,
    place: RefCell<Option<FleetRow>>,
    /// Ctrl-C comes when a line of progress has this in it; then, when it came.
    stop_on: RefCell<Option<String>>,
    pub stopped: Cell<Option<Instant>>,
}

/// 2026-11-24T12:00:00Z.
pub fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_608_000, 0).expect("in range")
}

/// How a run ended.
pub enum Ended {
    Killed,
    Failed(Error),
    Done(Box<Reconciled>),
}

impl Sim {
    pub fn new(plan: RailwayPlan, seed: u64) -> Sim {
        let railway = Arc::new(Mutex::new(InProcess::new(plan, seed, start())));
        let calls = Arc::new(Calls::default());
        let keys = Keyring::new(&Secret::new("simulation-key-simulation-key-00")).expect("long enough");
        let servers = ServersModel::new(Arc::clone(&railway), Arc::clone(&calls));
        Sim {
            control: ControlModel::new(Arc::clone(&calls), Rc::clone(&servers.contents)),
            servers,
            railway,
            calls,
            keys,
            twice: Arc::new(AtomicU64::new(u64::MAX)),
            seed: None,
            began: Instant::now(),
            skew: Cell::new(TimeDelta::zero()),
            place: RefCell::new(None),
            stop_on: RefCell::new(None),
            stopped: Cell::new(None),
        }
    }

    /// A copy that goes on by itself from the same moment, whatever time went by for others since `moment`.
    pub fn fork(&self, moment: Duration) -> Sim {
        let railway = Arc::new(Mutex::new(self.railway.lock().expect("one thread").clone()));
        let (calls, began) = (Arc::new(Calls::default()), Instant::now() - moment);
        calls.made.store(self.calls_made(), Relaxed);
        calls.requests.store(self.calls.requests.load(Relaxed), Relaxed);
        let servers = self.servers.fork(Arc::clone(&railway), Arc::clone(&calls), began);
        let control = ControlModel::new(Arc::clone(&calls), Rc::clone(&servers.contents));
        *control.rows.borrow_mut() = self.control.rows.borrow().clone();
        Sim {
            railway,
            control,
            servers,
            calls,
            keys: self.keys.clone(),
            twice: Arc::new(AtomicU64::new(u64::MAX)),
            // So that the number of requests that were made decides nothing.
            seed: Some(7),
            began,
            skew: self.skew.clone(),
            place: self.place.clone(),
            stop_on: RefCell::new(None),
            stopped: Cell::new(None),
        }
    }

    /// Time since the world began.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Everything that decides how the world goes on: two worlds of one state have one future.
    pub fn state(&self) -> String {
        let mut railway = self.railway.lock().expect("one thread");
        assert!(self.seed.is_some(), "the next run's jitter depends on the number of requests");
        let world = serde_json::to_string(railway.world(self.now())).expect("JSON");
        let rows = self.control.rows.borrow();
        let control = ogelnates::plan::ControlLive { epoch: 0, ..rows.live.clone() };
        let contents = self.servers.contents.borrow();
        format!("{:?} {world} {:?} {control:?} {contents:?}", self.elapsed(), rows.fleet)
    }

    pub fn now(&self) -> DateTime<Utc> {
        start() + TimeDelta::from_std(self.began.elapsed()).expect("short")
    }

    /// Reads lag behind writes from now on.
    pub fn lag(&self) {
        let rule = Rule { count: None, ..Rule::once(Fault::Lag) };
        self.railway.lock().expect("one thread").order(rule);
    }

    /// In the next run only.
    pub fn stop_on(&self, text: &str) {
        *self.stop_on.borrow_mut() = Some(text.to_owned());
    }

    fn hear(&self, line: &str, stop: &CancellationToken) {
        if self.stop_on.borrow().as_ref().is_some_and(|text| line.contains(text)) {
            *self.stop_on.borrow_mut() = None;
            self.stopped.set(Some(Instant::now()));
            stop.cancel();
        }
    }

    pub fn kill_at(&self, kill: Kill) {
        let base = self.calls_made();
        *self.calls.kill.lock().expect("one thread") = Some(match kill {
            Kill::Before(n) => Kill::Before(base + n),
            Kill::After(n) => Kill::After(base + n),
        });
    }

    /// The `n`th request from now on meets `rule`.
    pub fn fault_at(&self, n: u64, rule: Rule) {
        let mut railway = self.railway.lock().expect("one thread");
        let at = railway.seen() + n;
        railway.plan_faults(BTreeMap::from([(at, rule)]));
    }

    pub fn deliver_twice(&self, n: u64) {
        self.twice.store(self.calls.requests.load(Relaxed) + n, Relaxed);
    }

    /// No kill is left over for a later run.
    pub fn calls_are_safe(&self) {
        *self.calls.kill.lock().expect("one thread") = None;
        self.railway.lock().expect("one thread").plan_faults(BTreeMap::new());
    }

    /// Servers that are made from now on accept this many connections.
    pub fn servers_have_room(&self, max_connections: u32) {
        self.servers.max_connections.set(max_connections);
    }

    pub fn quiet(&self) {
        let mut railway = self.railway.lock().expect("one thread");
        railway.plan_faults(BTreeMap::new());
        railway.clear_faults();
        *self.calls.kill.lock().expect("one thread") = None;
    }

    pub fn calls_made(&self) -> u64 {
        self.calls.made.load(Relaxed)
    }

    pub fn requests_made(&self) -> u64 {
        self.railway.lock().expect("one thread").seen()
    }

    fn client(&self, seed: u64) -> Client {
        let token = Token::Api(self.railway.lock().expect("one thread").token().clone());
        let twice = Arc::clone(&self.twice);
        let wire =
            Wire { twice, railway: Arc::clone(&self.railway), calls: Arc::clone(&self.calls), began: self.began };
        Client::new(ClientConfig::new(token, seed), Arc::new(wire))
    }

    pub async fn bootstrap(&self, desired: &Desired) -> Option<Result<Bootstrapped, Error>> {
        let (railway, stop, clock) = (self.client(1), CancellationToken::new(), || self.now());
        let ground = Ground {
            railway: &railway,
            keys: &self.keys,
            stop: &stop,
            progress: &|_| (),
            clock: &clock,
            timing: Timing::default(),
        };
        let result = tokio::select! {
            result = bootstrap(&ground, &desired.fleet) => result,
            () = self.calls.killed.notified() => return None,
        };
        if let Ok(done) = &result {
            let row = FleetRow {
                uid: self.keys.fleet_uid(&desired.fleet.name),
                name: desired.fleet.name.clone(),
                project: done.project.clone(),
                environment: done.environment.clone(),
            };
            if !done.has_instances {
                self.control.know(row.clone());
            }
            *self.place.borrow_mut() = Some(row);
        }
        Some(result)
    }

    pub async fn reconcile(&self, desired: &Desired) -> Ended {
        self.reconcile_with(desired, &Consent::default(), |_| true).await
    }

    pub async fn reconcile_with(
        &self,
        desired: &Desired,
        consent: &Consent,
        agree: impl FnOnce(&ogelnates::plan::Plan) -> bool,
    ) -> Ended {
        let (railway, stop, clock) =
            (self.client(self.seed.unwrap_or(self.requests_made())), CancellationToken::new(), || {
                self.now() + self.skew.get()
            });
        let progress = |tell: Tell<'_>| {
            if let Tell::Now(line) = tell {
                self.hear(line, &stop);
            }
        };
        let door = self.door(&railway, &stop, &progress, &clock);
        let run = async {
            let loaded = self.control.take_lease_and_load().await;
            reconcile(&door, &self.control, &self.servers, (desired, consent), (loaded, None), agree).await
        };
        tokio::select! {
            result = run => match result {
                Ok(done) => Ended::Done(Box::new(done)),
                Err(error) => Ended::Failed(error),
            },
            () = self.calls.killed.notified() => Ended::Killed,
        }
    }

    /// A run whose call of number `n` (from now on) reaches its far side only after `meanwhile`; `None` if it ended with
    /// fewer calls.
    pub async fn reconcile_around(&self, desired: &Desired, n: u64, meanwhile: impl AsyncFnOnce()) -> Option<Ended> {
        *self.calls.hold.lock().expect("one thread") = Some(self.calls_made() + n);
        let mut run = std::pin::pin!(self.reconcile(desired));
        tokio::select! {
            _ = &mut run => return None,
            () = self.calls.held.notified() => {}
        }
        meanwhile().await;
        self.calls.go_on.notify_one();
        Some(run.await)
    }

    pub fn door<'a>(
        &'a self,
        railway: &'a Client,
        stop: &'a CancellationToken,
        progress: &'a dyn Fn(Tell<'_>),
        clock: &'a dyn Fn() -> DateTime<Utc>,
    ) -> Door<'a> {
        let row = self.place.borrow().clone().expect("bootstrapped");
        Door {
            railway,
            project: row.project,
            environment: row.environment,
            keys: &self.keys,
            fleet: row.uid,
            stop,
            leading: None,
            progress,
            clock,
            timing: Timing::default(),
            run: uuid::Uuid::nil(),
            inside: false,
        }
    }

    /// Work outside of any plan, under the lease and with a look at the world, that a kill can end: `None`.
    pub async fn under_lease<T>(&self, work: impl AsyncFnOnce(&Door<'_>, Live) -> T) -> Option<T> {
        let (railway, stop, clock) = (self.client(self.requests_made()), CancellationToken::new(), || self.now());
        let door = self.door(&railway, &stop, &|_| (), &clock);
        let run = async {
            let (_, control) = self.control.take_lease_and_load().await;
            let live = observe(&door, &self.servers, None, control).await.expect("seen");
            work(&door, live).await
        };
        tokio::select! {
            done = run => Some(done),
            () = self.calls.killed.notified() => None,
        }
    }

    /// What `o7s observe` would see.
    pub async fn observe(&self) -> Live {
        let (railway, stop, clock) = (self.client(self.requests_made()), CancellationToken::new(), || self.now());
        let (_, control) = self.control.take_lease_and_load().await;
        observe(&self.door(&railway, &stop, &|_| (), &clock), &self.servers, None, control).await.expect("seen")
    }

    /// The environment's id, once there is one.
    pub fn environment(&self) -> String {
        self.place.borrow().as_ref().expect("bootstrapped").environment.to_string()
    }

    /// What must be true after any run, whatever struck it: nothing doubled, nothing foreign touched.
    pub fn assert_nothing_is_doubled(&self, context: &str) {
        let (now, environment) = (self.now(), self.environment());
        let mut railway = self.railway.lock().expect("one thread");
        let world = railway.world(now);
        let mut names = Vec::new();
        for (service, _) in world.marked_services(&environment, "O7S_OWNER") {
            names.push(service.name.clone());
            let volumes = world.volumes_at(&environment, Some(&service.id)).len();
            assert!(volumes <= 1, "{context}: {} has {volumes} volumes", service.name);
            let at = At { environment: environment.clone(), service: service.id.clone() };
            let deployments = world.deployments_of(&at);
            assert!(deployments <= 2, "{context}: {} was deployed {deployments} times", service.name);
        }
        let detached = world.volumes_at(&environment, None);
        assert!(detached.is_empty(), "{context}: volumes without a service: {detached:?}");
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count, "{context}: two services of one name");
    }

    /// The world without ids, times and addresses: what must be the same however a run went.
    pub fn picture(&self) -> String {
        let (now, environment) = (self.now(), self.environment());
        let mut railway = self.railway.lock().expect("one thread");
        let world = railway.world(now);
        let mut lines: Vec<String> = world
            .marked_services(&environment, "O7S_OWNER")
            .into_iter()
            .map(|(service, _)| {
                let volumes = world.volumes_at(&environment, Some(&service.id)).len();
                format!("service {} with {volumes} volume", service.name)
            })
            .collect();
        lines.sort();
        drop(railway);
        lines.push(self.servers.picture());
        lines.push(self.control.picture());
        lines.join("\n")
    }
}

pub fn has_control(sim: &Sim) -> bool {
    sim.picture().contains(&format!("service {CONTROL_SERVICE} with 1 volume"))
}

/// The client's way into the world: no sockets, but every fate an answer can have.
struct Wire {
    /// The request of this number reaches the far side twice.
    twice: Arc<AtomicU64>,
    railway: Arc<Mutex<InProcess>>,
    calls: Arc<Calls>,
    began: Instant,
}

impl Transport for Wire {
    fn send(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, TransportError>> {
        Box::pin(async move {
            let headers = request.headers.iter().map(|(name, value)| (name.to_lowercase(), value.clone())).collect();
            let now = start() + TimeDelta::from_std(self.began.elapsed()).expect("short");
            let handle = || self.railway.lock().expect("one thread").handle(now, &headers, &request.body);
            if self
                .twice
                .compare_exchange(self.calls.requests.fetch_add(1, Relaxed), u64::MAX, Relaxed, Relaxed)
                .is_ok()
            {
                drop(handle());
            }
            let response = self.calls.call(handle).await;
            match response.fate {
                Fate::Delivered => {
                    let (status, headers, body) = (response.status, response.headers, response.body);
                    Ok(HttpResponse { status, headers, body })
                }
                Fate::Cut => Err(TransportError::MaybeSent { reason: "the connection was cut".into() }),
                Fate::Never => {
                    sleep(Duration::from_secs(90)).await;
                    Err(TransportError::MaybeSent { reason: "timed out".into() })
                }
            }
        })
    }
}

/// A fleet of `tenants` on one shared pool, and one tenant on an instance of its own.
pub fn fleet(tenants: &[&str]) -> Desired {
    manifest(&fleet_text(tenants))
}

pub fn fleet_text(tenants: &[&str]) -> String {
    let head = "apiVersion: ogelnates.dev/v1\nkind: ";
    let mut text = format!(
        "{head}Fleet\nmetadata: {{ name: sim }}\nspec:\n  railway: {{ project: sim, environment: production, plan: pro }}\n---\n\
         {head}Tier\nmetadata: {{ name: free }}\nspec:\n  limits: {{ connections: 5, serverConnections: 2 }}\n  placement: {{ pool: shared }}\n---\n\
         {head}DatabasePool\nmetadata: {{ name: shared }}\nspec: {{ tenantsPerInstance: 50, instances: {{ min: 1, max: 4 }} }}\n---\n\
         {head}DatabasePool\nmetadata: {{ name: own }}\nspec: {{ tenantsPerInstance: 1, instances: {{ min: 0, max: 9 }} }}\n"
    );
    for (n, tenant) in tenants.iter().enumerate() {
        let own = if n + 1 == tenants.len() && n > 0 { "  placement: { pool: own }\n" } else { "" };
        text.push_str(&format!("---\n{head}Tenant\nmetadata: {{ name: {tenant} }}\nspec:\n  tier: free\n{own}"));
    }
    text
}

pub fn manifest(text: &str) -> Desired {
    let source = Source { path: "fleet.yaml".into(), text: text.to_owned() };
    load(&[source]).unwrap_or_else(|problems| panic!("{}", problems.render()))
}

impl Sim {
    /// A service of somebody else in the fleet's project.
    pub fn make_foreign_service(&self, name: &str, variables: &[(&str, &str)]) -> String {
        let row = self.place.borrow().clone().expect("bootstrapped");
        let variables: BTreeMap<String, String> =
            variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        self.ask(
            "mutation Foreign($input: ServiceCreateInput!) { serviceCreate(input: $input) { id } }",
            serde_json::json!({ "input": { "projectId": row.project, "environmentId": row.environment, "name": name,
                "variables": variables } }),
        )["serviceCreate"]["id"]
            .as_str()
            .expect("made")
            .to_owned()
    }

    /// A person with the dashboard: any document, past all faults.
    pub fn ask(&self, query: &str, variables: serde_json::Value) -> serde_json::Value {
        let body = serde_json::json!({ "query": query, "variables": variables }).to_string();
        let now = self.now();
        let mut railway = self.railway.lock().expect("one thread");
        let headers = railway.headers();
        let answer: serde_json::Value =
            serde_json::from_str(&railway.handle(now, &headers, &body).body).expect("JSON");
        assert!(answer.get("errors").is_none(), "{answer}");
        answer["data"].clone()
    }

    /// The configuration of a service by name, as Railway would show it to an administrator.
    pub fn config_of(&self, name: &str) -> serde_json::Value {
        let (now, environment) = (self.now(), self.environment());
        let mut railway = self.railway.lock().expect("one thread");
        let world = railway.world(now);
        let service = world.services.values().find(|service| service.name == name && service.deleted_at.is_none());
        let id = &service.unwrap_or_else(|| panic!("no service {name}")).id;
        let environment = world.environment(&environment).expect("there");
        environment.service_blob(id).cloned().unwrap_or_default()
    }

    pub fn service_id(&self, name: &str) -> String {
        let now = self.now();
        let mut railway = self.railway.lock().expect("one thread");
        let world = railway.world(now);
        let service = world.services.values().find(|service| service.name == name && service.deleted_at.is_none());
        service.unwrap_or_else(|| panic!("no service {name}")).id.clone()
    }

    /// Requests, however many mutations each held.
    pub fn mutating_requests(&self) -> usize {
        let railway = self.railway.lock().expect("one thread");
        railway.mutations().map(|mutation| mutation.request).collect::<BTreeSet<_>>().len()
    }

    pub fn mutations_made(&self) -> usize {
        self.railway.lock().expect("one thread").mutations().count()
    }
}
