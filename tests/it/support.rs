//! What the tests share: one real Postgres server, started by the first test that needs it.
//!
//! Test runners differ: one process for all tests, or one a test. So the server belongs to no test. Each process that
//! uses it holds a shared lock on a file, which the kernel takes away however the process ends; a watchdog process
//! waits until it gets that lock alone, and then ends the server and removes its data.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use ogelnates::local::{Binaries, Cluster, ClusterError, free_port};
use ogelnates::tenancy::Secret;
use sqlx::{Connection as _, PgConnection};
use tokio::sync::OnceCell;

/// Makes this test binary the watchdog of the folder in it, instead of running tests.
const WATCHDOG_VARIABLE: &str = "O7S_TEST_WATCHDOG";
const WATCHDOG_TEST: &str = "support::a_server_ends_when_its_last_user_is_gone";
/// A runner with a process a test leaves gaps between users; starting anew costs more than waiting.
const LINGER: Duration = Duration::from_secs(5);
pub const START_MAX: Duration = Duration::from_secs(60);
/// How long a test waits for something that takes milliseconds on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The shared server. Databases on it are private to the test that made them; roles and settings are not.
pub struct Server {
    pub port: u16,
    pub password: Secret,
    /// Held until the process ends.
    _user: File,
}

pub async fn server() -> &'static Server {
    static SERVER: OnceCell<Server> = OnceCell::const_new();
    SERVER.get_or_init(|| async { Place::shared().join(LINGER).await }).await
}

impl Server {
    pub fn url(&self, database: &str) -> Secret {
        Secret::new(format!("postgresql://postgres:{}@127.0.0.1:{}/{database}", self.password.expose(), self.port))
    }

    pub async fn connect(&self, database: &str) -> PgConnection {
        PgConnection::connect(self.url(database).expose()).await.expect("the test server answers")
    }

    /// A database of its own for one test, under a name that no other test has.
    pub async fn fresh_database(&self) -> String {
        let name = format!("test_{}", uuid::Uuid::new_v4().simple());
        execute(&mut self.connect("postgres").await, &format!("CREATE DATABASE {name}")).await;
        name
    }
}

pub async fn execute(connection: &mut PgConnection, sql: &str) {
    let done = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(connection).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// Looks again and again until `look` finds something; fails after a generous bound.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

pub fn binaries() -> Binaries {
    let asked = std::env::var_os("O7S_PG_BIN").map(PathBuf::from);
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join(".o7s/postgres");
    Binaries::find(asked.as_deref(), &installed).expect("Postgres is installed; see scripts/install-postgres.sh")
}

/// A temporary folder that Postgres may enter even where the tests run as root.
pub fn open_folder() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("opened");
    folder
}

/// Where a server that processes share lives, with the locks beside it.
struct Place(PathBuf);

impl Place {
    /// The target folder, or where Postgres may not enter that (root's home), one like it among the temporary files.
    fn shared() -> Place {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("o7s-postgres");
        match Cluster::open(binaries(), &target.join("server")) {
            Err(ClusterError::ClosedFolder { .. }) => {
                let name = env!("CARGO_MANIFEST_DIR").replace('/', "-");
                Place(std::env::temp_dir().join(format!("o7s-postgres{name}")))
            }
            _ => Place(target),
        }
    }

    fn open(&self, name: &str) -> File {
        fs::create_dir_all(&self.0).expect("made");
        OpenOptions::new().append(true).create(true).open(self.0.join(name)).expect("opened")
    }

    fn cluster(&self) -> Cluster {
        Cluster::open(binaries(), &self.0.join("server")).expect("a folder for Postgres")
    }

    /// Uses the server, starting it where it does not run.
    async fn join(&self, linger: Duration) -> Server {
        let user = self.open("users.lock");
        user.lock_shared().expect("locked");
        let starting = self.open("start.lock");
        starting.lock().expect("locked");
        let cluster = self.cluster();
        let (port, password) = match cluster.process().filter(|process| process.ready) {
            Some(process) => (process.port, fs::read_to_string(self.0.join("password")).expect("written at start")),
            None => self.start(cluster).await,
        };
        self.watch(linger);
        Server { port, password: Secret::new(password), _user: user }
    }

