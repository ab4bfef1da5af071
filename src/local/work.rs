//! Work of the world that needs this machine: copies of volumes for their backups, and back.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::warn;

use super::binaries::Binaries;
use super::cluster::Cluster;
use super::cluster_error::ClusterError;
use super::live::Live;
use super::servers::bytes_below;
use super::world::{Id, Work};

/// Copies are disk; more at once only slow each other down.
const AT_ONCE: usize = 2;
const COPY_MAX: Duration = Duration::from_secs(600);
/// A server that starts or ends during a copy spoils it.
const TRIES: usize = 5;

/// What is being done now.
pub struct Works {
    live: Arc<Live>,
    binaries: Binaries,
    open: BTreeSet<Id>,
    tasks: JoinSet<(Id, Result<u64, ClusterError>)>,
}

impl Works {
    pub fn new(live: Arc<Live>, binaries: Binaries) -> Works {
        Works { live, binaries, open: BTreeSet::new(), tasks: JoinSet::new() }
    }

    /// Begins what is asked for, and records what has ended. Work cut off by our end begins anew with the next run.
    pub fn go_on(&mut self) {
        while let Some(ended) = self.tasks.try_join_next() {
            let Ok((id, outcome)) = ended else { continue };
            let outcome = outcome.map_err(|error| {
                warn!(%error, "work for a volume failed");
                error.to_string()
            });
            self.live.change(|world| world.work_done(&id, outcome, Utc::now()));
            self.open.remove(&id);
        }
        for (id, work) in self.live.work() {
            if self.open.len() >= AT_ONCE {
                return;
            }
            if self.open.insert(id.clone()) {
                let (live, binaries) = (Arc::clone(&self.live), self.binaries.clone());
                self.tasks.spawn(async move { (id, carry_out(&live, binaries, work).await) });
            }
        }
    }
}

/// The bytes that were copied.
async fn carry_out(live: &Live, binaries: Binaries, work: Work) -> Result<u64, ClusterError> {
    let copied = match work {
        Work::TakeBackup { backup, place: (environment, volume) } => {
            let folder = live.keep.volume(&environment, &volume);
            let copy = live.keep.backup(&backup);
            take(&Cluster::open(binaries, &folder)?, &folder, &copy).await?;
            copy
        }
        Work::RestoreBackup { backup, from: (environment, _), volume } => {
            let target = live.keep.volume(&environment, &volume);
            copy(&live.keep.backup(&backup), &target).await?;
            target
        }
    };
    let bytes = tokio::task::spawn_blocking(move || bytes_below(&copied)).await;
    bytes.map_err(|error| ClusterError::Failed { program: "the measuring of a copy", said: error.to_string() })
}

/// With a server on the folder, as it is in one moment of its life.
async fn take(cluster: &Cluster, folder: &Path, target: &Path) -> Result<(), ClusterError> {
    for _ in 0..TRIES {
        let frozen = cluster.freeze().await?;
        let halted = || frozen.as_ref().is_none_or(|frozen| frozen.is_alive() && frozen.is_halted());
        let copied = copy(folder, target).await;
        let nobody_came = frozen.is_some() || cluster.process().is_none();
        if halted() && nobody_came {
            copied?;
            return Ok(());
        }
    }
    Err(ClusterError::Failed { program: "the backup", said: "its server kept starting or ending meanwhile".into() })
}

/// Whole or not at all: an earlier half of it is removed first.
async fn copy(from: &Path, to: &Path) -> Result<(), ClusterError> {
    let half: PathBuf = to.with_extension("new");
    for folder in [&half, to] {
        if folder.exists() {
            std::fs::remove_dir_all(folder).map_err(ClusterError::io("remove", folder))?;
        }
    }
    if let Some(parent) = to.parent() {
        std::fs::create_dir_all(parent).map_err(ClusterError::io("make", parent))?;
    }
    let mut cp = Command::new("cp");
    cp.arg("-pRP").arg(from).arg(&half).stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    let failed = |said: String| ClusterError::Failed { program: "cp", said };
    let answer = timeout(COPY_MAX, cp.output()).await.map_err(|_| failed(format!("no end after {COPY_MAX:?}")))?;
    let answer = answer.map_err(ClusterError::io("run", Path::new("cp")))?;
    if !answer.status.success() {
        return Err(failed(String::from_utf8_lossy(&answer.stderr).trim().to_owned()));
    }
    // The copy's server has ended with the moment it was taken in.
    for left in ["pgdata/postmaster.pid", "postgres.log"] {
        let path = half.join(left);
        if path.exists() {
            std::fs::remove_file(&path).map_err(ClusterError::io("remove", &path))?;
        }
    }
    std::fs::rename(&half, to).map_err(ClusterError::io("make", to))
}
