//! A router in this process, in front of a database that one test has for itself.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ogelnates::manifest::{Identify, Pooling};
use ogelnates::router::identify::Rules;
use ogelnates::router::leasing::{LeaseBook, Leasing};
use ogelnates::router::requests::Requests;
use ogelnates::router::serve::{Config, Running, Sources, start};
use ogelnates::router::table::{Allowance, Encryption, Entry, Login, Logins, Roles, State, Table};
use ogelnates::router::worker::{Counts, Team, TenantReport, Timing};
use ogelnates::store::Escrow;
use ogelnates::tenancy::{Address, Secret, Upgrade, Usage};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::wire::{Client, Door, Message, shown};
use crate::support::{PATIENCE, server};

pub struct World {
    runtime: Runtime,
    running: Option<Running>,
    table: watch::Sender<Arc<Table>>,
    rules: watch::Sender<Arc<Rules>>,
    entry: Mutex<Entry>,
    pub database: String,
    port: u16,
    server: u16,
    password: Secret,
    metered: Arc<Mutex<Usage>>,
    pub control: Option<crate::store::World>,
    /// They end with the world.
    tasks: JoinSet<()>,
}

/// What a test may want otherwise.
pub struct Wish {
    pub pooling: Pooling,
    pub servers: u32,
    pub timing: Timing,
    /// Another server than the shared one.
    pub at: Option<u16>,
    pub notices: bool,
    /// Ceilings, and a control database that gives out parts of them.
    pub allowance: Option<Allowance>,
}

impl Default for Wish {
    fn default() -> Wish {
        Wish {
            pooling: Pooling::Transaction,
            servers: 1,
            timing: Timing::default(),
            at: None,
            notices: false,
            allowance: None,
        }
    }
}

/// Clients pool transactions, and share one server connection.
pub fn world() -> World {
    World::new(Wish::default())
}

impl World {
    #[expect(clippy::too_many_lines, reason = "one list of what a router is made of")]
    pub fn new(wish: Wish) -> World {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let (shared, database) = runtime.block_on(async {
            let shared = server().await;
            (shared, shared.fresh_database().await)
        });
        let server = wish.at.unwrap_or(shared.port);
        let entry = Entry {
            tenant: database.as_str().into(),
            instance: "pg-a".into(),
            database: database.as_str().into(),
            endpoints: vec![Address { host: "127.0.0.1".into(), port: server }],
            encryption: Encryption::Disabled,
            pooling: wish.pooling,
            state: State::Active,
            roles: Roles { named: Logins::default(), others: Some(Login::Password(shared.password.clone())) },
            server_connections: wish.servers,
            tier: "pro".into(),
            allowance: wish.allowance.clone().map(Arc::new),
            upgrade: wish.allowance.as_ref().map(|_| upgrade()),
            version: 1,
        };
        let book = Arc::<LeaseBook>::default();
        let metered = Arc::<Mutex<Usage>>::default();
        let (table, tables) = watch::channel(Arc::new(table_of(&entry)));
        let identify =
            Rules { identify: vec![Identify::Database], domain: None, notices: wish.notices, require_tls: false };
        let (rules, rule) = watch::channel(Arc::new(identify));
        let rule_again = rule.clone();
        let sources = Sources {
            table: tables,
            rules: rule,
            keys: None,
            tokens: None,
            administrators: Arc::new(|_| Vec::new()),
            applied: Box::new(|_, _| {}),
            metered: {
                let metered = Arc::clone(&metered);
                Box::new(move |counted| {
                    let mut sum = metered.lock().expect("not poisoned");
                    counted.iter().for_each(|counted| sum.add(&counted.usage));
                })
            },
            leases: Arc::clone(&book),
            peer: Arc::new(|_| None),
        };
        let config = Config {
            listen: "127.0.0.1:0".parse().expect("an address"),
            certificates: Vec::new(),
            workers: 1,
            timing: wish.timing,
            wake: Duration::from_secs(5),
            drain: Duration::ZERO,
        };
        let running = runtime.block_on(async { start(&config, sources) }).expect("started");
        let mut tasks = JoinSet::new();
        let control = wish.allowance.is_some().then(|| {
            let url = |database: &str| shared.url(database);
            let lease = Leases { url: &url, team: running.team().clone(), book, rules: rule_again };
            runtime.block_on(lease.start(&entry, &mut tasks))
        });
        World {
            port: running.address.port(),
            running: Some(running),
            table,
            rules,
            entry: Mutex::new(entry),
            server,
            password: shared.password.clone(),
            database,
            metered,
            control,
            tasks,
            runtime,
        }
    }

