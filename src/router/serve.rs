//! The router as a whole: routes come in, clients are accepted, workers serve them, until it is told to stop.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;

use crate::tenancy::{Keyring, Metered};

use super::credentials::{Credentials, LookUp};
use super::descriptors;
use super::handover::OpenError;
use super::identify::Rules;
use super::leasing::LeaseBook;
use super::listener::{self, Doors, Handshakes};
use super::login::Tokens;
use super::look_up::{Administrators, Found, RoleLookUp};
use super::open::{OpenConfig, Opener, Request};
use super::protocol::error::{Report, SqlState};
use super::protocol::server_login::cancel_request;
use super::table::{Entry, Table};
use super::throttle::Throttle;
use super::tls::{PemFiles, Tls, TlsError};
use super::tokens::ApiKeys;
use super::worker::{CancelRequest, OpenRequest, Outside, Team, Timing, replica_of};

#[derive(Debug, Clone)]
pub struct Config {
    pub listen: SocketAddr,
    pub certificates: Vec<PemFiles>,
    pub workers: usize,
    pub timing: Timing,
    /// How long a client waits for an instance that sleeps, starts, or is out of reach.
    pub wake: Duration,
    /// How long clients may take to end what they do once the router was told to stop.
    pub drain: Duration,
}

/// What the router follows. Whoever changes the table also tells the team (see [`Running::changed`]).
pub struct Sources {
    pub table: watch::Receiver<Arc<Table>>,
    pub rules: watch::Receiver<Arc<Rules>>,
    pub keys: Option<Keyring>,
    pub tokens: Option<Arc<dyn Tokens>>,
    pub administrators: Administrators,
    /// Told of each tenant's version once it is in force here. Must not block.
    pub applied: Applied,
    /// Must not block.
    pub metered: Meters,
    /// Where workers leave what they have to say of their leases.
    pub leases: Arc<LeaseBook>,
    /// Another replica's address, by its number, for the cancel requests that meant it.
    pub peer: Peer,
}

/// Takes what workers have counted, on their threads.
pub type Meters = Box<dyn Fn(Vec<Metered>) + Send + Sync>;
pub type Applied = Box<dyn Fn(&Arc<str>, u64) + Send + Sync>;
pub type Peer = Arc<dyn Fn(u8) -> Option<SocketAddr> + Send + Sync>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen on {address}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("the system gives no threads or no epoll")]
    Threads(#[source] std::io::Error),
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A router that serves.
pub struct Running {
    team: Team,
    threads: Vec<std::thread::JoinHandle<()>>,
    /// Accepting clients, and following the certificates.
    tasks: JoinSet<()>,
    stop: CancellationToken,
    drain: Duration,
    pub address: SocketAddr,
}

/// Listens, and serves from then on. Raises the process's limit of descriptors.
///
/// # Errors
/// The address is taken, a certificate cannot be used, or the system is out of something.
pub fn start(config: &Config, sources: Sources) -> Result<Running, Error> {
    let descriptors = descriptors::raise();
    let tls = match config.certificates.as_slice() {
        [] => None,
        files => Some(Arc::new(Tls::load(files.to_vec())?)),
    };
    let listen = |source| Error::Listen { address: config.listen, source };
    let socket = listener::bind(config.listen).map_err(listen)?;
    let address = socket.local_addr().map_err(listen)?;
    let opener = Arc::new(Opener::new(OpenConfig::default()));
    let outside = Arc::new(Async {
        runtime: Handle::current(),
        tasks: TaskTracker::new(),
        opener: Arc::clone(&opener),
        team: OnceLock::new(),
        wake: config.wake,
        applied: sources.applied,
        metered: sources.metered,
        leases: sources.leases,
    });
    let shared: Arc<dyn Outside> = outside.clone();
    let (team, threads) = Team::start(config.workers, &shared, config.timing).map_err(Error::Threads)?;
    let _ = outside.team.set(team.clone());
    let look_up = RoleLookUp::new(opener, sources.administrators, config.wake);
    let mock = match &sources.keys {
        // The same on all routers of a fleet.
        Some(keys) => keys.key_of("mock salts"),
        None => random(),
    };
    let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
    if let Some(tls) = &tls {
        tasks.spawn(Arc::clone(tls).follow(stop.clone()));
    }
    if let Some(keys) = sources.tokens.as_ref().and_then(|tokens| tokens.api_keys()) {
        // Before the first client.
        team.api_keys(&keys.borrow());
        tasks.spawn(follow_keys(team.clone(), keys, stop.clone()));
    }
    let doors = Doors {
        table: sources.table,
        rules: sources.rules,
        credentials: Credentials::new(sources.keys, mock, Some(Arc::new(Looked(look_up)))),
        tls,
        tokens: sources.tokens,
        handshakes: Handshakes::new(std::thread::available_parallelism().map_or(1, usize::from)),
        throttle: Mutex::new(Throttle::default()),
        on_cancel: cancel_way(team.clone(), config.timing.replica, sources.peer),
        on_client: {
            let team = team.clone();
            Arc::new(move |client| team.adopt(Box::new(client)))
        },
    };
    tasks.spawn(listener::serve(socket, Arc::new(doors), stop.clone()));
    info!(%address, ?descriptors, "serving");
    Ok(Running { team, threads, tasks, stop, drain: config.drain, address })
}

async fn follow_keys(team: Team, mut keys: watch::Receiver<Arc<ApiKeys>>, stop: CancellationToken) {
    while let Some(Ok(())) = stop.run_until_cancelled(keys.changed()).await {
        team.api_keys(&keys.borrow_and_update());
    }
}

impl Running {
    pub fn team(&self) -> &Team {
        &self.team
    }

    /// Stops accepting, tells clients at rest to go and gives the others until the drain time is over; returns when all are
    /// gone.
    pub async fn stop(mut self) {
        info!(drain = ?self.drain, "draining");
        self.stop.cancel();
        self.team.drain(until(self.drain));
        while self.tasks.join_next().await.is_some() {}
        let threads = self.threads;
        let _ = tokio::task::spawn_blocking(move || threads.into_iter().for_each(|thread| drop(thread.join()))).await;
    }
}

fn until(drain: Duration) -> std::time::Instant {
    (tokio::time::Instant::now() + drain).into_std()
}

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    fill(&mut bytes);
    bytes
}