    async fn start(&self, mut cluster: Cluster) -> (u16, String) {
        cluster.stop().await.expect("stopped");
        let _ = fs::remove_dir_all(cluster.data_dir());
        let password = uuid::Uuid::new_v4().simple().to_string();
        fs::write(self.0.join("password"), &password).expect("written");
        cluster.init(&Secret::new(&*password)).await.expect("made");
        let port = start_on_free_port(&mut cluster, &test_settings()).await;
        (port, password)
    }

    /// Starts a watchdog unless one is there.
    fn watch(&self, linger: Duration) {
        if self.open("watchdog.lock").try_lock().is_err() {
            return;
        }
        // Tokio's, because it reaps a child that is let go.
        let mut watchdog = tokio::process::Command::new(std::env::current_exe().expect("this test binary"));
        watchdog.args(["--exact", WATCHDOG_TEST, "--nocapture"]);
        watchdog.env(WATCHDOG_VARIABLE, format!("{}:{}", linger.as_millis(), self.0.display()));
        // Ctrl-C on the terminal ends the tests, and the watchdog after them.
        watchdog.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        watchdog.spawn().expect("started");
    }
}

pub async fn start_on_free_port(cluster: &mut Cluster, settings: &[(String, String)]) -> u16 {
    for _ in 0..5 {
        let port = free_port().expect("a free port");
        match cluster.start(port, settings, START_MAX).await {
            // Somebody took it in between.
            Err(ClusterError::PortTaken { .. }) => {}
            started => return started.map(|()| port).expect("started"),
        }
    }
    panic!("five free ports were taken, one after the other");
}

/// Fast rather than durable; with what the tests look at.
pub fn test_settings() -> Vec<(String, String)> {
    let settings = [
        ("wal_level", "logical"),
        ("fsync", "off"),
        ("synchronous_commit", "off"),
        ("full_page_writes", "off"),
        ("max_connections", "200"),
        ("shared_buffers", "64MB"),
        ("shared_preload_libraries", "pg_stat_statements"),
        // Above what all tests together send, or the counts of one push out those of another.
        ("pg_stat_statements.max", "50000"),
    ];
    settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
}

/// Waits until nobody uses the server, and ends it.
async fn keep_watch(order: &str) {
    let (linger, folder) = order.split_once(':').expect("linger:folder");
    let (linger, place) = (Duration::from_millis(linger.parse().expect("a number")), Place(PathBuf::from(folder)));
    let (watchdog, users) = (place.open("watchdog.lock"), place.open("users.lock"));
    if watchdog.try_lock().is_err() {
        return;
    }
    loop {
        users.lock().expect("locked");
        users.unlock().expect("unlocked");
        tokio::time::sleep(linger).await;
        if users.try_lock().is_ok() {
            break;
        }
    }
    // Whoever comes now waits for the lock, then finds no server and starts one, with a watchdog of its own.
    let mut cluster = place.cluster();
    cluster.stop().await.expect("stopped");
    let _ = fs::remove_dir_all(cluster.data_dir());
    watchdog.unlock().expect("unlocked");
}

#[tokio::test]
async fn a_server_ends_when_its_last_user_is_gone() {
    if let Ok(order) = std::env::var(WATCHDOG_VARIABLE) {
        return keep_watch(&order).await;
    }
    let folder = open_folder();
    let place = Place(folder.path().to_owned());
    let (first, second) = (place.join(Duration::ZERO).await, place.join(Duration::ZERO).await);
    assert_eq!(first.port, second.port, "both use one server");
    eventually("the watchdog is there", async || place.open("watchdog.lock").try_lock().is_err().then_some(())).await;
    drop(first);
    second.connect("postgres").await;
    drop(second);
    eventually("the server is gone", async || place.cluster().process().is_none().then_some(())).await;
    // It removes the data last; the folder must not vanish under it.
    eventually("the watchdog is gone", async || place.open("watchdog.lock").try_lock().ok()).await;
}
