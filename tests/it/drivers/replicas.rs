//! Two router processes behind one control database: a cancel request is heard whichever of them it arrives at.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use ogelnates::local::free_port;
use ogelnates::store::FleetRow;
use ogelnates::tenancy::{Address, Credential, Endpoint, Keyring, Route, Secret, Verifier};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
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

/// Two router processes that follow `control` and know of each other.
async fn two_routers(folder: &Path, control: &Secret, [chain, key]: [&str; 2]) -> [RouterProcess; 2] {
    let variables = [("O7S_DATABASE_URL", control.expose()), ("O7S_MASTER_KEY", MASTER_KEY)];
    let start = async || {
        let listen = free_port().expect("a free port");
        let own = format!("127.0.0.1:{listen}");
        let arguments = ["--public", "--peer-address", &own, "--tls-cert", chain, "--tls-key", key];
        RouterProcess::start(folder, listen, &arguments, &variables).await
    };
    [start().await, start().await]
}

/// One port in front of several: each connection goes to the next of them, as a platform's proxy does it.
struct RoundRobin {
    port: u16,
    _connections: JoinSet<()>,
}

impl RoundRobin {
    async fn over(ports: [u16; 2]) -> RoundRobin {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let port = listener.local_addr().expect("bound").port();
        let mut connections = JoinSet::new();
        connections.spawn(async move {
            let mut open = JoinSet::new();
            for to in ports.into_iter().cycle() {
                let (mut client, _) = listener.accept().await.expect("accepted");
                open.spawn(async move {
                    let mut router = TcpStream::connect(("127.0.0.1", to)).await.expect("it listens");
                    // However it ends, both ends hear of it.
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut router).await;
                });
            }
        });
        RoundRobin { port, _connections: connections }
    }
}

async fn connected(config: &Config, certificate: Option<&str>) -> Session {
    match certificate {
        None => {
            let (client, connection) = config.connect(NoTls).await.expect("connected");
            Session::begin(client, connection)
        }
        Some(file) => {
            let mut config = config.clone();
            let (client, connection) =
                config.ssl_mode(SslMode::Require).connect(Tls::trusting(file)).await.expect("connected");
            Session::begin(client, connection)
        }
    }
}

#[tokio::test]
async fn row_144_behind_one_port_replicas_need_nobody_to_come_back_to_them() {
    let (folder, shared) = (open_folder(), server().await);
    let (tenant, password, world) = reconciled().await;
    let [chain, key] = certificate(folder.path());
    let routers = two_routers(folder.path(), &shared.url(&world.database), [&chain, &key]).await;
    let front = RoundRobin::over([routers[0].port, routers[1].port]).await;
    let mut config = Config::new();
    config.host("localhost").port(front.port).user(&tenant).password(password.expose()).dbname(&tenant);
    let database: String = sqlx::query_scalar("SELECT database FROM o7s.routes")
        .fetch_one(&mut shared.connect(&world.database).await)
        .await
        .expect("read");
    let checks = (0..6).map(|number| {
        let (config, certificate) = (config.clone(), (number % 2 == 0).then_some(chain.as_str()));
        async move {
            // A session is one connection: what is set, prepared or begun in it stays with it.
            let session = connected(&config, certificate).await;
            let name = format!("client {number}");
            session.batch_execute(&format!("SET application_name = '{name}'")).await.expect("set");
            let statement =
                session.prepare("SELECT current_setting('application_name'), $1::int4").await.expect("prepared");
            for round in 0..10_i32 {
                session.batch_execute("BEGIN").await.expect("begun");
                let row = session.query_one(&statement, &[&round]).await.expect("answered");
                assert_eq!((row.get::<_, &str>(0), row.get::<_, i32>(1)), (name.as_str(), round));
                session.batch_execute("COMMIT").await.expect("ended");
            }
        }
    });
    timeout(CHECK_MAX, futures_util::future::join_all(checks)).await.expect("in time");
    // A cancel request is a connection of its own, and goes where its turn leads it.
    for certificate in [None, Some(chain.as_str())] {
        let session = connected(&config, certificate).await;
        let (token, ended) = (session.cancel_token(), Cell::new(false));
        let cancel = async {
            sleeping(shared, &database).await;
            cancel_at(front.port, &token, certificate, &ended).await;
        };
        let query = async {
            let answer = session.query("SELECT pg_sleep(60)", &[]).await;
            ended.set(true);
            answer.expect_err("cancelled")
        };
        let error = timeout(CHECK_MAX, async { tokio::join!(query, cancel).0 }).await.expect("in time");
        assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED), "{error:?}");
    }
    for router in routers {
        assert_eq!(router.stop().await, Some(0));
    }
    let drop = format!("DROP OWNED BY {tenant}; DROP ROLE {tenant}");
    execute(&mut shared.connect(&database).await, &drop).await;
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
    let routers = two_routers(folder.path(), &shared.url(&world.database), [&chain, &key]).await;
    let mut config = Config::new();
    config.host("localhost").user(&tenant).password(password.expose()).dbname(&tenant);
    let ports: BTreeMap<&str, u16> = [("one", routers[0].port), ("other", routers[1].port)].into();
    for (at, asked) in [("one", "other"), ("other", "one"), ("one", "one")] {
        for certificate in [None, Some(chain.as_str())] {
            println!("the client is at {at}, the request goes to {asked}, over TLS: {}", certificate.is_some());
            let mut config = config.clone();
            config.port(ports[at]);
            let session = connected(&config, certificate).await;
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
