//! A server stopped in its tracks for a moment, so that its files can be copied as a cut of the power would leave them.
//!
//! All its processes are halted, not ended: what they wrote stands in the files, in the order they wrote it, and
//! Postgres recovers from such a copy as from a crash.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

use super::cluster::Cluster;
use super::cluster_error::ClusterError;

/// Halting takes as long as a process needs to leave the kernel.
const HALT_MAX: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(5);

/// Goes on when dropped.
#[derive(Debug)]
pub struct Frozen {
    /// The first is the server itself.
    pids: Vec<u32>,
}

struct Process {
    pid: u32,
    parent: u32,
    halted: bool,
}

impl Cluster {
    /// `None` when no server runs on this folder.
    pub(super) async fn freeze(&self) -> Result<Option<Frozen>, ClusterError> {
        let Some(server) = self.process() else { return Ok(None) };
        // The server first: then it can start nobody new, and the list of its children is whole.
        let mut frozen = Frozen { pids: vec![server.pid] };
        signal(server.pid, Signal::STOP);
        frozen.wait_halted().await?;
        let children = processes().into_iter().filter(|process| process.parent == server.pid);
        frozen.pids.extend(children.map(|process| process.pid));
        for pid in &frozen.pids[1..] {
            signal(*pid, Signal::STOP);
        }
        frozen.wait_halted().await?;
        Ok(Some(frozen))
    }
}

impl Frozen {
    async fn wait_halted(&self) -> Result<(), ClusterError> {
        let until = Instant::now() + HALT_MAX;
        while !self.is_halted() {
            if Instant::now() >= until {
                return Err(ClusterError::Failed { program: "the halt of a server", said: "it went on".into() });
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Nobody has let it go on meanwhile. A process that has ended writes nothing more either.
    pub(super) fn is_halted(&self) -> bool {
        processes().iter().filter(|process| self.pids.contains(&process.pid)).all(|process| process.halted)
    }

    /// The server itself is still there.
    pub(super) fn is_alive(&self) -> bool {
        processes().iter().any(|process| process.pid == self.pids[0])
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for pid in self.pids.iter().rev() {
            signal(*pid, Signal::CONT);
        }
    }
}

/// Lets a server and its children go on, whoever halted them: a run of ours that was killed cannot.
pub(super) fn thaw(server: u32) {
    for process in processes().iter().filter(|process| process.halted) {
        if process.pid == server || process.parent == server {
            signal(process.pid, Signal::CONT);
        }
    }
}

fn signal(pid: u32, signal: Signal) {
    // An error means that it has ended.
    let _ = i32::try_from(pid).ok().and_then(Pid::from_raw).map(|pid| kill_process(pid, signal));
}

/// Every process of this machine.
fn processes() -> Vec<Process> {
    if cfg!(target_os = "linux") {
        let folders = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        return folders.filter_map(|folder| from_stat(&folder.path())).collect();
    }
    let listed = std::process::Command::new("ps").args(["-axo", "pid=,ppid=,state="]).output();
    let text = listed.map(|listed| String::from_utf8_lossy(&listed.stdout).into_owned()).unwrap_or_default();
    text.lines().filter_map(from_ps).collect()
}

fn from_stat(folder: &Path) -> Option<Process> {
    let pid = folder.file_name()?.to_str()?.parse().ok()?;
    let stat: PathBuf = folder.join("stat");
    let text = std::fs::read_to_string(stat).ok()?;
    // The second field is the program's name and may hold anything; the state and the parent follow it.
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let halted = matches!(fields.next()?, "T" | "t" | "Z" | "X");
    Some(Process { pid, parent: fields.next()?.parse().ok()?, halted })
}

fn from_ps(line: &str) -> Option<Process> {
    let mut fields = line.split_whitespace();
    let (pid, parent) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(Process { pid, parent, halted: fields.next()?.starts_with(['T', 'Z']) })
}
