//! Rust's drivers, unchanged, through a router process to a real Postgres: each check in the clear and over TLS, pooling by
//! transaction and by session. Those of other languages: tests/drivers.

pub mod replicas;
mod sqlx_driver;
mod tls;
pub mod tokio_postgres_driver;

use std::future::Future;
use std::time::Duration;

use ogelnates::tenancy::Secret;
use tokio::time::timeout;

use crate::router_process::{RouterProcess, certificate};
use crate::support::{Server, eventually, open_folder, server};

/// Fewer server connections than most checks have clients.
const SERVER_CONNECTIONS: u32 = 2;
const CLIENTS: usize = 8;
const ROUNDS: usize = 20;
const CHECK_MAX: Duration = Duration::from_secs(60);

/// One way to the tenant's database.
#[derive(Debug, Clone)]
struct Target {
    port: u16,
    database: String,
    password: Secret,
    pooling: &'static str,
    /// The file of the certificate to trust; `None` in the clear.
    certificate: Option<String>,
}

impl Target {
    fn url(&self) -> String {
        format!("postgresql://postgres:{}@localhost:{}/{}", self.password.expose(), self.port, self.database)
    }
}

/// Runs `check` on every way to a database of its own.
async fn everywhere<F: Future<Output = ()>>(check: impl Fn(Target) -> F) {
    let (folder, shared) = (open_folder(), server().await);
    let database = shared.fresh_database().await;
    let routes = folder.path().join("routes.yaml");
    let (port, password) = (shared.port, shared.password.expose());
    let text = format!(
        "routes:\n  {database}:\n    endpoint: 127.0.0.1:{port}\n    serverConnections: {SERVER_CONNECTIONS}\n    \
         roles: {{ postgres: {{ password: {password} }} }}\n"
    );
    std::fs::write(&routes, text).expect("written");
    let [chain, key] = certificate(folder.path());
    let routes = routes.display().to_string();
    let arguments = ["--routes", &routes, "--tls-cert", &chain, "--tls-key", &key];
    let router = RouterProcess::start(folder.path(), 0, &arguments, &[]).await;
    for pooling in ["transaction", "session"] {
        for certificate in [None, Some(chain.clone())] {
            let (port, password) = (router.port, shared.password.clone());
            let target = Target { port, database: database.clone(), password, pooling, certificate };
            // Shown only when it fails.
            println!("{target:?}");
            timeout(CHECK_MAX, check(target)).await.expect("done in time");
        }
    }
    assert_eq!(router.stop().await, Some(0));
}

/// Waits until a session of the database sleeps.
async fn sleeping(shared: &Server, database: &str) {
    let mut direct = shared.connect(database).await;
    let sql = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
    eventually("pg_sleep runs", async || {
        sqlx::query(sql).fetch_optional(&mut direct).await.expect("asked").map(drop)
    })
    .await;
}