    fn door(&self, port: u16) -> Door<'_> {
        Door { port, database: &self.database, role: "postgres", password: &self.password }
    }

    /// Through the router.
    pub fn client(&self) -> Client {
        self.client_with(&[]).expect("logged in")
    }

    pub fn client_with(&self, settings: &[(&str, &str)]) -> Result<Client, String> {
        Client::connect(self.door(self.port), settings)
    }

    /// Hangs up when its login is not answered for so long.
    pub fn client_within(&self, patience: Duration) -> Result<Client, String> {
        Client::connect_within(self.door(self.port), &[], patience)
    }

    /// Past the router.
    pub fn direct(&self) -> Client {
        self.direct_with(&[]).expect("logged in")
    }

    pub fn direct_with(&self, settings: &[(&str, &str)]) -> Result<Client, String> {
        Client::connect(self.door(self.server), settings)
    }

    /// Where Postgres is, and the password of its superuser.
    pub fn server(&self) -> (u16, &Secret) {
        (self.server, &self.password)
    }

    /// What was counted of the tenant.
    pub fn counts(&self) -> Counts {
        self.report().counts
    }

    /// Those that wait to be let in among them.
    pub fn clients(&self) -> u32 {
        self.report().clients
    }

    /// Of the control database that gives out the ceilings.
    pub fn control_value(&self, sql: &str) -> String {
        let control = self.control.as_ref().expect("with ceilings");
        self.runtime.block_on(async {
            let mut connection = server().await.connect(&control.database).await;
            sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned())).fetch_one(&mut connection).await.expect("read")
        })
    }

    fn report(&self) -> TenantReport {
        let (sender, reports) = std::sync::mpsc::channel();
        let running = self.running.as_ref().expect("running");
        running.team().report(&move |report| sender.send(report).expect("waited for"));
        let report = reports.recv_timeout(PATIENCE).expect("a report");
        report.tenants.iter().find(|tenant| *tenant.tenant == *self.database).expect("known").clone()
    }

    /// The router's server connections to the database, by their process numbers.
    pub fn backends(&self) -> String {
        self.direct().value(
            "SELECT coalesce(string_agg(pid::text, ','), '') FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
    }

    /// Gives the tenant's route another state.
    pub fn set_state(&self, state: State) {
        self.change(|entry| entry.state = state);
    }

    /// Gives the tenant other ceilings.
    pub fn allow(&self, allowance: Allowance) {
        self.change(|entry| entry.allowance = Some(Arc::new(allowance)));
        let entry = self.entry.lock().expect("not poisoned").clone();
        self.runtime.block_on(publish(self.control.as_ref().expect("with ceilings"), &entry));
    }

    /// What `o7s reconcile --watch` would have measured.
    pub fn stored(&self, bytes: u64) {
        let sizes = Arc::new([(self.database.clone(), bytes)].into());
        self.running.as_ref().expect("running").team().stored(&sizes);
    }

    fn change(&self, change: impl FnOnce(&mut Entry)) {
        let mut entry = self.entry.lock().expect("not poisoned");
        entry.version += 1;
        change(&mut entry);
        let table = Arc::new(table_of(&entry));
        self.table.send_replace(Arc::clone(&table));
        self.running.as_ref().expect("running").team().table(&table);
    }

    /// Sends the same bytes to Postgres directly and through the router, and then closes. The answers must be the same, byte
    /// for byte; they are shown.
    pub fn compare(&self, bytes: &[u8]) -> String {
        self.compare_with(&[], bytes)
    }

    pub fn compare_with(&self, settings: &[(&str, &str)], bytes: &[u8]) -> String {
        let answers = |mut client: Client| -> Vec<Message> {
            let mut writer = client.second();
            let bytes = bytes.to_vec();
            let writing = std::thread::spawn(move || {
                let _ = std::io::Write::write_all(&mut writer, &bytes);
                let _ = writer.shutdown(std::net::Shutdown::Write);
            });
            let answers = client.rest();
            writing.join().expect("written");
            answers
        };
        let direct = answers(self.direct_with(settings).expect("logged in"));
        let through = answers(self.client_with(settings).expect("logged in"));
        assert_eq!(shown(&through), shown(&direct));
        assert!(through == direct, "the same letters, other bytes: {through:?}\n{direct:?}");
        shown(&direct)
    }

    /// All that the worker has counted.
    pub fn usage(&self) -> Usage {
        let team = self.running.as_ref().expect("running").team();
        let (asked, answer) = std::sync::mpsc::channel();
        team.meter(&move || asked.send(()).unwrap_or_default());
        answer.recv_timeout(PATIENCE).expect("answered");
        self.handed_over()
    }

    pub fn handed_over(&self) -> Usage {
        *self.metered.lock().expect("not poisoned")
    }

    pub fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            self.runtime.block_on(running.stop());
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop();
            self.tasks.abort_all();
            self.rules.send_modify(|_| {});
        }
    }
}

