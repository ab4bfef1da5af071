//! Keeps the table as the control database has it: read whole at the start, then what has changed, within milliseconds of
//! a notification, and at the latest with a heartbeat. While the control database is away the last table is served, at the
//! start the one on disk.
//!
//! Read: routes (rows into entries), acks (what is in force), cache (the table on disk), this file (the loop).

mod acks;
mod cache;
mod routes;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use self::acks::Acks;
use self::cache::Snapshot;
pub use self::routes::{Changed, DefaultPooling, Reach, RouterSpec, apply};
use super::identify::Rules;
use super::login::Tokens;
use super::serve::{Applied, Peer};
use super::table::{Entry, Table};
use super::tokens::{ApiKeys, Checker, Environment, Issuer};
use crate::store::{self, ApiKeyRow, Changes, Follower, Replica};
use crate::tenancy::{Keyring, RouterName, Secret};

/// Of one statement; a connection that does not answer is given up after it.
const DEADLINE: Duration = Duration::from_secs(5);
/// A third of [`store::REPLICA_TTL`].
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Everything is read again, should a change ever have been missed.
const WHOLE: Duration = Duration::from_secs(600);
/// Changes that come together are written to disk together.
const SETTLE: Duration = Duration::from_millis(200);
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

pub struct FollowConfig {
    /// URL of the control database.
    pub database: Secret,
    /// Whose manifest is obeyed; without a name the only one, or the first.
    pub router: Option<RouterName>,
    pub reach: Reach,
    /// Where the table is kept for a start without the control database.
    pub cache: Option<PathBuf>,
    /// Where other replicas send the cancel requests they get for this one.
    pub address: Option<SocketAddr>,
    /// How many threads say of each route that it is in force.
    pub workers: usize,
    /// Where the secret is that a Router manifest names.
    pub environment: Environment,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("the control database belongs to another fleet: {have}, not {want}")]
    OtherFleet { have: String, want: String },
}

/// How well the table is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    pub version: u64,
    pub routes: usize,
    /// When the control database last said that nothing is newer; `None` before the first time.
    pub seen: Option<DateTime<Utc>>,
    /// Why it cannot be asked now: what is served may be out of date since then.
    pub trouble: Option<String>,
}

/// What the rest of the router takes from here.
pub struct Followed {
    pub table: watch::Receiver<Arc<Table>>,
    pub rules: watch::Receiver<Arc<Rules>>,
    pub standing: watch::Receiver<Standing>,
    /// For the cancel keys of this replica's clients.
    pub replica: u8,
    issuer: watch::Receiver<Option<Arc<Issuer>>>,
    api_keys: watch::Receiver<Arc<ApiKeys>>,
    shared: Arc<Shared>,
}

impl Followed {
    /// To be told by each worker that an entry is in force with it.
    pub fn applied(&self) -> Applied {
        let shared = Arc::clone(&self.shared);
        Box::new(move |tenant, version| {
            if shared.acks().applied(tenant, version) {
                shared.said.notify_one();
            }
        })
    }

    /// Checks JWTs and API keys as the manifest and the control database have it by then.
    pub fn tokens(&self) -> Arc<dyn Tokens> {
        let (rules, issuer, api_keys) = (self.rules.clone(), self.issuer.clone(), self.api_keys.clone());
        Arc::new(Checker { rules, issuer, api_keys, clock: Utc::now })
    }

    pub fn peer(&self) -> Peer {
        let shared = Arc::clone(&self.shared);
        Arc::new(move |replica| lock(&shared.peers).get(&replica).copied())
    }
}

struct Shared {
    acks: Mutex<Acks>,
    /// There is something to acknowledge.
    said: Notify,
    peers: Mutex<HashMap<u8, SocketAddr>>,
}

