//! Row 139: what the system refuses the router.

use std::fs;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::wire::{Client, Door};
use super::world::{soon, world};

/// Ends with its test, whatever becomes of that.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Ticks of processor time it has used; 100 a second.
fn ticks(process: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    let after_the_name = stat.rsplit(") ").next().expect("fields");
    after_the_name.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().expect("a number")).sum()
}

#[test]
fn row_139_out_of_descriptors_the_others_are_served_and_nothing_spins() {
    let world = world();
    let folder = tempfile::tempdir().expect("a folder");
    let (routes, log) = (folder.path().join("routes.json"), folder.path().join("log"));
    let (port, password) = world.server();
    let route = serde_json::json!({ "routes": { &world.database: {
        "endpoint": format!("127.0.0.1:{port}"), "roles": { "postgres": { "password": password.expose() } },
    } } });
    fs::write(&routes, route.to_string()).expect("written");
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 64; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_o7s"), "router", "--workers", "1"]);
    command.args(["--listen", "127.0.0.1:0", "--drain", "0s", "--routes"]).arg(&routes);
    let output = fs::File::create(&log).expect("made");
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output).spawn().expect("started");
    let child = Ending(child);
    let mut port = None;
    soon("the router serves", || {
        let text = fs::read_to_string(&log).expect("read");
        let line = text.lines().find(|line| line.contains("serving on")).filter(|_| text.ends_with('\n'));
        port = line.and_then(|line| line.rsplit(':').next()?.trim().parse().ok());
        port.is_some()
    });
    let port = port.expect("it serves");
    let door = Door { port, database: &world.database, role: "postgres", password };
    let mut a = Client::connect(door, &[]).expect("logged in");
    assert_eq!(a.ask("SELECT 1"), "T D:1 C:SELECT 1 Z:I");
    let crowd: Vec<TcpStream> =
        (0..150).map(|_| TcpStream::connect(("127.0.0.1", port)).expect("the kernel takes it")).collect();
    soon("descriptors are out", || fs::read_to_string(&log).expect("read").contains("cannot be accepted"));
    let before = ticks(child.0.id());
    for _ in 0..50 {
        assert_eq!(a.ask("SELECT 1"), "T D:1 C:SELECT 1 Z:I");
        std::thread::sleep(Duration::from_millis(20));
    }
    let used = ticks(child.0.id()) - before;
    assert!(used < 50, "{used} ticks in a second and more");
    drop(crowd);
    assert_eq!(Client::connect(door, &[]).expect("logged in").ask("SELECT 2"), "T D:2 C:SELECT 1 Z:I");
}
