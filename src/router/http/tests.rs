//! Over real sockets on the loopback, with tokens that are plain words.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

use super::super::login::Bears;
use super::super::protocol::error::{Report, SqlState};
use super::super::table::{Encryption, Entry, Login, Roles, State};
use super::super::worker::Counts;
use super::*;
use crate::manifest::Pooling;
use crate::store::{Gap, UsageRow};
use crate::tenancy::{Secret, Usage};

/// `acme` and `acme/reader` are tokens of acme; `broken` cannot be told.
struct Words;

impl Tokens for Words {
    fn check<'a>(&'a self, token: &'a Secret) -> BoxFuture<'a, Result<Option<Bears>, Report<'static>>> {
        Box::pin(async move {
            let (tenant, role) = match token.expose() {
                "broken" => return Err(Report::fatal(SqlState::CANNOT_CONNECT_NOW, "no keys")),
                text if text.starts_with("wrong") => return Ok(None),
                text => text.split_once('/').map_or((text, text), |parts| parts),
            };
            Ok(Some(Bears { tenant: tenant.to_owned(), role: role.to_owned(), lasts: None }))
        })
    }
}

fn entry(tenant: &str, state: State) -> (Arc<str>, Arc<Entry>) {
    let named = [tenant.to_owned(), format!("{tenant}_reader"), "zoë".to_owned()];
    let entry = Entry {
        tenant: tenant.into(),
        instance: "shared-1".into(),
        database: tenant.into(),
        endpoints: Vec::new(),
        encryption: Encryption::Disabled,
        pooling: Pooling::Transaction,
        state,
        roles: Roles { named: named.iter().map(|role| (role.as_str().into(), Login::Trust)).collect(), others: None },
        server_connections: 5,
        tier: "pro".into(),
        allowance: None,
        upgrade: None,
        version: 3,
    };
    (tenant.into(), Arc::new(entry))
}

fn report(tenant: &str, clients: u32) -> TenantReport {
    let counts = Counts { queries: 7, bytes_out: 1 << 33, wait_micros: 1_500_000, ..Counts::default() };
    TenantReport {
        tenant: tenant.into(),
        instance: "shared-1".into(),
        tier: "pro".into(),
        version: 3,
        paused: false,
        clients,
        waiting: 1,
        pinned: 0,
        servers: 2,
        idle_servers: 1,
        counts,
    }
}

/// A row that names what was asked for; a week ago nothing can be read.
fn told(filter: &UsageFilter) -> Result<UsageReport, ()> {
    if filter.since == 604_800 {
        return Err(());
    }
    let tenant = filter.tenant.as_ref().expect("somebody's").to_string();
    let usage = Usage { reads: filter.since, ..Usage::default() };
    let row = UsageRow { tenant, at: DateTime::UNIX_EPOCH, usage };
    let gap = Gap { router: "main".into(), since: DateTime::UNIX_EPOCH, until: DateTime::UNIX_EPOCH };
    let (since, until) = (DateTime::UNIX_EPOCH, DateTime::UNIX_EPOCH);
    Ok(UsageReport { since, until, step: filter.step, rows: vec![row], gaps: vec![gap], storage: Vec::new() })
}

struct Server {
    url: String,
    address: std::net::SocketAddr,
    table: watch::Sender<Arc<Table>>,
    condition: watch::Sender<Condition>,
    delivery: watch::Sender<Delivery>,
    http: reqwest::Client,
    stop: CancellationToken,
    task: JoinSet<()>,
}

impl Server {
    async fn start(reports: Vec<TenantReport>) -> Server {
        let paused = State::Paused { patience: Duration::from_secs(1) };
        let entries =
            [("acme", State::Active), ("moving", paused), ("late", State::Suspended), ("gone", State::Retired)];
        let entries = entries.into_iter().map(|(name, state)| entry(name, state)).collect();
        let (table, tables) = watch::channel(Arc::new(Table { version: 3, entries, ..Table::default() }));
        let (condition, conditions) = watch::channel(Condition::default());
        let taken = DateTime::from_timestamp(1_800_000_000, 0).expect("a time");
        let (delivery, deliveries) = watch::channel(Delivery { waiting: 2, taken, fails: false });
        let rules = Rules {
            identify: Vec::new(),
            domain: Some("db.example.com".to_owned()),
            notices: false,
            require_tls: false,
        };
        let state = HttpState {
            table: tables,
            rules: watch::channel(Arc::new(rules)).1,
            requests: None,
            tokens: Some(Arc::new(Words)),
            condition: conditions,
            reports: Box::new(move || Box::pin(std::future::ready(reports.clone()))),
            usage: Some(Box::new(|filter| Box::pin(std::future::ready(told(&filter))))),
            delivery: Some(deliveries),
            replica: 4,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (stop, mut task) = (CancellationToken::new(), JoinSet::new());
        task.spawn(serve_http(listener, Arc::new(state), stop.clone()));
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        Server { url: format!("http://{address}"), address, table, condition, delivery, http, stop, task }
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let answer = self.http.get(format!("{}{path}", self.url)).send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("a body"))
    }