impl Shared {
    fn acks(&self) -> MutexGuard<'_, Acks> {
        lock(&self.acks)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Follows the control database once it is [run](Following::run).
pub struct Following {
    config: FollowConfig,
    keys: Keyring,
    boot: Uuid,
    connection: Option<Follower>,
    table: watch::Sender<Arc<Table>>,
    rules: watch::Sender<Arc<Rules>>,
    issuer: watch::Sender<Option<Arc<Issuer>>>,
    api_keys: watch::Sender<Arc<ApiKeys>>,
    standing: watch::Sender<Standing>,
    shared: Arc<Shared>,
    spec: RouterSpec,
    pooling: DefaultPooling,
    /// The number in the cancel keys.
    replica: u8,
    /// The number the control database gave; normally the same.
    held: Option<u8>,
    beat_at: Instant,
    whole_at: Instant,
    write_at: Option<Instant>,
}

/// Reads the table: from the control database, or from disk while that is away. With neither it is empty, and the standing
/// says why.
///
/// # Errors
/// It is no control database of this key's fleet, or cannot be used and there is nothing on disk.
pub async fn begin(config: FollowConfig, keys: Keyring) -> Result<(Followed, Following), Error> {
    let boot = Uuid::new_v4();
    let cached = config.cache.as_ref().and_then(|path| {
        let read = Snapshot::read(path, &keys.key_of("routes on disk"), config.reach);
        read.unwrap_or_else(|why| {
            warn!(file = %path.display(), %why, "the routes on disk are not used");
            None
        })
    });
    let (table, tables) = watch::channel(Arc::default());
    let (rule, rules) = watch::channel(Arc::new(RouterSpec::default().rules()));
    let (issuer, issuers) = watch::channel(None);
    let (api_key, api_keys) = watch::channel(Arc::default());
    let (standing, standings) = watch::channel(Standing::default());
    let acks = Mutex::new(Acks::new(config.workers, 0));
    let shared = Arc::new(Shared { acks, said: Notify::new(), peers: Mutex::default() });
    let spec = RouterSpec::default();
    let now = Instant::now();
    let mut following = Following {
        replica: cached.as_ref().map_or(boot.as_bytes()[0], |cached| cached.replica),
        pooling: DefaultPooling { pooling: spec.pooling, since: 0 },
        shared: Arc::clone(&shared),
        connection: None,
        held: None,
        beat_at: now + HEARTBEAT,
        whole_at: now + WHOLE,
        write_at: None,
        rules: rule,
        issuer,
        api_keys: api_key,
        config,
        keys,
        boot,
        table,
        standing,
        spec,
    };
    match following.connect(&|_, _| {}).await {
        Ok(connection) => {
            following.connection = Some(connection);
            following.replica = following.held.unwrap_or(following.replica);
        }
        Err(error) => following.begin_from(cached, error)?,
    }
    *shared.acks() = Acks::new(following.config.workers, following.table.borrow().version);
    shared.said.notify_one();
    let (table, standing, replica) = (tables, standings, following.replica);
    let followed = Followed { table, rules, standing, replica, issuer: issuers, api_keys, shared };
    Ok((followed, following))
}

impl Following {
    fn begin_from(&mut self, cached: Option<Snapshot>, error: Error) -> Result<(), Error> {
        let passes = matches!(error, Error::Store(store::Error::NotListening { .. }));
        let usable = !matches!(error, Error::OtherFleet { .. } | Error::Store(store::Error::BadUrl { .. }));
        if !(passes || usable && cached.is_some()) {
            return Err(error);
        }
        if let Some(cached) = cached {
            warn!(since = %cached.seen, "serving the routes on disk, which may be out of date");
            self.pooling = cached.pooling;
            self.obey_spec(cached.spec.clone());
            let seen = Some(cached.seen);
            self.api_keys.send_replace(Arc::new(cached.keys()));
            self.table.send_replace(Arc::new(cached.table()));
            self.standing.send_modify(|standing| standing.seen = seen);
        }
        self.in_trouble(&error.to_string());
        Ok(())
    }

    /// Until `stop`; a number is given back then. Each entry that is another one now is given to `route`, after the table
    /// holds it.
    pub async fn run(mut self, route: impl Fn(&Arc<str>, Option<&Arc<Entry>>), stop: CancellationToken) {
        let mut pause = RETRY.0;
        // Replicas that lost the same server do not come back in step.
        let own = f64::from(self.boot.as_bytes()[1]) / 255.0;
        loop {
            let connection = match self.connection.take() {
                Some(connection) => Ok(connection),
                None => match stop.run_until_cancelled(self.connect(&route)).await {
                    Some(connected) => connected,
                    None => return,
                },
            };
            let error = match connection {
                Ok(mut connection) => {
                    pause = RETRY.0;
                    match stop.run_until_cancelled(self.follow(&mut connection, &route)).await {
                        Some(error) => error,
                        None => return self.end(connection).await,
                    }
                }
                Err(error) => error,
            };
            self.in_trouble(&error.to_string());
            if stop.run_until_cancelled(sleep(pause.mul_f64(0.5 + own))).await.is_none() {
                return;
            }
            pause = (pause * 2).min(RETRY.1);
        }
    }

