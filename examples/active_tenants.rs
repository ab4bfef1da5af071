//! Many tenants at one router, for benchmarks.
//!
//! `active_tenants setup CONTROL INSTANCE N` makes a fleet of N tenants without a Railway: a control database at the one URL,
//! each tenant's role on the instance at the other. They share the instance's database `bench` and have every ceiling, so high
//! that none is reached.
//! `active_tenants password TENANT` says what it logs in with.
//! `active_tenants load HOST PORT N RATE SECONDS` connects as each of them and asks in turn, RATE queries a second in all.
//! O7S_MASTER_KEY is the key all of it is derived from.

use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use ogelnates::store::Store;
use ogelnates::tenancy::{Credential, FleetName, Keyring, Secret, TenantId, Verifier};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_postgres::{Client, Config, NoTls};
use tokio_util::task::TaskTracker;

type Failed = Box<dyn Error + Send + Sync>;

/// On one server, but of one instance no router opens more than 90 connections.
const INSTANCES: u64 = 5;
const LIMITS: &str = r#"{"connections": 1000, "serverConnections": 20, "queriesPerMinute": 1000000000,
    "requestsPerMinute": 1000000000, "egressPerMonth": 1000000000000000, "storage": 1000000000000, "statementTimeout": 60000}"#;
const OVER: &str =
    r#"{"connections": "reject", "queriesPerMinute": "reject", "egressPerMonth": "reject", "storage": "readOnly"}"#;
/// At a time: a login costs a millisecond of hashing at either end.
const LOGINS: usize = 16;

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let keys = Keyring::new(&Secret::new(std::env::var("O7S_MASTER_KEY")?))?;
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["setup", control, instance, tenants] => setup(&keys, control, instance, tenants.parse()?).await,
        ["password", tenant] => {
            println!("{}", keys.password(&owner(tenant)?).expose());
            Ok(())
        }
        ["load", host, port, tenants, rate, seconds] => {
            let mut config = Config::new();
            config.host(*host).port(port.parse()?);
            load(&keys, config, tenants.parse()?, rate.parse()?, seconds.parse()?).await
        }
        _ => {
            Err("usage: active_tenants setup CONTROL INSTANCE N | password TENANT | load HOST PORT N RATE SECONDS"
                .into())
        }
    }
}

fn name(number: u64) -> String {
    format!("t{number:05}")
}

fn owner(tenant: &str) -> Result<Credential, Failed> {
    Ok(Credential::Tenant { tenant: TenantId::parse(tenant)?, role: None, generation: 1 })
}

/// What the client needs in the background is one of `tasks`.
async fn connect(config: &Config, tasks: &TaskTracker) -> Result<Client, Failed> {
    let (client, connection) = config.connect(NoTls).await?;
    tasks.spawn(connection);
    Ok(client)
}

async fn setup(keys: &Keyring, control: &str, instance: &str, tenants: u64) -> Result<(), Failed> {
    Store::connect(&Secret::new(control), Duration::from_secs(30)).await?.migrate().await?;
    let (control, instance): (Config, Config) = (control.parse()?, instance.parse()?);
    let (host, port) = ("127.0.0.1", instance.get_ports().first().copied().unwrap_or(5432));
    let (fleet, tasks) = (FleetName::parse("bench")?, TaskTracker::new());
    connect(&control, &tasks).await?.batch_execute(&format!(
        "INSERT INTO o7s.fleet (uid, name, project_id, environment_id) VALUES ('{}', 'bench', 'none', 'none');
        INSERT INTO o7s.routes (tenant, instance, database, private_host, private_port, public_host, public_port, state, tier,
                generation, roles, limits, over_limit, version)
            SELECT 't' || to_char(n, 'FM00000'), 'shared-' || 1 + n % {INSTANCES}, 'bench', '{host}', {port}, '{host}', {port},
                'active', 'bench', 1, '{{}}', '{LIMITS}', '{OVER}', 1 FROM generate_series(0, {tenants} - 1) AS n;
        UPDATE o7s.routing SET version = 1",
        keys.fleet_uid(&fleet).as_str()
    )).await?;
    let mut roles = String::new();
    for tenant in (0..tenants).map(name) {
        let verifier = Verifier::of(keys, &owner(&tenant)?);
        writeln!(roles, "CREATE ROLE {tenant} LOGIN PASSWORD '{verifier}' IN ROLE pg_read_all_data;")?;
    }
    connect(&instance, &tasks).await?.batch_execute(&roles).await?;
    Ok(())
}

async fn load(keys: &Keyring, config: Config, tenants: u64, rate: u64, seconds: u64) -> Result<(), Failed> {
    let tasks = TaskTracker::new();
    let login = async |number: u64| {
        let (tenant, mut config) = (name(number), config.clone());
        config.user(&tenant).dbname(&tenant).password(keys.password(&owner(&tenant)?).expose());
        connect(&config, &tasks).await
    };
    let begun = Instant::now();
    let clients = stream::iter(0..tenants).map(login).buffered(LOGINS).collect::<Vec<_>>().await;
    let clients = clients.into_iter().collect::<Result<Vec<Client>, Failed>>()?;
    println!("{tenants} tenants connected in {:.1} s", begun.elapsed().as_secs_f64());
    let clients: Vec<_> = clients.into_iter().map(std::sync::Arc::new).collect();
    let (begun, mut asked, mut failed, mut times) = (Instant::now(), JoinSet::new(), 0_u64, Vec::new());
    let mut count = |answer: Result<Result<Duration, tokio_postgres::Error>, _>| match answer {
        Ok(Ok(took)) => times.push(took),
        Ok(Err(_)) | Err(_) => failed += 1,
    };
    for (number, client) in (0..rate * seconds).zip(clients.iter().cycle()) {
        let due = begun + Duration::from_secs(1).mul_f64(number as f64 / rate as f64);
        sleep_until(due).await;
        let client = std::sync::Arc::clone(client);
        asked.spawn(async move { client.simple_query("SELECT 1").await.map(|_| due.elapsed()) });
        while let Some(answer) = asked.try_join_next() {
            count(answer);
        }
    }
    while let Some(answer) = asked.join_next().await {
        count(answer);
    }
    times.sort_unstable();
    let at = |part: usize| times.get(times.len() * part / 1000).map_or(0.0, |time| time.as_secs_f64() * 1000.0);
    println!(
        "{} queries in {:.1} s, {failed} failed, p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms, p99.9 {:.1} ms",
        rate * seconds,
        begun.elapsed().as_secs_f64(),
        at(500),
        at(950),
        at(990),
        at(999)
    );
    Ok(())
}
