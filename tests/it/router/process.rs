//! A router as a process of its own in front of a test's database: what it takes of the system can be measured and bounded.

use std::fs;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::wire::{Client, Door};
use super::world::{World, soon};
use crate::router_process::certificate;

pub struct Process<'a> {
    world: &'a World,
    folder: TempDir,
    child: Child,
    pub port: u16,
}

/// Ends with its test, whatever becomes of that.
impl Drop for Process<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl<'a> Process<'a> {
    /// With the shell's `limits` on it; with a certificate for localhost where `tls`.
    pub fn start(world: &'a World, limits: &str, tls: bool) -> Process<'a> {
        let folder = tempfile::tempdir().expect("a folder");
        let (routes, log) = (folder.path().join("routes.json"), folder.path().join("log"));
        let (port, password) = world.server();
        let route = serde_json::json!({ "routes": { &world.database: {
            "endpoint": format!("127.0.0.1:{port}"), "roles": { "postgres": { "password": password.expose() } },
        } } });
        fs::write(&routes, route.to_string()).expect("written");
        let mut command = Command::new("sh");
        let script = format!("{limits}; exec \"$0\" \"$@\"");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_o7s"), "router", "--workers", "1"]);
        command.args(["--listen", "127.0.0.1:0", "--drain", "0s", "--routes"]).arg(&routes);
        if tls {
            let [chain, key] = certificate(folder.path());
            command.args(["--tls-cert", &chain, "--tls-key", &key]);
        }
        let output = fs::File::create(log).expect("made");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output).spawn().expect("started");
        let mut process = Process { world, folder, child, port: 0 };
        soon("the router serves", || {
            let text = process.log();
            let line = text.lines().find(|line| line.contains("serving on")).filter(|_| text.ends_with('\n'));
            let port = line.and_then(|line| line.rsplit(':').next()?.trim().parse().ok());
            process.port = port.unwrap_or(0);
            process.port > 0
        });
        process
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).expect("read")
    }

    /// Where the certificate is.
    pub fn certificate(&self) -> String {
        self.folder.path().join("tls.crt").display().to_string()
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("the kernel takes it");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("set");
        stream
    }

    pub fn client(&self) -> Client {
        self.client_at(self.port)
    }

    /// By way of another port of this machine.
    pub fn client_at(&self, port: u16) -> Client {
        let password = self.world.server().1;
        let door = Door { port, database: &self.world.database, role: "postgres", password };
        Client::connect(door, &[]).expect("logged in")
    }

    /// Ticks of processor time it has used; 100 a second.
    pub fn ticks(&self) -> u64 {
        let stat = self.of_system("stat");
        let after_the_name = stat.rsplit(") ").next().expect("fields");
        after_the_name.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().expect("a number")).sum()
    }

    /// Memory that it has now, in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = self.of_system("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("there");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("it runs").count()
    }

    /// How many descriptors it may have open.
    pub fn descriptors_max(&self) -> u64 {
        let limits = self.of_system("limits");
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).expect("there");
        line.split_whitespace().next().expect("the soft one").parse().expect("a number")
    }

    fn of_system(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).expect("it runs")
    }
}
