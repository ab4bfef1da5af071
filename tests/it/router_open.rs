//! Server connections as the router opens them, to real servers: SCRAM, TLS with channel binding, cancels, failover.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use ogelnates::local::Cluster;
use ogelnates::manifest::Pooling;
use ogelnates::router::handover::{OpenError, Proof, Server};
use ogelnates::router::look_up::{Administrators, Found, RoleLookUp};
use ogelnates::router::open::{OpenConfig, Opener, Request};
use ogelnates::router::table::{Encryption, Entry, Logins, Roles, State};
use ogelnates::tenancy::{Address, ScramKeys, Secret, Verifier};
use tokio::time::Instant;

use crate::support::{binaries, eventually, execute, open_folder, server, start_on_free_port, test_settings};

pub fn at(port: u16) -> Address {
    Address { host: "127.0.0.1".into(), port }
}

pub fn request(endpoints: Vec<Address>, role: &str, proof: Proof) -> Request {
    let entry = Entry {
        tenant: "acme".into(),
        instance: "pg-a".into(),
        database: "postgres".into(),
        endpoints,
        encryption: Encryption::Disabled,
        pooling: Pooling::Transaction,
        state: State::Active,
        roles: Roles { named: Logins::default(), others: None },
        server_connections: 10,
        tier: "pro".into(),
        allowance: None,
        upgrade: None,
        version: 1,
    };
    let budget = Duration::from_secs(20);
    Request { entry: Arc::new(entry), role: role.into(), proof, settings: Vec::new(), budget }
}

fn password(text: &str) -> Proof {
    Proof::Password(Secret::new(text))
}

fn opener() -> Opener {
    Opener::new(OpenConfig::default())
}

/// The first column of the first row, or the server's error, by a simple query.
fn ask(server: &mut Server, sql: &str) -> String {
    server.stream.set_nonblocking(false).expect("set");
    server.stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    let length = u32::try_from(sql.len() + 5).expect("short");
    let query = [b"Q", &length.to_be_bytes()[..], sql.as_bytes(), b"\0"].concat();
    let mut answer = Vec::new();
    let mut tls;
    let stream: &mut dyn ReadWrite = match &mut server.tls {
        Some(connection) => {
            tls = rustls::Stream::new(&mut **connection, &mut server.stream);
            &mut tls
        }
        None => &mut server.stream,
    };
    stream.write_all(&query).expect("sent");
    while answer.len() < 6 || answer[answer.len() - 6..answer.len() - 1] != *b"Z\0\0\0\x05" {
        let mut part = [0; 4096];
        let read = stream.read(&mut part).expect("an answer");
        assert!(read > 0, "closed after {answer:?}");
        answer.extend_from_slice(&part[..read]);
    }
    let text = String::from_utf8_lossy(&answer);
    match answer.iter().position(|&byte| byte == b'D') {
        Some(row) if answer[0] == b'T' => {
            let length = u32::from_be_bytes(answer[row + 7..row + 11].try_into().expect("four bytes")) as usize;
            String::from_utf8_lossy(&answer[row + 11..row + 11 + length]).into_owned()
        }
        _ => text.into_owned(),
    }
}

trait ReadWrite: std::io::Read + std::io::Write {}
impl<T: std::io::Read + std::io::Write> ReadWrite for T {}

