//! `o7s router`: serves clients in the foreground until it is told to stop.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use clap::{Args, Subcommand};
use tokio::net::TcpListener;
use tokio::sync::{OnceCell, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::report::Failure;
use super::router_status;
use super::signals::Signals;
use crate::router::follow::{self, FollowConfig, Reach, Standing};
use crate::router::http::{self, Condition, HttpState, Reports, UsageReader, serve_http};
use crate::router::identify::Rules;
use crate::router::leasing::{LeaseBook, Leasing};
use crate::router::login::Tokens;
use crate::router::look_up::derived_administrators;
use crate::router::metering::{Collector, Delivery, Journal, Metering, MeteringConfig};
use crate::router::requests::Requests;
use crate::router::serve::{self, Config, Running, Sources, start};
use crate::router::table::Table;
use crate::router::tls::PemFiles;
use crate::router::{Error, routes_file, worker};
use crate::store::{Escrow, Store};
use crate::tenancy::{Millis, RouterName, Secret};

/// Of one exchange with the control database.
const LEASE_DEADLINE: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "\
Examples:
  o7s router                                        follow the control database (O7S_DATABASE_URL, O7S_MASTER_KEY)
  o7s router --listen 127.0.0.1:6432 --public       from outside Railway, through the instances' TCP proxies
  o7s router --tls-cert db.crt --tls-key db.key     with encryption
  o7s router --routes routes.yaml                   serve the routes of a file; rewriting it applies

A file of routes:
  routes:
    acme: { endpoint: '127.0.0.1:5432', database: acme, roles: { acme: { password: secret } } }
    '*':  { endpoint: '127.0.0.1:5432', roles: { '*': { auth: trust } } }

SIGTERM and Ctrl-C stop accepting, tell idle clients to go, and wait for the others up to --drain.")]
pub struct RouterArgs {
    #[command(subcommand)]
    pub command: Option<RouterCommand>,
    /// Where clients connect
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:5432")]
    pub listen: SocketAddr,
    /// Where /healthz, /readyz, /metrics, /v1/status, /v1/usage and /v1/authorize are served; without it nowhere
    #[arg(long, value_name = "ADDR")]
    pub http: Option<SocketAddr>,
    /// Serve from this file, without a control database
    #[arg(long, value_name = "FILE", conflicts_with_all = ["name", "public", "cache", "peer_address"])]
    pub routes: Option<PathBuf>,
    /// Obey this Router manifest; without it the only one, or the first by name
    #[arg(long, value_name = "ROUTER", value_parser = |text: &str| RouterName::parse(text).map_err(|error| error.to_string()))]
    pub name: Option<RouterName>,
    /// Reach instances by their TCP proxies; without it by their addresses inside the Railway environment
    #[arg(long)]
    pub public: bool,
    /// Keep the routes in this file, for a start while the control database is away; usage is kept beside it, so that a
    /// router that is killed loses none that it had sealed
    #[arg(long, value_name = "FILE")]
    pub cache: Option<PathBuf>,
    /// Where other replicas reach this one with the cancel requests of its clients
    #[arg(long, value_name = "IP:PORT")]
    pub peer_address: Option<SocketAddr>,
    /// Certificate chain in PEM; several are told apart by the name a client asks for
    #[arg(long = "tls-cert", value_name = "FILE", requires = "keys")]
    pub certificates: Vec<PathBuf>,
    /// Key in PEM, one for each --tls-cert
    #[arg(long = "tls-key", value_name = "FILE", id = "keys", requires = "certificates")]
    pub keys: Vec<PathBuf>,
    /// Threads that serve clients; the tenants of an instance share one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=16))]
    pub workers: Option<u8>,
    /// How long clients may take to end what they do when the router stops
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time)]
    pub drain: Millis,
    /// How often usage is sealed and sent to the control database: a router that is killed loses at most this much
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time)]
    pub usage_every: Millis,
    /// How long a client waits for an instance that sleeps or starts
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = time)]
    pub wake: Millis,
    /// How long a query waits for a server connection
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = time)]
    pub query_wait: Millis,
    /// When an unused server connection is closed, so that an instance may sleep
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = time)]
    pub server_idle: Millis,
    /// Server connections to one instance, all its tenants together
    #[arg(long, value_name = "N", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub instance_connections: u32,
}

fn time(text: &str) -> Result<Millis, String> {
    Millis::parse(text).map_err(|error| error.to_string())
}