    /// Everything is read again, because nobody knows what was missed.
    async fn connect(&mut self, route: &impl Fn(&Arc<str>, Option<&Arc<Entry>>)) -> Result<Follower, Error> {
        let mut connection = Follower::connect(&self.config.database, DEADLINE).await?;
        let changes = connection.read(None).await?;
        self.take(&changes, route)?;
        self.number(&mut connection).await?;
        (self.beat_at, self.whole_at) = (Instant::now() + HEARTBEAT, Instant::now() + WHOLE);
        self.shared.said.notify_one();
        Ok(connection)
    }

    async fn number(&mut self, connection: &mut Follower) -> Result<(), Error> {
        let preferred = Some(self.replica);
        let begun = self.table.borrow().version > 0 && self.held.is_some();
        self.held = connection.take_number(self.boot, self.config.address, preferred).await?;
        match self.held {
            None => warn!("{} routers hold all numbers; trying on", store::REPLICAS_MAX),
            Some(number) if begun && number != self.replica => {
                warn!(
                    number,
                    was = self.replica,
                    "another router has this one's number; cancels may miss clients here"
                );
            }
            Some(_) => {}
        }
        Ok(())
    }

    async fn follow(&mut self, connection: &mut Follower, route: &impl Fn(&Arc<str>, Option<&Arc<Entry>>)) -> Error {
        loop {
            if let Err(error) = self.turn(connection, route).await {
                return error;
            }
        }
    }

    async fn turn(
        &mut self,
        connection: &mut Follower,
        route: &impl Fn(&Arc<str>, Option<&Arc<Entry>>),
    ) -> Result<(), Error> {
        let shared = Arc::clone(&self.shared);
        let write_at = self.write_at;
        let written = async {
            match write_at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            heard = connection.changed() => {
                heard?;
                self.read(connection, route).await
            }
            () = shared.said.notified() => self.acknowledge(connection).await,
            () = sleep_until(self.beat_at) => self.beat(connection, route).await,
            () = sleep_until(self.whole_at) => {
                self.whole_at = Instant::now() + WHOLE;
                let changes = connection.read(None).await?;
                self.write_at.get_or_insert(Instant::now() + SETTLE);
                self.take(&changes, route)
            }
            () = written => {
                self.write().await;
                Ok(())
            }
        }
    }

    async fn read(
        &mut self,
        connection: &mut Follower,
        route: &impl Fn(&Arc<str>, Option<&Arc<Entry>>),
    ) -> Result<(), Error> {
        let since = self.table.borrow().version;
        let changes = connection.read(Some(since).filter(|since| *since > 0)).await?;
        self.take(&changes, route)
    }

    async fn beat(
        &mut self,
        connection: &mut Follower,
        route: &impl Fn(&Arc<str>, Option<&Arc<Entry>>),
    ) -> Result<(), Error> {
        self.beat_at = Instant::now() + HEARTBEAT;
        let beat = connection.beat(self.held.unwrap_or(self.replica), self.boot).await?;
        if !beat.held {
            self.number(connection).await?;
            self.shared.said.notify_one();
        }
        self.meet(&beat.replicas);
        if beat.version == self.table.borrow().version {
            self.standing.send_modify(|standing| standing.seen = Some(Utc::now()));
            return Ok(());
        }
        self.read(connection, route).await
    }

    async fn acknowledge(&mut self, connection: &mut Follower) -> Result<(), Error> {
        let Some(number) = self.held else { return Ok(()) };
        let (whole, early) = self.shared.acks().state();
        // A number that was lost is noticed, and all this said again, by the next heartbeat.
        connection.acknowledge((number, self.boot), whole, &early).await?;
        Ok(())
    }

