//! The life of one server: brought up, watched, and ended when it is told to; or asleep behind its open address.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use chrono::Utc;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::binaries::Binaries;
use super::cluster::{Cluster, free_port};
use super::cluster_error::ClusterError;
use super::doorway::Doorway;
use super::first_start::first_start;
use super::live::Live;
use super::log_tail::LogTail;
use super::ports;
use super::servers::{LOOK, START_MAX};
use super::start_command;
use super::world::{At, Container, Id};

const OTHER_PORTS_MAX: usize = 5;

/// How a server's task ended; without a reason, as it was asked to.
pub struct Ended {
    pub at: At,
    pub deployment: Id,
    pub starts: u32,
    pub reason: Option<String>,
}

/// What one server needs.
pub struct Job {
    pub container: Container,
    pub live: Arc<Live>,
    pub binaries: Binaries,
    pub starts: Arc<Semaphore>,
    pub accepting: Arc<AtomicBool>,
}

impl Job {
    pub async fn run(self, stop: CancellationToken) -> Ended {
        let served = if self.container.asleep { self.sleep(&stop).await } else { self.serve(&stop).await };
        let reason = served.err().map(|error| in_full(&error));
        let Container { at, deployment, starts, .. } = self.container;
        Ended { at, deployment, starts, reason }
    }

    /// Returns without an error once it was told to stop and has.
    async fn serve(&self, stop: &CancellationToken) -> Result<(), ClusterError> {
        let folder = self.live.keep.volume(&self.container.at.environment, &self.container.volume);
        let mut cluster = Cluster::open(self.binaries.clone(), &folder)?;
        let (deployment, starts) = (&self.container.deployment, self.container.starts);
        let mut log = LogTail::new(&cluster.log_file(), self.live.has_logs(deployment));
        // The container has started; whether its Postgres ever listens is another matter, as on Railway.
        self.live.change(|world| world.container_started(deployment, starts, Utc::now()));
        // Open before its server is: whoever comes meanwhile waits.
        let doorway = if self.container.snapshot.sleeps { Some(self.open_door().await?) } else { None };
        let came_up = tokio::select! {
            () = stop.cancelled() => Ok(0),
            came_up = self.bring_up(&mut cluster, doorway.is_some()) => came_up,
        };
        self.live.logged(deployment, log.read());
        if let (Ok(port), false) = (&came_up, stop.is_cancelled()) {
            self.accepting.store(true, Relaxed);
            info!(service = self.container.service_name, "its Postgres accepts connections");
            match &doorway {
                None => self.watch(&cluster, &mut log, None, stop).await,
                Some(door) => tokio::select! {
                    () = self.watch(&cluster, &mut log, Some(door), stop) => {}
                    () = door.forward(*port) => {}
                },
            }
        }
        self.accepting.store(false, Relaxed);
        let said = cluster.log_tail();
        let stopped = cluster.stop().await;
        self.live.logged(deployment, log.read());
        stopped?;
        came_up?;
        if stop.is_cancelled() { Ok(()) } else { Err(ClusterError::Ended { dir: folder, said }) }
    }

    /// Only its address is up: the first who comes wakes it and is turned away.
    async fn sleep(&self, stop: &CancellationToken) -> Result<(), ClusterError> {
        let door = self.open_door().await?;
        self.accepting.store(true, Relaxed);
        info!(service = self.container.service_name, "it sleeps");
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = door.knock() => {}
        }
        self.live.change(|world| world.wake(&self.container.at, Utc::now()));
        stop.cancelled().await;
        Ok(())
    }

    async fn open_door(&self) -> Result<Doorway, ClusterError> {
        self.wait_for_port().await;
        Doorway::open(self.container.port).await
    }

    /// Until the server is gone or `stop`.
    async fn watch(&self, cluster: &Cluster, log: &mut LogTail, door: Option<&Doorway>, stop: &CancellationToken) {
        while cluster.process().is_some() {
            self.live.logged(&self.container.deployment, log.read());
            if let Some(sent_at) = door.and_then(Doorway::sent_at) {
                self.live.sent(&self.container.at, sent_at);
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(LOOK) => {}
            }
        }
    }

    /// The port its server listens on: the service's own, or behind a doorway any that is free.
    async fn bring_up(&self, cluster: &mut Cluster, behind_door: bool) -> Result<u16, ClusterError> {
        let Ok(_permit) = self.starts.acquire().await else { return Ok(0) };
        let settings = start_command::settings(self.container.snapshot.start_command.as_deref());
        let first = first_start(cluster, &self.container.snapshot.variables, &settings).await?;
        let dir = cluster.dir().to_owned();
        let any_port = || free_port().map_err(ClusterError::io("find a port for", &dir));
        let mut port = if behind_door { any_port()? } else { self.container.port };
        if !behind_door {
            self.wait_for_port().await;
        }
        for _ in 0..OTHER_PORTS_MAX {
            match cluster.start(port, &settings, START_MAX).await {
                Err(ClusterError::PortTaken { .. }) if behind_door => port = any_port()?,
                // Nobody has been told of it yet, so another one does no harm.
                Err(ClusterError::PortTaken { .. }) if first => port = self.other_port(port),
                started => return started.map(|()| port),
            }
        }
        Err(ClusterError::PortTaken { port })
    }

    fn other_port(&self, taken: u16) -> u16 {
        self.live.change(|world| world.change_port(&self.container.at)).unwrap_or(taken)
    }

    /// A server of an earlier run may still be letting go of it.
    async fn wait_for_port(&self) {
        let until = Instant::now() + Duration::from_secs(2);
        while !ports::is_free(self.container.port) && Instant::now() < until {
            sleep(Duration::from_millis(20)).await;
        }
    }
}

fn in_full(error: &ClusterError) -> String {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    format!("{error}{}", cause.unwrap_or_default())
}
