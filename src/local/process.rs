//! Our own process, told from a later one that was given the same id.

use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use super::keep::Server;

impl Server {
    /// This process.
    pub fn this() -> Server {
        let pid = std::process::id();
        Server { pid, started: started(pid).unwrap_or_default() }
    }

    /// Whether exactly this process still lives.
    pub fn is_alive(&self) -> bool {
        started(self.pid).is_some_and(|started| started == self.started)
    }

    /// Asks it to end (SIGTERM), or ends it (SIGKILL).
    pub fn end(&self, at_once: bool) {
        let signal = if at_once { Signal::KILL } else { Signal::TERM };
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).filter(|_| self.is_alive());
        // An error means that it ended meanwhile, which is what was asked for.
        let _ = pid.map(|pid| kill_process(pid, signal));
    }
}

/// When the process was started, as the system tells it; `None` when there is none, or only its unreaped remains.
fn started(pid: u32) -> Option<String> {
    if cfg!(target_os = "linux") {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is the program's name and may hold anything; the third is the state, the 22nd the time.
        let (_, rest) = stat.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split(' ').collect();
        return fields.get(19).filter(|_| fields[0] != "Z").map(|ticks| (*ticks).to_owned());
    }
    let answer = Command::new("ps").args(["-o", "lstart=", "-p", &pid.to_string()]).output().ok()?;
    let text = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_of_another_start_is_not_the_recorded_one() {
        let this = Server::this();
        assert!(this.is_alive());
        assert!(!Server { started: "another time".into(), ..this.clone() }.is_alive());
        assert!(!Server { pid: u32::MAX, ..this }.is_alive());
    }
}
