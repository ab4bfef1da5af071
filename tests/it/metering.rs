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
use crate::support::{eventually, execute, open_folder, server};

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
    let other = start(folder.path(), &url, &["--cache", &cache]).await;
    let at_other = session(other.port, &tenant, &password).await;
    ask(&at_other, 50).await;
    eventually("the next life has flushed", async || (reads(&world).await >= 550).then_some(())).await;
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
