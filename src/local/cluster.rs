//! One Postgres server on this machine: made, started, found again after a crash of ours, and stopped.
//!
//! A server outlives the process that started it, on purpose: it is found by Postgres' own `postmaster.pid` and by its
//! command line, which names its folder, so a process id that was given to somebody else is never signalled.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::binaries::Binaries;
use super::cluster_error::ClusterError;
use super::freeze::thaw;
use super::run_as::{RunAs, check_enterable};
use crate::tenancy::Secret;

const INIT_MAX: Duration = Duration::from_secs(60);
const STOP_FAST: Duration = Duration::from_secs(10);
const STOP_IMMEDIATE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);
/// The beginning of the name of a data folder that is not whole yet.
const HALF_MADE: &str = "pgdata.new";
/// A log past this size is set aside when the server starts next; one older log is kept.
const LOG_BYTES_MAX: u64 = 8 << 20;

/// A data folder (`<dir>/pgdata`), the log beside it, and the server that runs on it, if one does.
#[derive(Debug)]
pub struct Cluster {
    binaries: Binaries,
    dir: PathBuf,
    run_as: Option<RunAs>,
    /// Kept only so that the ended process is reaped.
    child: Option<Child>,
}

/// What `postmaster.pid` says of a server that is alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerProcess {
    pub pid: u32,
    pub port: u16,
    /// It accepts connections.
    pub ready: bool,
}

/// A port that was free a moment ago; somebody may take it before it is used.
pub fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

