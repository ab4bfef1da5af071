//! Two router processes count a known number of queries; one is told to stop, one is killed, twice.

use std::path::Path;
use std::time::Duration;

use ogelnates::local::free_port;
use ogelnates::tenancy::Secret;
use tokio_postgres::{Config, NoTls};

use crate::drivers::replicas::{MASTER_KEY, reconciled};
use crate::drivers::tokio_postgres_driver::Session;
use crate::router_process::RouterProcess;
use crate::store::World;
use crate::support::{binaries, eventually, execute, open_folder, server};

async fn number(world: &World, sql: &str) -> u64 {
    let mut connection = server().await.connect(&world.database).await;
    let number: i64 =
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned())).fetch_one(&mut connection).await.expect("read");
    number.unsigned_abs()
}

async fn reads(world: &World) -> u64 {
    number(world, "SELECT coalesce(sum(reads), 0)::bigint FROM o7s.meter_minutes").await
}

async fn session(port: u16, tenant: &str, password: &Secret) -> Session {
    let mut config = Config::new();
    config.host("127.0.0.1").port(port).user(tenant).password(password.expose()).dbname(tenant);
    let (client, connection) = config.connect(NoTls).await.expect("connected");
    Session::begin(client, connection)
}

async fn ask(session: &Session, times: u64) {
    for _ in 0..times {
        session.simple_query("SELECT generate_series(1, 3)").await.expect("answered");
    }
}

async fn start(folder: &Path, url: &Secret, more: &[&str]) -> RouterProcess {
    let variables = [("O7S_DATABASE_URL", url.expose()), ("O7S_MASTER_KEY", MASTER_KEY)];
    let listen = free_port().expect("a free port");
    let arguments = [&["--public", "--usage-every", "500ms"], more].concat();
    RouterProcess::start(folder, listen, &arguments, &variables).await
}

