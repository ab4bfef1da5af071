//! Up, down, status and faults of the local Railway on one data folder.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use chrono::Utc;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::binaries::Binaries;
use super::error::Error;
use super::http::{self, FAULTS_PATH, STATUS_PATH};
use super::keep::{Identity, Keep, Server, State};
use super::live::{Live, Status, describe};
use super::servers::{Servers, stop_all};
use super::world::{Plan, Rule, World};
use crate::tenancy::Secret;

const POLL: Duration = Duration::from_millis(50);
/// From the start of the process until every database of the last run accepts connections again.
const READY_MAX: Duration = Duration::from_secs(150);
/// From the request to end until it is obeyed: a server with much to write takes its time.
const DOWN_MAX: Duration = Duration::from_secs(60);
const KILL_MAX: Duration = Duration::from_secs(5);
const CONTROL_MAX: Duration = Duration::from_secs(10);
const LOG_BYTES_MAX: u64 = 8 << 20;

/// What `o7s local up` was asked.
#[derive(Debug, Clone)]
pub struct Up {
    pub data: PathBuf,
    /// The plan to change to; a new workspace without one is on Pro.
    pub plan: Option<Plan>,
    /// O7S_PG_BIN.
    pub postgres: Option<PathBuf>,
    /// Where scripts/install-postgres.sh puts Postgres.
    pub installed: PathBuf,
}

/// What a shell has to know, by name.
pub type Exports = Vec<(&'static str, Secret)>;

/// A local Railway that serves.
pub struct Serving {
    pub exports: Exports,
    /// For people: which Postgres, which folder.
    pub about: String,
    tasks: JoinSet<Result<(), Error>>,
    live: Arc<Live>,
    ready: Arc<AtomicBool>,
    stop: CancellationToken,
    /// Held as long as we serve.
    _lock: std::fs::File,
}

/// `Ok(Err(exports))` when another process serves this folder already.
pub async fn up(asked: &Up) -> Result<Result<Serving, Exports>, Error> {
    let keep = Keep::open(&asked.data)?;
    let Some(lock) = take_lock(&keep).await? else {
        let identity = keep.identity()?;
        return Ok(Err(identity.exports(&keep)?));
    };
    let binaries = Binaries::find(asked.postgres.as_deref(), &asked.installed)?;
    let identity = keep.identity()?;
    let taken = |source| Error::PortTaken { port: identity.port, source };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, identity.port)).await.map_err(taken)?;
    stop_all(&binaries, keep.volumes()).await?;
    let exports = identity.exports(&keep)?;
    let about = format!("{binaries}, data in {}", keep.dir().display());
    let live = Arc::new(Live::load(keep, identity, asked.plan, Utc::now())?);
    remove_forgotten(&live);
    live.keep.record_server(&Server::this())?;
    let (stop, ready) = (CancellationToken::new(), Arc::new(AtomicBool::new(false)));
    let mut tasks = JoinSet::new();
    let servers = Servers::new(Arc::clone(&live), binaries, Arc::clone(&ready));
    let servers_stop = stop.clone();
    tasks.spawn(async move {
        servers.run(servers_stop).await;
        Ok(())
    });
    let serving = http::serve(listener, Arc::clone(&live), Arc::clone(&ready), stop.clone());
    tasks.spawn(async move { serving.await.map_err(Error::System) });
    Ok(Ok(Serving { exports, about, tasks, live, ready, stop, _lock: lock }))
}

/// `None` when somebody serves. One that was just killed, or only looks whether it is served, lets go in a moment.
async fn take_lock(keep: &Keep) -> Result<Option<std::fs::File>, Error> {
    let until = Instant::now() + KILL_MAX;
    loop {
        let lock = keep.lock()?;
        let served = || keep.server().is_some_and(|server| server.is_alive());
        if lock.is_some() || served() || Instant::now() >= until {
            return Ok(lock);
        }
        sleep(POLL).await;
    }
}