    fn take(&mut self, changes: &Changes, route: &impl Fn(&Arc<str>, Option<&Arc<Entry>>)) -> Result<(), Error> {
        let Some(fleet) = &changes.fleet else {
            self.in_trouble("the control database is being made, or made again, by o7s bootstrap and o7s reconcile");
            return Ok(());
        };
        let uid = self.keys.fleet_uid(&fleet.name);
        if uid != fleet.uid {
            let named = |uid: &str| format!("{} ({uid})", fleet.name);
            return Err(Error::OtherFleet { have: named(fleet.uid.as_str()), want: named(uid.as_str()) });
        }
        self.meet(&changes.replicas);
        self.obey(changes);
        self.learn(changes);
        let old = Arc::clone(&self.table.borrow());
        let (table, changed) = apply(&old, changes, self.pooling, self.config.reach);
        let expected = changed.iter().map(|(tenant, entry)| (tenant, entry.as_ref().map(|entry| entry.version)));
        self.shared.acks().expect(table.version, expected);
        if !changed.is_empty() || table.version != old.version {
            self.write_at.get_or_insert(Instant::now() + SETTLE);
        }
        let (version, routes) = (table.version, table.entries.len());
        let recovered = self.standing.borrow().trouble.is_some();
        self.table.send_replace(Arc::new(table));
        self.standing.send_replace(Standing { version, routes, seen: Some(Utc::now()), trouble: None });
        if recovered {
            info!(version, routes, "the control database answers again");
        }
        for (tenant, entry) in &changed {
            route(tenant, entry.as_ref());
        }
        self.shared.said.notify_one();
        Ok(())
    }

    fn obey(&mut self, changes: &Changes) {
        match RouterSpec::of(self.config.router.as_ref(), &changes.routers) {
            Ok((spec, version)) => {
                if spec.pooling != self.pooling.pooling {
                    self.pooling = DefaultPooling { pooling: spec.pooling, since: version };
                }
                if spec != self.spec {
                    self.obey_spec(spec);
                }
            }
            Err(error) => warn!(%error, "the Router manifest is not understood; the last one stays in force"),
        }
    }

    /// Keys before rules: what is listed in `identify` can be checked.
    fn obey_spec(&mut self, spec: RouterSpec) {
        if spec.jwt != self.spec.jwt {
            let former = self.issuer.borrow().clone();
            let new = spec.jwt.clone().map(|jwt| Issuer::new(jwt, &self.config.environment, former.as_deref()));
            self.issuer.send_replace(new.map(Arc::new));
        }
        self.rules.send_replace(Arc::new(spec.rules()));
        self.spec = spec;
    }

    /// Before the version is acknowledged: whoever revokes a key waits for that.
    fn learn(&self, changes: &Changes) {
        if changes.keys.is_empty() && !changes.whole {
            return;
        }
        self.api_keys.send_modify(|keys| {
            let keys = Arc::make_mut(keys);
            if changes.whole {
                keys.clear();
            }
            for ApiKeyRow { key, revoked } in &changes.keys {
                match revoked {
                    true => drop(keys.remove(&key.id)),
                    false => drop(keys.insert(key.id, key.clone())),
                }
            }
        });
    }

    fn meet(&self, replicas: &[Replica]) {
        let others = replicas.iter().filter(|replica| Some(replica.number) != self.held);
        *lock(&self.shared.peers) = others.filter_map(|other| Some((other.number, other.address?))).collect();
    }

    fn in_trouble(&self, why: &str) {
        if self.standing.borrow().trouble.is_none() {
            warn!(%why, "the control database cannot be followed; the routes known last are served");
        }
        let table = Arc::clone(&self.table.borrow());
        self.standing.send_modify(|standing| {
            (standing.version, standing.routes) = (table.version, table.entries.len());
            standing.trouble = Some(why.to_owned());
        });
    }

    async fn write(&mut self) {
        self.write_at = None;
        let Some(path) = self.config.cache.clone() else { return };
        let (key, table) = (self.keys.key_of("routes on disk"), Arc::clone(&self.table.borrow()));
        let keys = Arc::clone(&self.api_keys.borrow());
        let snapshot =
            Snapshot::new((&table, &keys), (&self.spec, self.pooling), self.config.reach, Utc::now(), self.replica);
        let written = tokio::task::spawn_blocking(move || snapshot.write(&path, &key)).await;
        if let Ok(Err(error)) = written {
            warn!(%error, "the routes cannot be kept on disk");
        }
    }

    /// In order: others need not wait for this router.
    async fn end(mut self, mut connection: Follower) {
        if self.write_at.is_some() {
            self.write().await;
        }
        if let Some(number) = self.held {
            let _ = connection.give_back(number, self.boot).await;
        }
    }
}