    async fn authorize(&self, headers: &[(&str, &str)]) -> reqwest::Response {
        // A gateway sends its client's method on.
        let request = self.http.post(format!("{}/v1/authorize", self.url));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.send().await.expect("an answer")
    }
}

#[tokio::test]
async fn it_is_ready_with_routes_and_says_why_when_it_is_not() {
    let server = Server::start(Vec::new()).await;
    assert_eq!(server.get("/healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(server.get("/readyz").await, (200, "{\"ready\":true,\"reasons\":[],\"warnings\":[]}\n".to_owned()));
    server.table.send_replace(Arc::new(Table::default()));
    let since = DateTime::from_timestamp(1_800_000_000, 0);
    server.condition.send_replace(Condition { stale_since: since, draining: true });
    server.delivery.send_modify(|delivery| delivery.fails = true);
    insta::assert_snapshot!(server.get("/readyz").await.1.trim_end(), @r#"{"ready":false,"reasons":["no routes have been read yet","the router is stopping"],"warnings":["the control database cannot be followed since 2027-01-15 08:00:00 UTC; the routes of then are served","the control database takes no usage since 2027-01-15 08:00:00 UTC; 2 lines of it wait here"]}"#);
    assert_eq!(
        (server.get("/readyz").await.0, server.get("/healthz").await.0, server.get("/x").await.0),
        (503, 200, 404)
    );
}

#[tokio::test]
async fn a_right_token_passes_and_says_who_it_is() {
    let server = Server::start(Vec::new()).await;
    let named = |answer: &reqwest::Response| {
        let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().expect("text").to_owned());
        [header("x-o7s-tenant"), header("x-o7s-tier"), header("x-o7s-role")].map(Option::unwrap_or_default)
    };
    for headers in [
        &[("authorization", "Bearer acme/reader.acme")][..],
        &[("x-api-key", "acme/acme_reader"), ("x-forwarded-host", "acme.db.example.com:8443")],
        &[("apikey", "acme/reader.acme"), ("x-forwarded-host", "ACME.db.example.com")],
        &[
            ("authorization", "bearer acme/acme_reader"),
            ("apikey", "acme/acme_reader"),
            ("x-forwarded-host", "other.org"),
        ],
    ] {
        let answer = server.authorize(headers).await;
        assert_eq!(
            (answer.status().as_u16(), named(&answer)),
            (200, ["acme", "pro", "acme_reader"].map(String::from))
        );
    }
    let owner = server.authorize(&[("authorization", "Bearer acme")]).await;
    assert_eq!(named(&owner), ["acme", "pro", "acme"].map(String::from));
}

#[tokio::test]
async fn whoever_may_not_pass_is_told_in_one_shape() {
    let server = Server::start(Vec::new()).await;
    let mut said = String::new();
    for headers in [
        &[][..],
        &[("authorization", "Basic YTpi")],
        &[("authorization", "Bearer acme"), ("x-api-key", "acme/reader.acme")],
        &[("authorization", "Bearer wrong")],
        &[("authorization", "Bearer acme"), ("x-forwarded-host", "late.db.example.com, gateway")],
        &[("authorization", "Bearer nobody")],
        &[("authorization", "Bearer acme/writer.acme")],
        &[("authorization", "Bearer moving")],
        &[("authorization", "Bearer late")],
        &[("authorization", "Bearer gone")],
        &[("authorization", "Bearer broken")],
    ] {
        let answer = server.authorize(headers).await;
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        let challenge =
            answer.headers().get("www-authenticate").map(|value| value.to_str().expect("text").to_owned());
        assert_eq!(answer.status() == 401, challenge.is_some());
        said.push_str(&answer.text().await.expect("a body"));
    }
    insta::assert_snapshot!(said);
}

#[tokio::test]
async fn metrics_name_the_first_tenants_and_sum_the_rest() {
    let server = Server::start(vec![report("acme", 3), report("a\"b\\c", 1)]).await;
    insta::assert_snapshot!(server.get("/metrics").await.1);
    let many: Vec<_> = (0..metrics::TENANTS_MAX + 3).map(|n| report(&format!("t{n:04}"), 2)).collect();
    let text = Server::start(many).await.get("/metrics").await.1;
    let of = |tenant: &str| text.lines().filter(|line| line.contains(&format!("tenant=\"{tenant}\""))).count();
    assert_eq!((of("t0000"), of("t0499"), of("t0500"), of("~other")), (13, 13, 0, 13));
    assert!(text.contains("o7s_router_clients{tenant=\"~other\"} 6\n"), "{text}");
}

#[tokio::test]
async fn the_status_is_what_its_reader_reads() {
    let server = Server::start(vec![report("acme", 3), report("left", 0)]).await;
    let status: Status = serde_json::from_str(&server.get("/v1/status").await.1).expect("a status");
    assert_eq!((status.replica, status.table_version, status.routes, status.ready), (4, 3, 4, true));
    let tenants: Vec<_> =
        status.tenants.iter().map(|one| (one.tenant.as_str(), one.state.as_str(), one.clients)).collect();
    assert_eq!(tenants, [("acme", "active", 3), ("left", "gone", 0)]);
    let posted = server.http.post(format!("{}/v1/status", server.url)).send().await.expect("an answer");
    assert_eq!(posted.status(), 405);
}

#[tokio::test]
async fn a_huge_head_and_a_huge_body_are_not_taken_in() {
    let server = Server::start(Vec::new()).await;
    let mut socket = TcpStream::connect(server.address).await.expect("connects");
    let huge = format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx-pad: {}\r\n\r\n", "x".repeat(2 * HEAD_BYTES_MAX));
    let _ = socket.write_all(huge.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");

    let mut socket = TcpStream::connect(server.address).await.expect("connects");
    let request = "POST /v1/authorize HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n";
    socket.write_all(request.as_bytes()).await.expect("writes");
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.expect("an answer, and the end");
    assert!(String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 401"));
}

#[tokio::test]
async fn it_stops_when_told_although_a_connection_is_open() {
    let mut server = Server::start(Vec::new()).await;
    assert_eq!(server.get("/healthz").await.0, 200);
    let _half = TcpStream::connect(server.address).await.expect("connects");
    server.stop.cancel();
    let ended = timeout(Duration::from_secs(5), server.task.join_next()).await;
    assert!(matches!(ended, Ok(Some(Ok(())))));
}

#[test]
fn the_pages_name_every_metric_and_every_header() {
    let (page, recipes) =
        (include_str!("../../../docs/router-http.md"), include_str!("../../../docs/forward-auth.md"));
    for name in metrics::names() {
        assert!(page.contains(&format!("| `{name}` |")), "docs/router-http.md does not name {name}");
    }
    assert!(page.contains(&format!("The first {} tenants", metrics::TENANTS_MAX)));
    let recipes: Vec<&str> = recipes.split("\n## ").skip(1).collect();
    assert_eq!(recipes.len(), 3);
    for recipe in recipes {
        for name in ["/v1/authorize", "X-Forwarded-Host", "X-O7s-Tenant", "X-O7s-Tier", "X-O7s-Role"] {
            assert!(recipe.contains(name), "a recipe does not name {name}: {recipe}");
        }
    }
}

#[tokio::test]
async fn a_tenant_reads_its_own_usage_with_its_token_and_nobody_elses() {
    let server = Server::start(Vec::new()).await;
    let get = async |path: &str, token: Option<&str>| {
        let request = server.http.get(format!("{}{path}", server.url));
        let request = token.iter().fold(request, |request, token| request.bearer_auth(token));
        let answer = request.send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("a body"))
    };
    let (status, body) = get("/v1/usage", Some("acme")).await;
    let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((status, &body["rows"][0]["tenant"], &body["step"]), (200, &json!("acme"), &json!(3600)));
    assert_eq!(body["rows"][0]["usage"]["reads"], json!(86_400));
    assert_eq!(body["rows"][0]["usage"]["writes"], json!(0), "every counter is there");
    assert_eq!(body["gaps"][0].get("router"), None);
    let (_, body) = get("/v1/usage?since=2h&step=1m", Some("acme/reader")).await;
    assert!(body.contains("\"reads\":7200") && body.contains("\"step\":60"), "{body}");
    for (path, token, wanted) in [
        ("/v1/usage", None, 401),
        ("/v1/usage", Some("wrong"), 401),
        ("/v1/usage", Some("broken"), 503),
        ("/v1/usage?tenant=beta", Some("acme"), 400),
        ("/v1/usage?since=1s", Some("acme"), 400),
        ("/v1/usage?since=7d", Some("acme"), 503),
        ("/v1/usage", Some("NOBODY"), 403),
    ] {
        assert_eq!(get(path, token).await.0, wanted, "{path} {token:?}");
    }
}