impl Cluster {
    /// Makes the folder where it is missing. Starts nothing. As root, the folder is given to an unprivileged user.
    pub fn open(binaries: Binaries, dir: &Path) -> Result<Cluster, ClusterError> {
        fs::create_dir_all(dir).map_err(ClusterError::io("make", dir))?;
        let dir = dir.canonicalize().map_err(ClusterError::io("open", dir))?;
        let run_as = RunAs::when_root()?;
        if let Some(user) = &run_as {
            check_enterable(&dir, user)?;
            user.give(&dir)?;
        }
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).map_err(ClusterError::io("close", &dir))?;
        Ok(Cluster { binaries, dir, run_as, child: None })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("pgdata")
    }

    pub fn log_file(&self) -> PathBuf {
        self.dir.join("postgres.log")
    }

    pub fn is_initialised(&self) -> bool {
        self.data_dir().join("PG_VERSION").is_file()
    }

    /// Makes the data folder with superuser `postgres`; see [`Cluster::init_as`].
    pub async fn init(&self, password: &Secret) -> Result<(), ClusterError> {
        self.init_as("postgres", password).await
    }

    /// Makes the data folder with `user` as its superuser; does nothing where one is. Killed half-way it leaves a
    /// folder that the next call removes.
    pub async fn init_as(&self, user: &str, password: &Secret) -> Result<(), ClusterError> {
        if self.is_initialised() {
            return Ok(());
        }
        self.remove_half_made();
        // A name of its own: the helpers of an `initdb` that was just killed may still be writing to theirs.
        let half_made = self.dir.join(format!("{HALF_MADE}{}", uuid::Uuid::new_v4().simple()));
        let password_file = self.dir.join("initdb.password");
        remove_if_there(&password_file, |path| fs::remove_file(path))?;
        self.write_private(&password_file, password)?;
        let made = self.run_initdb(user, &half_made, &password_file).await;
        remove_if_there(&password_file, |path| fs::remove_file(path))?;
        made?;
        let data_dir = self.data_dir();
        fs::rename(&half_made, &data_dir).map_err(ClusterError::io("make", &data_dir))
    }

    /// Starts the server on 127.0.0.1 and waits until it accepts connections, at most `deadline`. A server that an
    /// earlier process of ours left on this folder is stopped first, because it may run with other settings.
    pub async fn start(
        &mut self,
        port: u16,
        settings: &[(String, String)],
        deadline: Duration,
    ) -> Result<(), ClusterError> {
        self.stop().await?;
        let until = Instant::now() + deadline;
        loop {
            match self.start_once(port, settings, deadline).await {
                // The workers of a killed server outlive it by some milliseconds, and hold its memory.
                Err(ClusterError::Ended { said, .. }) if said.contains("shared memory") && Instant::now() < until => {
                    sleep(POLL).await;
                }
                started => return started,
            }
        }
    }

    /// Ends the server on this folder, whoever started it: fast, and if that takes too long, at once. Does nothing
    /// where none runs.
    pub async fn stop(&mut self) -> Result<(), ClusterError> {
        // One of ours that has just been started has written no file yet.
        let Some(pid) = self.process().map(|server| server.pid).or_else(|| self.child_pid()) else { return Ok(()) };
        // One that a killed run of ours has halted hears nothing.
        thaw(pid);
        // A server takes its file away some milliseconds before it ends, so the process itself is waited for.
        let data_dir = self.data_dir();
        let lives = || runs_on(pid, &data_dir) || is_ending(pid);
        for (signal, patience) in
            [(Signal::INT, STOP_FAST), (Signal::QUIT, STOP_IMMEDIATE), (Signal::KILL, STOP_IMMEDIATE)]
        {
            if !lives() {
                break;
            }
            // An error means that it ended meanwhile, which is what was asked for.
            let _ = pid_of(pid).map(|pid| kill_process(pid, signal));
            let until = Instant::now() + patience;
            while lives() && Instant::now() < until {
                self.reap();
                sleep(POLL).await;
            }
        }
        self.reap();
        if lives() {
            return Err(ClusterError::DoesNotStop { dir: self.dir.clone(), pid });
        }
        Ok(())
    }

    /// The server that runs on this folder now, whoever started it.
    pub fn process(&self) -> Option<ServerProcess> {
        let process = parse_pid_file(&fs::read_to_string(self.data_dir().join("postmaster.pid")).ok()?)?;
        runs_on(process.pid, &self.data_dir()).then_some(process)
    }

    /// The end of the server's log, for people.
    pub fn log_tail(&self) -> String {
        self.log_since(0)
    }

    async fn start_once(
        &mut self,
        port: u16,
        settings: &[(String, String)],
        deadline: Duration,
    ) -> Result<(), ClusterError> {
        let log = self.open_log()?;
        let log_start = log.metadata().map_err(ClusterError::io("read", &self.log_file()))?.len();
        let mut server = self.command("postgres");
        server.arg("-D").arg(self.data_dir());
        server.args(["-c", "listen_addresses=127.0.0.1", "-c", &format!("port={port}")]);
        // The path of a socket is limited to 107 bytes, and nobody needs one.
        server.args(["-c", "unix_socket_directories="]);
        server.args(settings.iter().flat_map(|(name, value)| ["-c".to_owned(), format!("{name}={value}")]));
        // Ctrl-C on the terminal must not reach the server before its owner has decided.
        server.process_group(0).stdout(Stdio::null()).stderr(log);
        self.child = Some(server.spawn().map_err(ClusterError::io("run", &self.binaries.program("postgres")))?);
        self.wait_ready(port, log_start, deadline).await
    }

    async fn wait_ready(&mut self, port: u16, log_start: u64, deadline: Duration) -> Result<(), ClusterError> {
        let until = Instant::now() + deadline;
        let pid = self.child.as_ref().and_then(Child::id);
        loop {
            if self.reap() {
                let said = self.log_since(log_start);
                let taken = said.contains("could not bind");
                let dir = self.dir.clone();
                return Err(if taken { ClusterError::PortTaken { port } } else { ClusterError::Ended { dir, said } });
            }
            // The file of an earlier server may still be there, so the process must be the one just started.
            if self.process().is_some_and(|process| Some(process.pid) == pid && process.ready) {
                return Ok(());
            }
            if Instant::now() >= until {
                let said = self.log_since(log_start);
                self.stop().await?;
                return Err(ClusterError::NotReady { dir: self.dir.clone(), waited: deadline, said });
            }
            sleep(POLL).await;
        }
    }

    /// Of the process we started, as long as it has not ended.
    fn child_pid(&mut self) -> Option<u32> {
        if self.reap() { None } else { self.child.as_ref().and_then(Child::id) }
    }

    /// True when the process we started has ended.
    fn reap(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None)))
    }

    /// What still resists is removed the next time.
    fn remove_half_made(&self) {
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(HALF_MADE) {
                drop(fs::remove_dir_all(entry.path()));
            }
        }
    }

    async fn run_initdb(&self, user: &str, target: &Path, password_file: &Path) -> Result<(), ClusterError> {
        let mut initdb = self.command("initdb");
        initdb.arg("-D").arg(target).arg("--pwfile").arg(password_file);
        initdb.arg(format!("--username={user}"));
        initdb.args(["--encoding=UTF8", "--locale=C", "--no-sync"]);
        initdb.args(["--auth-host=scram-sha-256", "--auth-local=scram-sha-256"]);
        initdb.stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let program = self.binaries.program("initdb");
        let answer = timeout(INIT_MAX, initdb.output()).await;
        let failed = |said| ClusterError::Failed { program: "initdb", said };
        let answer = answer.map_err(|_| failed(format!("no end after {INIT_MAX:?}")))?;
        let answer = answer.map_err(ClusterError::io("run", &program))?;
        let said = String::from_utf8_lossy(&answer.stderr).trim().to_owned();
        if answer.status.success() { Ok(()) } else { Err(failed(said)) }
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.binaries.program(name));
        command.stdin(Stdio::null()).current_dir(&self.dir);
        if let Some(user) = &self.run_as {
            command.uid(user.uid).gid(user.gid);
        }
        command
    }

    fn write_private(&self, path: &Path, secret: &Secret) -> Result<(), ClusterError> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let written = file.and_then(|mut file| writeln!(file, "{}", secret.expose()));
        written.map_err(ClusterError::io("write", path))?;
        self.run_as.iter().try_for_each(|user| user.give(path))
    }

    fn open_log(&self) -> Result<File, ClusterError> {
        let path = self.log_file();
        if fs::metadata(&path).is_ok_and(|log| log.len() > LOG_BYTES_MAX) {
            fs::rename(&path, path.with_extension("log.1")).map_err(ClusterError::io("set aside", &path))?;
        }
        OpenOptions::new().append(true).create(true).open(&path).map_err(ClusterError::io("open", &path))
    }

    /// The last lines written after byte `start`.
    fn log_since(&self, start: u64) -> String {
        let log = fs::read(self.log_file()).unwrap_or_default();
        let new = log.get(usize::try_from(start).unwrap_or(0)..).unwrap_or_default();
        let text = String::from_utf8_lossy(new);
        let lines: Vec<&str> = text.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }
}