fn fill(bytes: &mut [u8]) {
    // The system's source cannot fail once it has been seeded; without it nothing here would be safe.
    aws_lc_rs::rand::fill(bytes).unwrap_or_else(|_| std::process::abort());
}

/// A cancel request goes to the worker that has the client, here or in the replica its key names.
fn cancel_way(
    team: Team,
    replica: u8,
    peer: Peer,
) -> Box<
    dyn Fn(super::protocol::startup::Cancel, SocketAddr) -> futures_util::future::BoxFuture<'static, ()>
        + Send
        + Sync,
> {
    Box::new(move |cancel, _from| {
        let meant = replica_of(cancel.process);
        if meant == replica {
            team.cancel(cancel.process, &cancel.secret);
            return Box::pin(std::future::ready(()));
        }
        let Some(address) = peer(meant) else { return Box::pin(std::future::ready(())) };
        Box::pin(async move {
            let request = cancel_request(cancel.process, &cancel.secret);
            let _ = tokio::time::timeout(Duration::from_secs(5), forward(address, &request)).await;
        })
    })
}

async fn forward(address: SocketAddr, request: &[u8]) -> std::io::Result<()> {
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    stream.write_all(request).await?;
    stream.read(&mut [0]).await.map(drop)
}

/// The async side, as workers see it.
struct Async {
    runtime: Handle,
    /// Connects and cancels; each has a time limit of its own.
    tasks: TaskTracker,
    opener: Arc<Opener>,
    team: OnceLock<Team>,
    wake: Duration,
    applied: Applied,
    metered: Meters,
    leases: Arc<LeaseBook>,
}

impl Outside for Async {
    fn open(&self, request: OpenRequest) {
        let Some(team) = self.team.get().cloned() else { return };
        let (opener, budget) = (Arc::clone(&self.opener), self.wake);
        let task = async move {
            let OpenRequest { pool, entry, role, proof, replication } = request;
            let settings = replication.map(|kind| ("replication".to_owned(), kind)).into_iter().collect();
            let opened = opener.open(&Request { entry, role, proof, settings, budget }).await;
            team.opened(pool, opened.map(Box::new));
        };
        self.tasks.spawn_on(task, &self.runtime);
    }

    fn cancel(&self, request: CancelRequest) {
        let Some(team) = self.team.get().cloned() else { return };
        let opener = Arc::clone(&self.opener);
        let task = async move {
            let CancelRequest { server, address, encryption, process, secret } = request;
            let cancelled = opener.cancel(&address, encryption, (process, &secret)).await;
            if let Err(error) = cancelled {
                tracing::warn!(%address, ?error, "a cancel request may not have arrived");
            }
            team.cancelled(server);
        };
        self.tasks.spawn_on(task, &self.runtime);
    }

    fn suspect(&self, instance: &Arc<str>, address: &crate::tenancy::Address) {
        self.opener.suspect(instance, address);
    }

    fn random(&self, bytes: &mut [u8]) {
        fill(bytes);
    }

    fn applied(&self, tenant: &Arc<str>, version: u64) {
        (self.applied)(tenant, version);
    }

    fn lease_wanted(&self) {
        self.leases.want();
    }

    fn news(&self, news: crate::store::News) {
        self.leases.news(news);
    }

    fn leases_end(&self, asks: Vec<crate::store::LeaseAsk>) {
        self.leases.last_words(asks);
    }

    fn metered(&self, counted: Vec<Metered>) {
        (self.metered)(counted);
    }
}

struct Looked(RoleLookUp);

impl LookUp for Looked {
    fn look_up<'a>(
        &'a self,
        entry: &'a Arc<Entry>,
        role: &'a str,
    ) -> futures_util::future::BoxFuture<'a, Result<Found, Report<'static>>> {
        Box::pin(async move { self.0.find(entry, role).await.map_err(|error| unasked(&entry.instance, &error)) })
    }
}

fn unasked(instance: &str, error: &OpenError) -> Report<'static> {
    let message = format!("the tenant's database instance \"{instance}\" cannot be asked for the role's password");
    let report = Report::fatal(SqlState::CANNOT_CONNECT_NOW, message).hint("Try again in a moment.");
    match error {
        OpenError::Unreachable { detail } | OpenError::Unproven { detail } => report.detail(detail.clone()),
        OpenError::Refused { .. } => report,
    }
}