#[derive(Debug, Subcommand)]
pub enum RouterCommand {
    /// Show the running routers, or one of them with its tenants
    Status(router_status::StatusArgs),
}

pub async fn run(args: RouterArgs) -> Result<u8, Failure> {
    if let Some(RouterCommand::Status(args)) = &args.command {
        return router_status::run(args).await;
    }
    let signals = Signals::listen()?;
    match &args.routes {
        Some(path) => by_file(&args, path, &signals).await,
        None => by_database(&args, &signals).await,
    }
}

/// Serves what the control database says.
async fn by_database(args: &RouterArgs, signals: &Signals) -> Result<u8, Failure> {
    let parts = super::config::parts();
    let Some(database) = parts.database_url else {
        let text = "nothing to serve: set O7S_DATABASE_URL to the control database, or give a file with --routes";
        return Err(Failure::Usage(text.to_owned()));
    };
    let keys = parts.keys?;
    let escrow = Escrow::new(&database, LEASE_DEADLINE, Uuid::new_v4())?;
    let book = Arc::new(LeaseBook::default());
    let collector = Arc::<Collector>::default();
    let requests = Arc::new(Requests::new(Arc::clone(&book), collector.taker()));
    let mut config = config(args);
    let follow = FollowConfig {
        database: database.clone(),
        router: args.name.clone(),
        reach: Reach { private: !args.public, encryption: None },
        cache: args.cache.clone(),
        address: args.peer_address,
        workers: config.workers,
        environment: Box::new(super::config::secret),
    };
    let metering = MeteringConfig {
        database: follow.database.clone(),
        router: args.name.as_ref().map_or("router", RouterName::as_str).to_owned(),
        every: Duration::from_millis(args.usage_every.0.max(100)),
        journal: args.cache.as_deref().map(Journal::beside),
    };
    let begun = follow::begin(follow, keys.clone()).await.map_err(|error| match error {
        follow::Error::Store(error) => Failure::Store(error),
        follow::Error::OtherFleet { have, want } => Failure::OtherFleet { have, want },
    });
    let (followed, following) = begun?;
    config.timing.replica = followed.replica;
    let sources = Sources {
        table: followed.table.clone(),
        rules: followed.rules.clone(),
        keys: Some(keys.clone()),
        tokens: Some(followed.tokens()),
        administrators: derived_administrators(keys),
        applied: followed.applied(),
        metered: collector.taker(),
        leases: Arc::clone(&book),
        peer: followed.peer(),
    };
    let (table, rules, replica) = (sources.table.clone(), sources.rules.clone(), followed.replica);
    let running = start(&config, sources).map_err(Error::from)?;
    let (team, stop) = (running.team().clone(), CancellationToken::new());
    let mut follower = JoinSet::new();
    let (told, condition) = watch::channel(Condition::default());
    let draining = told.clone();
    follower.spawn(stale(followed.standing.clone(), told, stop.clone()));
    let metering = Metering::new(metering, collector);
    if let Some(address) = args.http {
        let usage = (usage_reader(database), metering.delivery());
        let own = (replica, Some(Arc::clone(&requests)), Some(usage));
        let state = http_state(&running, (table, rules), Some(followed.tokens()), condition, own);
        follower.spawn(serve_http(listen_http(address).await?, state, stop.clone()));
    }
    follower.spawn(metering.run(team.clone(), stop.clone()));
    let leasing = Leasing { escrow, team: team.clone(), book, requests, rules: followed.rules.clone() };
    follower.spawn(leasing.run(stop.clone()));
    let until = stop.clone();
    follower.spawn(following.run(move |tenant, entry| team.route(tenant, entry), until));
    serve_until(running, signals, &draining).await;
    // Last: while clients drain, the number of this replica and what it acknowledges still count.
    stop.cancel();
    while follower.join_next().await.is_some() {}
    Ok(0)
}

async fn serve_until(running: Running, signals: &Signals, condition: &watch::Sender<Condition>) {
    super::progress::say(&format!("serving on {}", running.address));
    signals.token.cancelled().await;
    condition.send_modify(|condition| condition.draining = true);
    running.stop().await;
}

/// Carries over since when the table may be out of date.
async fn stale(mut standing: watch::Receiver<Standing>, told: watch::Sender<Condition>, stop: CancellationToken) {
    loop {
        let since = {
            let standing = standing.borrow_and_update();
            standing.trouble.as_ref().and(standing.seen)
        };
        told.send_modify(|condition| condition.stale_since = since);
        if !matches!(stop.run_until_cancelled(standing.changed()).await, Some(Ok(()))) {
            return;
        }
    }
}