impl Serving {
    /// Every database of the last run accepts connections again.
    pub async fn ready(&self) -> Result<(), Error> {
        let until = Instant::now() + READY_MAX;
        while !self.ready.load(std::sync::atomic::Ordering::Relaxed) {
            if Instant::now() >= until {
                return Err(Error::NotReady { waited_s: READY_MAX.as_secs(), log: self.live.keep.log() });
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Serves until `stop`, then returns when everything has ended and is saved.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), Error> {
        let early = tokio::select! {
            () = stop => None,
            // Neither task ends by itself; whatever happened, nothing may stay half up.
            ended = self.tasks.join_next() => ended,
        };
        self.stop.cancel();
        let mut result = early.map_or(Ok(()), flatten);
        while let Some(ended) = self.tasks.join_next().await {
            result = result.and(flatten(ended));
        }
        self.live.save()?;
        info!("stopped");
        result
    }
}

fn flatten(ended: Result<Result<(), Error>, tokio::task::JoinError>) -> Result<(), Error> {
    ended.unwrap_or_else(|error| Err(Error::System(std::io::Error::other(error))))
}

/// Folders of volumes and backups that are gone for good, but for those still being made.
pub(super) fn remove_forgotten(live: &Live) {
    // Looked for before the world is asked: what is made meanwhile is not among them.
    let there = [live.keep.volumes(), live.keep.backups()].concat();
    let volumes: BTreeSet<PathBuf> = live.volumes().iter().map(|(e, v)| live.keep.volume(e, v)).collect();
    let backups = live.backups();
    let known = |folder: &PathBuf| {
        volumes.contains(&folder.with_extension("")) || backups.contains(&folder.with_extension(""))
    };
    for folder in there.iter().filter(|folder| !known(folder)) {
        if let Err(error) = std::fs::remove_dir_all(folder) {
            warn!(%error, folder = %folder.display(), "a volume or backup that is gone cannot be removed");
        }
    }
}

/// Starts `command` (this program, serving in the foreground) as a process of its own and waits until it is ready.
/// With one there already, only tells what a shell has to know.
pub async fn up_detached(data: &Path, mut command: Command) -> Result<Exports, Error> {
    let keep = Keep::open(data)?;
    let identity = keep.identity()?;
    let mut child: Option<Child> = None;
    let until = Instant::now() + READY_MAX;
    while Instant::now() < until {
        if fetch_status(&keep, &identity).await.is_ok_and(|status| status.ready) {
            return identity.exports(&keep);
        }
        match &mut child {
            Some(running) => match running.try_wait()? {
                Some(ended) if !ended.success() => {
                    return Err(Error::DiedEarly { said: last_words(&keep), log: keep.log() });
                }
                // It found another one serving, which may be about to end.
                Some(_) => child = None,
                None => {}
            },
            // The lock is let go of at once, before the child looks for it. One that is held by a process that has
            // just been killed comes free a moment later.
            None if keep.lock()?.is_some() => {
                command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(open_log(&keep)?);
                child = Some(command.spawn()?);
            }
            None => {}
        }
        sleep(POLL).await;
    }
    Err(Error::NotReady { waited_s: READY_MAX.as_secs(), log: keep.log() })
}

fn open_log(keep: &Keep) -> Result<std::fs::File, Error> {
    let path = keep.log();
    let file = |doing, source| Error::File { doing, path: path.clone(), source };
    if std::fs::metadata(&path).is_ok_and(|log| log.len() > LOG_BYTES_MAX) {
        std::fs::rename(&path, path.with_extension("log.1")).map_err(|error| file("set aside", error))?;
    }
    let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
    opened.map_err(|error| file("open", error))
}

fn last_words(keep: &Keep) -> String {
    let log = std::fs::read(keep.log()).unwrap_or_default();
    let text = String::from_utf8_lossy(&log);
    let error = text.lines().rev().find_map(|line| line.strip_prefix("error[")?.split_once("]: "));
    error.map(|(_, said)| said).or(text.lines().last()).unwrap_or("it said nothing").to_owned()
}

/// Ends the server and its databases; returns when they are gone. True when there was something to end.
pub async fn down(asked: &Up) -> Result<bool, Error> {
    let Some(keep) = Keep::existing(&asked.data) else { return Ok(false) };
    let mut ended = false;
    if keep.lock()?.is_none() {
        ended = true;
        end_server(&keep).await?;
    }
    // A server that was killed has left its databases behind.
    let left = keep.volumes().into_iter().filter(|folder| folder.join("pgdata/postmaster.pid").exists());
    let left: Vec<PathBuf> = left.collect();
    if !left.is_empty() {
        let binaries = Binaries::find(asked.postgres.as_deref(), &asked.installed)?;
        stop_all(&binaries, left).await?;
    }
    Ok(ended)
}

async fn end_server(keep: &Keep) -> Result<(), Error> {
    let gone = async |patience: Duration| -> Result<bool, Error> {
        let until = Instant::now() + patience;
        while keep.lock()?.is_none() {
            if Instant::now() >= until {
                return Ok(false);
            }
            sleep(POLL).await;
        }
        Ok(true)
    };
    // Between taking the lock and recording itself a server is a moment old.
    let until = Instant::now() + KILL_MAX;
    while !keep.server().is_some_and(|server| server.is_alive()) && Instant::now() < until {
        if gone(Duration::ZERO).await? {
            return Ok(());
        }
        sleep(POLL).await;
    }
    let Some(server) = keep.server() else { return Err(Error::NotRunning { data: keep.dir().to_owned() }) };
    server.end(false);
    if gone(DOWN_MAX).await? {
        return Ok(());
    }
    server.end(true);
    if gone(KILL_MAX).await? {
        Ok(())
    } else {
        Err(Error::DoesNotEnd { pid: server.pid, data: keep.dir().to_owned() })
    }
}

/// Of the one that runs, or of what was saved when none does.
pub async fn status(data: &Path) -> Result<Status, Error> {
    let not_running = || Error::NotRunning { data: data.to_owned() };
    let keep = Keep::existing(data).ok_or_else(not_running)?;
    let identity = keep.stored_identity()?.ok_or_else(not_running)?;
    if keep.lock()?.is_none() {
        return fetch_status(&keep, &identity).await;
    }
    let State { requests, world, .. } = keep.load()?.ok_or_else(not_running)?;
    let world: World = world;
    Ok(describe(&keep, &identity, &world, requests))
}

async fn fetch_status(keep: &Keep, identity: &Identity) -> Result<Status, Error> {
    let silent = |source| Error::Silent { data: keep.dir().to_owned(), source };
    let request = http_client()?.get(control_url(identity, STATUS_PATH)).bearer_auth(identity.token.expose());
    let answer = request.send().await.and_then(reqwest::Response::error_for_status).map_err(silent)?;
    answer.json().await.map_err(silent)
}

/// What to do about faults.
#[derive(Debug, Clone)]
pub enum FaultOrder {
    Add(Rule),
    List,
    Clear,
}

/// The faults that are open afterwards.
pub async fn fault(data: &Path, order: FaultOrder) -> Result<Vec<Rule>, Error> {
    let not_running = || Error::NotRunning { data: data.to_owned() };
    let keep = Keep::existing(data).ok_or_else(not_running)?;
    let identity = keep.stored_identity()?.ok_or_else(not_running)?;
    if keep.lock()?.is_some() {
        return Err(not_running());
    }
    let silent = |source| Error::Silent { data: data.to_owned(), source };
    let (client, url) = (http_client()?, control_url(&identity, FAULTS_PATH));
    let request = match order {
        FaultOrder::Add(rule) => Some(client.post(&url).json(&rule)),
        FaultOrder::Clear => Some(client.delete(&url)),
        FaultOrder::List => None,
    };
    if let Some(request) = request {
        let answer = request.bearer_auth(identity.token.expose()).send().await.map_err(silent)?;
        if !answer.status().is_success() {
            return Err(Error::Refused(answer.text().await.map_err(silent)?));
        }
    }
    Ok(fetch_status(&keep, &identity).await?.faults)
}

fn control_url(identity: &Identity, path: &str) -> String {
    format!("http://127.0.0.1:{}{path}", identity.port)
}

fn http_client() -> Result<reqwest::Client, Error> {
    // A proxy of the environment has no business between us and ourselves.
    let client = reqwest::Client::builder().no_proxy().timeout(CONTROL_MAX).build();
    client.map_err(|error| Error::System(std::io::Error::other(error)))
}

/// Leaves the terminal's session, so that closing the terminal does not end us.
pub fn leave_session() {
    // An error means that this process leads a group already, and nothing is lost.
    let _ = rustix::process::setsid();
}