#[tokio::test]
async fn what_two_routers_count_is_what_their_clients_asked() {
    let (folder, shared) = (open_folder(), server().await);
    let (tenant, password, world) = reconciled().await;
    let url = shared.url(&world.database);
    let cache = folder.path().join("routes").display().to_string();
    let one = start(folder.path(), &url, &[]).await;
    let other = start(folder.path(), &url, &["--cache", &cache]).await;
    let (at_one, at_other) =
        (session(one.port, &tenant, &password).await, session(other.port, &tenant, &password).await);
    tokio::join!(ask(&at_one, 200), ask(&at_other, 300));
    // SIGTERM loses none, and comes back with nothing left to flush.
    drop(at_one);
    assert_eq!(one.stop().await, Some(0));
    eventually("both have flushed", async || (reads(&world).await == 500).then_some(())).await;
    assert_eq!(number(&world, "SELECT count(*) FROM o7s.meter_writers WHERE clean").await, 1);

    // Killed in the middle: what was sealed is in or on disk, and the rest is within a gap that says so.
    ask(&at_other, 100).await;
    other.kill().await;
    let http = format!("127.0.0.1:{}", free_port().expect("a free port"));
    let other = start(folder.path(), &url, &["--cache", &cache, "--http", &http]).await;
    let told = async |path: &str| {
        let answer = reqwest::get(format!("http://{http}{path}")).await.expect("answered");
        answer.text().await.expect("a body")
    };
    let at_other = session(other.port, &tenant, &password).await;
    ask(&at_other, 50).await;
    eventually("the next life has flushed", async || (reads(&world).await >= 550).then_some(())).await;
    let none_waits = async || told("/metrics").await.contains("\no7s_router_usage_waiting 0\n").then_some(());
    eventually("nothing waits", none_waits).await;
    let gaps = "SELECT count(*) FROM o7s.meter_gaps WHERE until - since < interval '1 minute'";
    assert_eq!(number(&world, gaps).await, 1);

    // The control database takes no usage: it waits on disk, a kill loses nothing of it.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let before = reads(&world).await;
    assert!((550..=650).contains(&before), "{before}");
    world.sql("ALTER TABLE o7s.meter_state RENAME TO meter_state_away").await;
    ask(&at_other, 70).await;
    let journal = folder.path().join("routes.meters");
    let kept = async || std::fs::metadata(&journal).ok().filter(|file| file.len() > 256).map(drop);
    eventually("it is on disk", kept).await;
    let warned = async || told("/readyz").await.contains("the control database takes no usage since").then_some(());
    eventually("it says that usage waits", warned).await;
    assert!(none_waits().await.is_none());
    // Two more rounds, so that none of the 70 is open any more.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(reads(&world).await, before);
    other.kill().await;
    world.sql("ALTER TABLE o7s.meter_state_away RENAME TO meter_state").await;
    let other = start(folder.path(), &url, &["--cache", &cache]).await;
    eventually("what was on disk is in", async || (reads(&world).await == before + 70).then_some(())).await;

    // Rows and errors follow, and `o7s usage` tells all of it.
    let at_other = session(other.port, &tenant, &password).await;
    at_other.simple_query("SELECT 1/0").await.expect_err("a division by zero");
    drop(at_other);
    assert_eq!(other.stop().await, Some(0));
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_o7s"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env_clear().env("O7S_DATABASE_URL", url.expose());
    let output = command.args(["usage", &tenant, "--format", "json"]).output().await.expect("run");
    let report: ogelnates::store::UsageReport = serde_json::from_slice(&output.stdout).expect("a report");
    let sum = |of: fn(&ogelnates::tenancy::Usage) -> u64| report.rows.iter().map(|row| of(&row.usage)).sum::<u64>();
    let (told, rows) = (sum(|usage| usage.reads), sum(|usage| usage.rows));
    assert_eq!((told, rows, sum(|usage| usage.errors_statement)), (before + 70, 3 * (before + 70), 1));
    assert!(sum(|usage| usage.connection_ms) > 0 && sum(|usage| usage.bytes_out) > 0);
    let drop = format!("DROP OWNED BY {tenant}; DROP ROLE {tenant}");
    execute(&mut shared.connect("postgres").await, &drop).await;
}

/// Bytes of one answer to [`SCRIPT`]: RowDescription, DataRow, CommandComplete, ReadyForQuery.
const ANSWER: u64 = (5 + 2 + 7 + 18) + (5 + 2 + 4 + 1000) + (5 + 9) + (5 + 1);
const SCRIPT: &str = "SELECT repeat('x', 1000);\n";

/// `pgbench` with as many clients and queries of [`SCRIPT`] each.
fn pgbench(
    folder: &Path,
    port: u16,
    tenant: &str,
    password: &Secret,
    [clients, each]: [u32; 2],
) -> tokio::process::Child {
    let script = folder.join("script.sql");
    std::fs::write(&script, SCRIPT).expect("written");
    let mut command = tokio::process::Command::new(binaries().dir().join("pgbench"));
    command.args(["-n", "-M", "simple", "-h", "127.0.0.1", "-p", &port.to_string(), "-U", tenant]);
    command.args(["-c", &clients.to_string(), "-j", "1", "-t", &each.to_string(), "-f"]).arg(script).arg(tenant);
    let quiet = std::process::Stdio::null;
    command.env("PGPASSWORD", password.expose()).stdout(quiet()).stderr(quiet()).kill_on_drop(true);
    command.spawn().expect("pgbench, which comes with the server")
}

/// What the server itself counted of [`SCRIPT`]: calls.
async fn calls(tenant: &str) -> u64 {
    let sql =
        "SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements AS s JOIN pg_roles AS r ON r.oid = s.userid
        WHERE r.rolname = $1 AND query ~ 'repeat'";
    let mut connection = server().await.connect("postgres").await;
    let calls: i64 = sqlx::query_scalar(sql).bind(tenant).fetch_one(&mut connection).await.expect("read");
    calls.unsigned_abs()
}