async fn listen_http(address: SocketAddr) -> Result<TcpListener, Failure> {
    let failed = |source| Error::from(serve::Error::Listen { address, source });
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    super::progress::say(&format!("answering HTTP on {}", listener.local_addr().map_err(failed)?));
    Ok(listener)
}

/// Where usage is read, and how it gets there.
type OwnUsage = (UsageReader, watch::Receiver<Delivery>);

fn http_state(
    running: &Running,
    (table, rules): (watch::Receiver<Arc<Table>>, watch::Receiver<Arc<Rules>>),
    tokens: Option<Arc<dyn Tokens>>,
    condition: watch::Receiver<Condition>,
    (replica, requests, usage): (u8, Option<Arc<Requests>>, Option<OwnUsage>),
) -> Arc<HttpState> {
    let team = running.team().clone();
    let reports: Reports = Box::new(move || {
        let team = team.clone();
        Box::pin(async move { http::reports(&team).await })
    });
    let (usage, delivery) = usage.unzip();
    Arc::new(HttpState { table, rules, tokens, requests, condition, reports, usage, delivery, replica })
}

/// Over a connection of its own, made when somebody asks for the first time.
fn usage_reader(database: Secret) -> UsageReader {
    let store = Arc::new((OnceCell::new(), database));
    Box::new(move |filter| {
        let store = Arc::clone(&store);
        Box::pin(async move {
            let (cell, database) = &*store;
            let read = async {
                let store = cell.get_or_try_init(|| Store::connect(database, Duration::from_secs(5))).await?;
                store.usage(&filter).await
            };
            read.await.map_err(|error| tracing::warn!(%error, "usage cannot be read for /v1/usage"))
        })
    })
}

/// Serves what a file says.
async fn by_file(args: &RouterArgs, path: &Path, signals: &Signals) -> Result<u8, Failure> {
    let first = routes_file::read(path, &routes_file::Routes::default()).map_err(Error::from)?;
    let known = Arc::new(RwLock::new(first.administrators.clone()));
    let (table, tables) = watch::channel(Arc::new(first.table.clone()));
    let (rule, rules) = watch::channel(Arc::new(first.rules.clone()));
    let sources = Sources {
        table: tables,
        rules,
        keys: None,
        tokens: None,
        administrators: {
            let known = Arc::clone(&known);
            Arc::new(move |entry| {
                let known = known.read().unwrap_or_else(PoisonError::into_inner);
                known.get(&entry.instance).cloned().into_iter().collect()
            })
        },
        applied: Box::new(|_, _| {}),
        metered: Box::new(|_| {}),
        leases: Arc::default(),
        peer: Arc::new(|_| None),
    };
    let (known_table, known_rules) = (sources.table.clone(), sources.rules.clone());
    let running = start(&config(args), sources).map_err(Error::from)?;
    let team = running.team().clone();
    let mut follower = JoinSet::new();
    let (told, condition) = watch::channel(Condition::default());
    if let Some(address) = args.http {
        let state = http_state(&running, (known_table, known_rules), None, condition, (0, None, None));
        follower.spawn(serve_http(listen_http(address).await?, state, signals.token.clone()));
    }
    follower.spawn(routes_file::follow(
        path.to_owned(),
        first,
        move |routes| {
            *known.write().unwrap_or_else(PoisonError::into_inner) = routes.administrators.clone();
            let new = Arc::new(routes.table.clone());
            table.send_replace(Arc::clone(&new));
            rule.send_replace(Arc::new(routes.rules.clone()));
            team.table(&new);
        },
        signals.token.clone(),
    ));
    serve_until(running, signals, &told).await;
    while follower.join_next().await.is_some() {}
    Ok(0)
}

fn config(args: &RouterArgs) -> Config {
    let pairs = args.certificates.iter().zip(&args.keys);
    let time = |time: Millis| Duration::from_millis(time.0);
    Config {
        listen: args.listen,
        certificates: pairs
            .map(|(certificate, key)| PemFiles { certificate: certificate.clone(), key: key.clone() })
            .collect(),
        workers: args
            .workers
            .map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from)
            .min(worker::WORKERS_MAX),
        timing: worker::Timing {
            query_wait: time(args.query_wait),
            server_idle: time(args.server_idle),
            instance_cap: args.instance_connections,
            ..worker::Timing::default()
        },
        wake: time(args.wake),
        drain: time(args.drain),
    }
}