/// What gives out parts of the ceilings.
struct Leases<'a> {
    url: &'a (dyn Fn(&str) -> Secret + Sync),
    team: Team,
    book: Arc<LeaseBook>,
    rules: watch::Receiver<Arc<Rules>>,
}

impl Leases<'_> {
    async fn start(self, entry: &Entry, tasks: &mut JoinSet<()>) -> crate::store::World {
        let control = crate::store::World::migrated().await;
        publish(&control, entry).await;
        let escrow = Escrow::new(&(self.url)(&control.database), PATIENCE, uuid::Uuid::new_v4());
        let requests = Arc::new(Requests::new(Arc::clone(&self.book), Box::new(drop)));
        let Leases { team, book, rules, .. } = self;
        let leasing = Leasing { escrow: escrow.expect("a good URL"), team, requests, book, rules };
        tasks.spawn(leasing.run(CancellationToken::new()));
        control
    }
}

fn upgrade() -> Upgrade {
    let (message, url) = (Some("20 connections".into()), Some("https://example.com/upgrade".into()));
    Upgrade { to: "starter".into(), message, url }
}

/// The route behind the ceilings, as the control database has it.
async fn publish(control: &crate::store::World, entry: &Entry) {
    let mut lease = control.lease().await;
    let mut route = crate::store::route("acme");
    if let Some(allowance) = &entry.allowance {
        (route.limits, route.over_limit) = (allowance.limits.clone(), allowance.over.clone());
    }
    lease.publish_routes(&[route], &[], &[]).await.expect("published");
    // Databases of tests have names that tenants cannot have.
    control.sql("DELETE FROM o7s.routes WHERE tenant <> 'acme'").await;
    control.sql(&format!("UPDATE o7s.routes SET tenant = '{}'", entry.tenant)).await;
}

fn table_of(entry: &Entry) -> Table {
    let entries = [(Arc::clone(&entry.tenant), Arc::new(entry.clone()))].into();
    Table { version: entry.version, entries, wildcard: None }
}

/// Looks again and again until it is so.
pub fn soon(what: &str, mut look: impl FnMut() -> bool) {
    let begun = tokio::time::Instant::now();
    while !look() {
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
