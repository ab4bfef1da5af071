//! A real Postgres behind each deployed database service: keeps the servers that run equal to those that ought to.
//!
//! Level-triggered: it looks at the world, never at what changed. A server belongs to one task; two of one service never
//! run at once, because a new one waits until the old one's task has ended.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use chrono::Utc;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::binaries::Binaries;
use super::cluster::Cluster;
use super::cluster_error::ClusterError;
use super::lifecycle::remove_forgotten;
use super::live::Live;
use super::server_life::{Ended, Job};
use super::work::Works;
use super::world::{At, Container, Id};

/// How long a server may take from its process to its first connection, recovery of a large log included.
pub const START_MAX: Duration = Duration::from_secs(120);
/// Time moves deployments too, so the world is looked at this often even if nobody changed it.
pub(super) const LOOK: Duration = Duration::from_millis(200);
const MEASURE: Duration = Duration::from_secs(15);
/// Making and starting a cluster is CPU and disk; more at once only slow each other down.
const STARTS_AT_ONCE: usize = 4;
/// Files looked at while a volume is measured.
const FILES_MAX: usize = 200_000;

pub struct Servers {
    live: Arc<Live>,
    binaries: Binaries,
    starts: Arc<Semaphore>,
    /// Everything that ought to run does.
    ready: Arc<AtomicBool>,
}

/// A server and the task it belongs to.
struct Running {
    deployment: Id,
    starts: u32,
    asleep: bool,
    accepting: Arc<AtomicBool>,
    stop: CancellationToken,
}

impl Running {
    fn is(&self, container: &Container) -> bool {
        let same = self.deployment == container.deployment && self.starts == container.starts;
        same && self.asleep == container.asleep
    }
}

impl Servers {
    pub fn new(live: Arc<Live>, binaries: Binaries, ready: Arc<AtomicBool>) -> Servers {
        Servers { live, binaries, starts: Arc::new(Semaphore::new(STARTS_AT_ONCE)), ready }
    }

    /// Until `stop`; then ends every server and returns when they are gone.
    pub async fn run(self, stop: CancellationToken) {
        let (mut tasks, mut running) = (JoinSet::new(), BTreeMap::<At, Running>::new());
        let mut works = Works::new(Arc::clone(&self.live), self.binaries.clone());
        let mut measured = Instant::now();
        while !stop.is_cancelled() {
            let wanted = self.live.containers(Utc::now());
            self.adjust(&wanted, &mut running, &mut tasks);
            works.go_on();
            let accepting = |c: &Container| running.get(&c.at).is_some_and(|r| r.is(c) && r.accepting.load(Relaxed));
            self.ready.store(wanted.iter().all(accepting), Relaxed);
            if measured.elapsed() >= MEASURE {
                self.measure(&wanted).await;
                remove_forgotten(&self.live);
                measured = Instant::now();
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.live.changed.notified() => {}
                () = sleep(LOOK) => {}
                Some(ended) = tasks.join_next() => self.ended(ended, &mut running),
            }
        }
        running.values().for_each(|server| server.stop.cancel());
        while tasks.join_next().await.is_some() {}
    }

    fn adjust(&self, wanted: &[Container], running: &mut BTreeMap<At, Running>, tasks: &mut JoinSet<Ended>) {
        for (at, server) in running.iter() {
            if !wanted.iter().any(|container| container.at == *at && server.is(container)) {
                server.stop.cancel();
            }
        }
        for container in wanted {
            if running.contains_key(&container.at) {
                continue;
            }
            let (accepting, stop) = (Arc::new(AtomicBool::new(false)), CancellationToken::new());
            let server = Running {
                deployment: container.deployment.clone(),
                starts: container.starts,
                asleep: container.asleep,
                accepting: Arc::clone(&accepting),
                stop: stop.clone(),
            };
            running.insert(container.at.clone(), server);
            let job = Job {
                container: container.clone(),
                live: Arc::clone(&self.live),
                binaries: self.binaries.clone(),
                starts: Arc::clone(&self.starts),
                accepting,
            };
            tasks.spawn(job.run(stop));
        }
    }

    fn ended(&self, ended: Result<Ended, tokio::task::JoinError>, running: &mut BTreeMap<At, Running>) {
        let ended = match ended {
            Ok(ended) => ended,
            // Only a bug of ours gets here; its place stays taken, so nothing is started twice on one folder.
            Err(error) => return warn!(%error, "the task of a server broke"),
        };
        running.remove(&ended.at);
        if let Some(reason) = ended.reason {
            warn!(%reason, "a database server ended");
            let crash = |world: &mut super::world::World| {
                world.container_exited(&ended.deployment, ended.starts, reason, Utc::now())
            };
            self.live.change(crash);
        }
    }

    /// Reads how much each running server's volume holds.
    async fn measure(&self, wanted: &[Container]) {
        for container in wanted {
            let (environment, volume) = (container.at.environment.clone(), container.volume.clone());
            let folder = self.live.keep.volume(&environment, &volume);
            let Ok(bytes) = tokio::task::spawn_blocking(move || bytes_below(&folder)).await else { continue };
            self.live.change(|world| world.volume_measured(&volume, &environment, bytes));
        }
    }
}

/// Ends servers that a killed run left behind, whichever volume they are on.
pub async fn stop_all(binaries: &Binaries, folders: Vec<PathBuf>) -> Result<(), ClusterError> {
    let mut tasks = JoinSet::new();
    for folder in folders {
        let binaries = binaries.clone();
        tasks.spawn(async move { Cluster::open(binaries, &folder)?.stop().await });
    }
    while let Some(stopped) = tasks.join_next().await {
        stopped.unwrap_or(Ok(()))?;
    }
    Ok(())
}

/// Apparent size of the regular files, up to a bound of files; links are not followed.
pub(super) fn bytes_below(folder: &Path) -> u64 {
    let (mut folders, mut bytes, mut files) = (vec![folder.to_owned()], 0, 0);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            // Files come and go while a server runs.
            let Ok(meta) = entry.metadata() else { continue };
            files += 1;
            if files > FILES_MAX {
                return bytes;
            }
            if meta.is_dir() {
                folders.push(entry.path());
            } else if meta.is_file() {
                bytes += meta.len();
            }
        }
    }
    bytes
}
