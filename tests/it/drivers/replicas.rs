//! Two router processes behind one control database: a cancel request is heard whichever of them it arrives at.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use ogelnates::local::free_port;
use ogelnates::store::FleetRow;
use ogelnates::tenancy::{Address, Credential, Endpoint, Keyring, Route, Secret, Verifier};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::{CancelToken, Config, NoTls};

use super::tls::Tls;
use super::tokio_postgres_driver::Session;
use super::{CHECK_MAX, sleeping};
use crate::router_process::{RouterProcess, certificate};
use crate::store::{World, fleet, route};
use crate::support::{execute, open_folder, server};

pub const MASTER_KEY: &str = "0123456789abcdef0123456789abcdef";

/// As a reconcile leaves a tenant behind: a role with its derived password, a database, a route. The tenant, the password
/// and the control database.
pub async fn reconciled() -> (String, Secret, World) {
    let (shared, world) = (server().await, World::migrated().await);
    let keys = Keyring::new(&Secret::new(MASTER_KEY)).expect("long enough");
    let database = shared.fresh_database().await;
    // Databases on the shared server are one test's alone; so are their names, and so is a role of that name.
    let tenant = database.replace("test_", "t")[..20].to_owned();
    let id = crate::store::tenant(&tenant);
    let owner = Credential::Tenant { tenant: id, role: None, generation: 1 };
    let role = format!("CREATE ROLE {tenant} LOGIN PASSWORD '{}'", Verifier::of(&keys, &owner));
    execute(&mut shared.connect("postgres").await, &role).await;
    let address = Address { host: "127.0.0.1".into(), port: shared.port };
    let endpoint = Endpoint { private: address.clone(), public: address };
    let mut lease = world.lease().await;
    lease.save_fleet(&FleetRow { uid: keys.fleet_uid(&fleet().name), ..fleet() }).await.expect("saved");
    let route = Route { database, endpoint, roles: Vec::new(), ..route(&tenant) };
    lease.publish_routes(&[route], &[], &[]).await.expect("published");
    lease.release().await;
    (tenant, keys.password(&owner), world)
}

/// Asks the router at `port` again and again, because routers learn of each other within a heartbeat.
async fn cancel_at(port: u16, token: &CancelToken, certificate: Option<&str>, ended: &Cell<bool>) {
    while !ended.get() {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
        match certificate {
            None => token.cancel_query_raw(stream, NoTls).await.expect("sent"),
            Some(file) => {
                let handshake = Tls::trusting(file).handshake("localhost").expect("a name");
                token.cancel_query_raw(stream, handshake).await.expect("sent");
            }
        }
        sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn rows_40_45_a_cancel_request_reaches_the_replica_that_has_the_client() {
    let (folder, shared) = (open_folder(), server().await);
    let (tenant, password, world) = reconciled().await;
    let database: String = sqlx::query_scalar("SELECT database FROM o7s.routes")
        .fetch_one(&mut shared.connect(&world.database).await)
        .await
        .expect("read");
    let [chain, key] = certificate(folder.path());
    let url = shared.url(&world.database);
    let variables = [("O7S_DATABASE_URL", url.expose()), ("O7S_MASTER_KEY", MASTER_KEY)];
    let start = async || {
        let listen = free_port().expect("a free port");
        let own = format!("127.0.0.1:{listen}");
        let arguments = ["--public", "--peer-address", &own, "--tls-cert", &chain, "--tls-key", &key];
        RouterProcess::start(folder.path(), listen, &arguments, &variables).await
    };
    let routers = [start().await, start().await];
    let mut config = Config::new();
    config.host("localhost").user(&tenant).password(password.expose()).dbname(&tenant);
    let ports: BTreeMap<&str, u16> = [("one", routers[0].port), ("other", routers[1].port)].into();
    for (at, asked) in [("one", "other"), ("other", "one"), ("one", "one")] {
        for certificate in [None, Some(chain.as_str())] {
            println!("the client is at {at}, the request goes to {asked}, over TLS: {}", certificate.is_some());
            let mut config = config.clone();
            config.port(ports[at]);
            let session = match certificate {
                None => {
                    let (client, connection) = config.connect(NoTls).await.expect("connected");
                    Session::begin(client, connection)
                }
                Some(file) => {
                    let tls = Tls::trusting(file);
                    let (client, connection) =
                        config.ssl_mode(SslMode::Require).connect(tls).await.expect("connected");
                    Session::begin(client, connection)
                }
            };
            let token = session.cancel_token();
            let ended = Cell::new(false);
            let cancel = async {
                sleeping(shared, &database).await;
                cancel_at(ports[asked], &token, certificate, &ended).await;
            };
            let query = async {
                let answer = session.query("SELECT pg_sleep(60)", &[]).await;
                ended.set(true);
                answer.expect_err("cancelled")
            };
            let both = async { tokio::join!(query, cancel).0 };
            let ended = timeout(CHECK_MAX, both).await.expect("in time");
            assert_eq!(ended.code(), Some(&SqlState::QUERY_CANCELED), "{ended:?}");
            let row = session.query_one("SELECT 1", &[]).await.expect("answered");
            assert_eq!(row.get::<_, i32>(0), 1);
        }
    }
    for router in routers {
        assert_eq!(router.stop().await, Some(0));
    }
    let drop = format!("DROP OWNED BY {tenant}; DROP ROLE {tenant}");
    execute(&mut shared.connect(&database).await, &drop).await;
}