/// Line 1 is the process, 4 the port, 8 its state (Postgres' `miscadmin.h`, the same since version 10).
fn parse_pid_file(text: &str) -> Option<ServerProcess> {
    let mut lines = text.lines().map(str::trim);
    let pid = lines.next()?.parse().ok()?;
    // Both are missing for a moment while the server starts.
    let port = lines.nth(2).and_then(|line| line.parse().ok()).unwrap_or(0);
    Some(ServerProcess { pid, port, ready: lines.nth(3) == Some("ready") })
}

/// Whether process `pid` is a Postgres server on `data_dir`. An ended process that nobody has reaped is none.
fn runs_on(pid: u32, data_dir: &Path) -> bool {
    if cfg!(target_os = "linux") {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        return line.split(|byte| *byte == 0).any(|word| word == data_dir.as_os_str().as_encoded_bytes());
    }
    let answer = std::process::Command::new("ps").args(["-ww", "-o", "command=", "-p", &pid.to_string()]).output();
    answer.is_ok_and(|answer| String::from_utf8_lossy(&answer.stdout).contains(&*data_dir.to_string_lossy()))
}

/// On Linux a process that ends loses its command line first and its files and sockets after that; on a busy machine
/// somebody can look in between.
fn is_ending(pid: u32) -> bool {
    const PF_EXITING: u64 = 0x4; // include/linux/sched.h
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // State, parent, group, session, terminal, its group, flags: proc_pid_stat(5).
    let mut fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ');
    let (state, flags) =
        (fields.next().unwrap_or_default(), fields.nth(5).and_then(|flags| flags.parse::<u64>().ok()));
    !matches!(state, "Z" | "X") && flags.is_some_and(|flags| flags & PF_EXITING != 0)
}

fn pid_of(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

fn remove_if_there(path: &Path, remove: impl Fn(&Path) -> std::io::Result<()>) -> Result<(), ClusterError> {
    match remove(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(ClusterError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pid_file_tells_process_port_and_readiness() {
        let ready = "4711\n/x/pgdata\n1732435200\n5433\n\n127.0.0.1\n  123 456\nready   \n";
        assert_eq!(parse_pid_file(ready), Some(ServerProcess { pid: 4711, port: 5433, ready: true }));
        let starting = ready.replace("ready   ", "starting");
        assert_eq!(parse_pid_file(&starting), Some(ServerProcess { pid: 4711, port: 5433, ready: false }));
        assert_eq!(parse_pid_file("4711\n/x/pgdata\n"), Some(ServerProcess { pid: 4711, port: 0, ready: false }));
        assert_eq!(parse_pid_file(""), None);
    }

    #[test]
    fn a_process_that_is_not_a_server_on_this_folder_is_never_taken_for_one() {
        assert!(!runs_on(std::process::id(), Path::new("/nowhere/pgdata")));
    }
}