fn refused_with(code: &[u8; 5], outcome: Result<Server, OpenError>) -> String {
    match outcome {
        Err(OpenError::Refused { code: found, body }) if found == *code => {
            String::from_utf8_lossy(&body).into_owned()
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_role_logs_in_by_password_and_by_the_keys_of_its_verifier() {
    let shared = server().await;
    let (role, mut admin) = (shared.fresh_database().await, shared.connect("postgres").await);
    // SASLprep makes the soft hyphen nothing, at the server as here.
    execute(&mut admin, &format!("CREATE ROLE {role} LOGIN PASSWORD 'pässword\u{ad}s'")).await;
    // Another test's fleet may have closed it to strangers.
    execute(&mut admin, &format!("GRANT CONNECT ON DATABASE postgres TO {role}")).await;
    let opener = opener();
    let mut opened = opener.open(&request(vec![at(shared.port)], &role, password("pässwords"))).await.expect("in");
    assert_eq!(
        ask(&mut opened, "SELECT current_user || ' ' || current_setting('application_name')"),
        format!("{role} o7s")
    );
    let process = ask(&mut opened, "SELECT pg_backend_pid()");
    assert_eq!((opened.process.to_string(), opened.secret.len()), (process, 4), "this server speaks 3.0");
    let version = opened.parameters.iter().find(|(name, _)| name == "server_version").expect("reported").1.clone();
    assert_eq!(ask(&mut opened, "SHOW server_version"), version);

    let verifier = Verifier::from_password(&Secret::new("of the keys"), b"0123456789abcdef");
    execute(&mut admin, &format!("ALTER ROLE {role} PASSWORD '{verifier}'")).await;
    let keys = ScramKeys::of(&Secret::new("of the keys"), &verifier.salt, verifier.iterations);
    let mut by_keys =
        opener.open(&request(vec![at(shared.port)], &role, Proof::Keys(Arc::new(keys)))).await.expect("in");
    assert_eq!(ask(&mut by_keys, "SELECT session_user"), role);

    let wrong = opener.open(&request(vec![at(shared.port)], &role, password("wrong"))).await;
    assert!(refused_with(b"28P01", wrong).contains("password authentication failed"));
    drop((opened, by_keys));
    execute(&mut admin, &format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test]
async fn row_30_what_the_server_says_to_a_login_reaches_the_client_as_it_is() {
    let shared = server().await;
    let (role, mut admin) = (shared.fresh_database().await, shared.connect("postgres").await);
    execute(&mut admin, &format!("CREATE ROLE {role} NOLOGIN PASSWORD 'x'")).await;
    execute(&mut admin, &format!("GRANT CONNECT ON DATABASE postgres TO {role}")).await;
    let opener = opener();
    let open = || async { opener.open(&request(vec![at(shared.port)], &role, password("x"))).await };
    assert!(refused_with(b"28000", open().await).contains("is not permitted to log in"));
    execute(&mut admin, &format!("ALTER ROLE {role} LOGIN CONNECTION LIMIT 1")).await;
    let first = open().await.expect("the first");
    assert!(refused_with(b"53300", open().await).contains("too many connections for role"));
    let mut nowhere = request(vec![at(shared.port)], &role, password("x"));
    nowhere.settings = vec![("database".into(), "no_such".into())];
    execute(&mut admin, &format!("ALTER ROLE {role} CONNECTION LIMIT -1")).await;
    refused_with(b"3D000", opener.open(&nowhere).await);
    let mut settings = request(vec![at(shared.port)], &role, password("x"));
    settings.settings = vec![("nope".into(), "1".into())];
    refused_with(b"42704", opener.open(&settings).await);
    drop(first);
    execute(&mut admin, &format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test]
async fn a_running_query_is_cancelled() {
    let shared = server().await;
    let opener = opener();
    let request = request(vec![at(shared.port)], "postgres", Proof::Password(shared.password.clone()));
    let mut opened = opener.open(&request).await.expect("opened");
    let (process, secret, address) = (opened.process, opened.secret.clone(), opened.address.clone());
    let asked = tokio::task::spawn_blocking(move || ask(&mut opened, "SELECT pg_sleep(15)"));
    let mut admin = shared.connect("postgres").await;
    eventually("the query runs", async || {
        let active = "SELECT 1 FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'";
        let process = i32::try_from(process).expect("a process");
        sqlx::query(active).bind(process).fetch_optional(&mut admin).await.expect("asked").map(|_| ())
    })
    .await;
    opener.cancel(&address, Encryption::Disabled, (process, &secret)).await.expect("sent");
    assert!(asked.await.expect("ended").contains("57014"));
}

/// For the server's eyes only, as it insists.
fn give(path: &Path, text: &str, data_dir: &Path) {
    std::fs::write(path, text).expect("written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("set");
    let owner = std::fs::metadata(data_dir).expect("there");
    chown(path, Some(owner.uid()), Some(owner.gid())).expect("given");
}

#[tokio::test]
async fn over_tls_the_login_is_bound_to_the_certificate() {
    let folder = open_folder();
    let mut cluster = Cluster::open(binaries(), folder.path()).expect("opened");
    cluster.init(&Secret::new("right")).await.expect("made");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
    give(&cluster.data_dir().join("server.crt"), &made.cert.pem(), &cluster.data_dir());
    give(&cluster.data_dir().join("server.key"), &made.signing_key.serialize_pem(), &cluster.data_dir());
    let settings = [test_settings(), vec![("ssl".into(), "on".into())]].concat();
    let port = start_on_free_port(&mut cluster, &settings).await;

    let mut asked = request(vec![at(port)], "postgres", password("right"));
    Arc::get_mut(&mut asked.entry).expect("ours alone").encryption = Encryption::Required;
    let opener = opener();
    // The server offers SCRAM-SHA-256-PLUS, so it is what is used; a wrong hash of the certificate would be refused.
    let mut opened = opener.open(&asked).await.expect("opened");
    assert_eq!(ask(&mut opened, "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"), "TLSv1.3");
    let second = opener.open(&asked).await.expect("a resumed session is bound as well");
    opener.cancel(&at(port), Encryption::Required, (second.process, &second.secret)).await.expect("over TLS too");
    // A query larger than one record, and its answer.
    let long = "x".repeat(100_000);
    assert_eq!(ask(&mut opened, &format!("SELECT '{long}'")), long);
    drop((opened, second));
    cluster.stop().await.expect("stopped");
}

/// A program of Postgres, as the user the servers run as.
fn run(program: &str, owner: &Path, arguments: &[&str]) {
    let meta = std::fs::metadata(owner).expect("there");
    let mut command = Command::new(binaries().dir().join(program));
    command.args(arguments).uid(meta.uid()).gid(meta.gid()).current_dir(owner);
    let done = command.env("PGPASSWORD", "right").output().expect("run");
    assert!(done.status.success(), "{program}: {}", String::from_utf8_lossy(&done.stderr));
}

#[tokio::test]
async fn row_122_a_promoted_standby_takes_the_connections_within_two_seconds() {
    let (folder, other) = (open_folder(), open_folder());
    let mut primary = Cluster::open(binaries(), folder.path()).expect("opened");
    primary.init(&Secret::new("right")).await.expect("made");
    let first = start_on_free_port(&mut primary, &test_settings()).await;
    let mut standby = Cluster::open(binaries(), other.path()).expect("opened");
    let copy = other.path().join("copy");
    let owner = std::fs::metadata(primary.data_dir()).expect("there");
    chown(other.path(), Some(owner.uid()), Some(owner.gid())).expect("given");
    let source = format!("host=127.0.0.1 port={first} user=postgres password=right");
    let target = copy.display().to_string();
    run("pg_basebackup", &primary.data_dir(), &["-D", &target, "-R", "-c", "fast", "-d", &source]);
    std::fs::rename(&copy, standby.data_dir()).expect("moved");
    let second = start_on_free_port(&mut standby, &test_settings()).await;

    // The standby is named first: it is not what counts.
    let (opener, asked) = (opener(), request(vec![at(second), at(first)], "postgres", password("right")));
    let mut opened = opener.open(&asked).await.expect("opened");
    assert_eq!(opened.address, at(first));
    assert_eq!(ask(&mut opened, "SELECT pg_is_in_recovery()"), "f");

    drop(opened);
    primary.stop().await.expect("stopped");
    // Clients wait while there is no writable server at all.
    let waiting = opener.open(&asked);
    let promoted = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let folder = standby.data_dir();
        let text = folder.display().to_string();
        tokio::task::spawn_blocking(move || run("pg_ctl", &folder, &["promote", "-D", &text]))
            .await
            .expect("promoted");
        Instant::now()
    };
    let found = async { (waiting.await.expect("found"), Instant::now()) };
    let ((mut opened, found), promoted) = tokio::join!(found, promoted);
    assert_eq!(opened.address, at(second));
    assert_eq!(ask(&mut opened, "SELECT pg_is_in_recovery()"), "f");
    let took = found.saturating_duration_since(promoted);
    assert!(took < Duration::from_secs(2), "{took:?}");

    // What was kept to last stays.
    let again = opener.open(&asked).await.expect("opened");
    assert_eq!(again.address, at(second));
    drop((opened, again));
    // A router that starts now knows nothing of that, and both take writes.
    primary.start(first, &test_settings(), Duration::from_secs(60)).await.expect("started again");
    for endpoints in [[second, first], [first, second]] {
        let asked = request(endpoints.map(at).to_vec(), "postgres", password("right"));
        let found = self::opener().open(&asked).await.expect("opened");
        assert_eq!(found.address, at(second), "the one that was promoted");
    }
    primary.stop().await.expect("stopped");
    standby.stop().await.expect("stopped");
}

fn administrator(shared: &Secret) -> Administrators {
    let proof = Proof::Password(shared.clone());
    // The first is refused, as `postgres` is on an adopted instance.
    Arc::new(move |_| vec![("o7s_nobody".into(), password("wrong")), ("postgres".into(), proof.clone())])
}

#[tokio::test]
async fn row_31_a_password_of_the_instance_is_looked_up_and_a_new_one_known_within_a_second() {
    let shared = server().await;
    let (role, mut admin) = (shared.fresh_database().await, shared.connect("postgres").await);
    execute(&mut admin, &format!("CREATE ROLE {role} SUPERUSER LOGIN PASSWORD 'first'")).await;
    let asked = request(vec![at(shared.port)], &role, Proof::Trust);
    let look_up = RoleLookUp::new(Arc::new(opener()), administrator(&shared.password), asked.budget);
    let fits = |found: Found, password: &str| {
        let Found::Verifier(verifier) = found else { return false };
        Verifier::from_password(&Secret::new(password), &verifier.salt) == verifier
    };
    assert!(fits(look_up.find(&asked.entry, &role).await.expect("read"), "first"), "a superuser too");
    assert_eq!(look_up.find(&asked.entry, "no such role").await, Ok(Found::Nobody));

    let count = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_authid%' AND pid <> pg_backend_pid()";
    for _ in 0..50 {
        look_up.find(&asked.entry, "invented").await.expect("known");
    }
    eventually("no session stays", async || {
        let (open,): (i64,) = sqlx::query_as(count).fetch_one(&mut admin).await.expect("asked");
        (open == 0).then_some(())
    })
    .await;

    execute(&mut admin, &format!("ALTER ROLE {role} PASSWORD 'second'")).await;
    let started = Instant::now();
    eventually("the new password is known", async || {
        fits(look_up.find(&asked.entry, &role).await.expect("read"), "second").then_some(())
    })
    .await;
    assert!(started.elapsed() < Duration::from_millis(1500), "{:?}", started.elapsed());

    // Row 29, and row 26.
    execute(&mut admin, &format!("ALTER ROLE {role} VALID UNTIL '2020-01-01'")).await;
    let becomes = async |expected: Found| {
        eventually("it is noticed", async || {
            (look_up.find(&asked.entry, &role).await.as_ref() == Ok(&expected)).then_some(())
        })
        .await;
    };
    becomes(Found::Nobody).await;
    let md5 = format!("SET password_encryption = md5; ALTER ROLE {role} VALID UNTIL 'infinity' PASSWORD 'old'");
    execute(&mut admin, &md5).await;
    becomes(Found::Md5).await;
    execute(&mut admin, &format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test]
async fn row_34_nothing_a_hostile_search_path_names_is_used_to_look_up() {
    let shared = server().await;
    let (role, mut admin) = (shared.fresh_database().await, shared.connect("postgres").await);
    let evil = format!(
        "CREATE ROLE {role} SUPERUSER LOGIN PASSWORD 'x'; CREATE SCHEMA {role};
         CREATE FUNCTION {role}.now() RETURNS timestamptz LANGUAGE sql AS $$ SELECT 'infinity'::timestamptz $$;
         ALTER ROLE {role} SET search_path = {role}, pg_catalog"
    );
    execute(&mut admin, &evil).await;
    let asked = request(vec![at(shared.port)], &role, Proof::Trust);
    let itself: Administrators = {
        let role = asked.role.clone();
        Arc::new(move |_| vec![(role.clone(), password("x"))])
    };
    execute(&mut admin, &format!("ALTER ROLE {role} VALID UNTIL '2999-01-01'")).await;
    let look_up = RoleLookUp::new(Arc::new(opener()), itself, asked.budget);
    let found = look_up.find(&asked.entry, &role).await;
    assert!(matches!(found, Ok(Found::Verifier(_))), "its `now` would say that the time is over: {found:?}");
    execute(&mut admin, &format!("DROP SCHEMA {role} CASCADE; DROP ROLE {role}")).await;
}

#[tokio::test]
async fn many_logins_at_once_make_one_reading() {
    let shared = server().await;
    let asked = request(vec![at(shared.port)], "postgres", Proof::Trust);
    let calls = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let (counted, proof) = (Arc::clone(&calls), Proof::Password(shared.password.clone()));
    let administrators: Administrators = Arc::new(move |_| {
        counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        vec![("postgres".into(), proof.clone())]
    });
    let look_up = RoleLookUp::new(Arc::new(opener()), administrators, asked.budget);
    let found = futures_util::future::join_all((0..100).map(|_| look_up.find(&asked.entry, "postgres"))).await;
    assert!(found.iter().all(|found| matches!(found, Ok(Found::Verifier(_)))));
    assert_eq!(calls.load(std::sync::atomic::Ordering::SeqCst), 1);
}