#[tokio::test]
async fn two_routers_count_what_pgbench_sent_and_the_server_counted() {
    let (folder, shared) = (open_folder(), server().await);
    execute(&mut shared.connect("postgres").await, "CREATE EXTENSION IF NOT EXISTS pg_stat_statements").await;
    let (tenant, password, world) = reconciled().await;
    world.sql("UPDATE o7s.routes SET limits = limits - 'queriesPerMinute'").await;
    let url = shared.url(&world.database);
    let cache = folder.path().join("routes").display().to_string();
    let cached = ["--cache", cache.as_str()];
    let (one, other) = (start(folder.path(), &url, &[]).await, start(folder.path(), &url, &cached).await);
    let bench = |port: u16, size: [u32; 2]| pgbench(folder.path(), port, &tenant, &password, size);
    let (mut at_one, mut at_other) = (bench(one.port, [8, 250]), bench(other.port, [5, 300]));
    assert!(at_one.wait().await.expect("ended").success() && at_other.wait().await.expect("ended").success());

    // Nothing is lost, of queries, rows or bytes, though one of the two ends.
    assert_eq!(one.stop().await, Some(0));
    eventually("all is flushed", async || (reads(&world).await >= 3_500).then_some(())).await;
    assert_eq!((reads(&world).await, calls(&tenant).await), (3_500, 3_500));
    let sum =
        async |counter: &str| number(&world, &format!("SELECT sum({counter})::bigint FROM o7s.meter_minutes")).await;
    assert_eq!((sum("queries").await, sum("rows").await, sum("transactions").await), (3_500, 3_500, 3_500));
    // `pgbench` opens one session of its own beside its clients'; each is greeted with the server's parameters.
    let sessions = sum("sessions").await;
    let greetings = sum("bytes_out").await - 3_500 * ANSWER;
    assert_eq!((sessions, greetings % sessions), (15, 0));
    assert!((300..700).contains(&(greetings / sessions)), "{greetings}");
    // With a head of five bytes, and a zero.
    let asked = SCRIPT.trim_end().len() as u64 + 6;
    assert_eq!(sum("bytes_in").await, 3_500 * asked + 15 * 5, "and Terminate, of each session");

    // SIGTERM in the middle: all that was sent to the server is counted, and no more than what was under way besides.
    let one = start(folder.path(), &url, &[]).await;
    let at_one = bench(one.port, [4, 1_000_000]);
    eventually("it works", async || (calls(&tenant).await > 3_700).then_some(())).await;
    assert_eq!(one.stop().await, Some(0));
    drop(at_one);
    let (sent, counted) = (sum("queries").await, calls(&tenant).await);
    assert!((counted..=counted + 4).contains(&sent), "{sent} sent, {counted} executed");
    let before = reads(&world).await;

    // Killed while it works, right after a flush: what was flushed stays, what the server did not do is not in it.
    let at_other = bench(other.port, [4, 1_000_000]);
    eventually("something of it is flushed", async || (reads(&world).await > before).then_some(())).await;
    let flushed = reads(&world).await;
    other.kill().await;
    drop(at_other);
    let other = start(folder.path(), &url, &cached).await;
    let mut last = bench(other.port, [2, 100]);
    assert!(last.wait().await.expect("ended").success());
    assert_eq!(other.stop().await, Some(0));
    let (metered, counted) = (reads(&world).await, calls(&tenant).await);
    assert!((flushed + 200..=counted).contains(&metered), "{metered} of {counted}, {flushed} before the kill");
    assert_eq!(number(&world, "SELECT count(*) FROM o7s.meter_gaps").await, 1, "and what is lost has a time");
    let drop = format!("DROP OWNED BY {tenant}; DROP ROLE {tenant}");
    execute(&mut shared.connect("postgres").await, &drop).await;
}
