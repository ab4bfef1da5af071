//! Logins over real sockets: what a client that behaves, and one that does not, gets to see.

use std::collections::HashMap;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::*;
use crate::manifest::{Identify, Pooling};
use crate::router::handover::Proof;
use crate::router::login::Bears;
use crate::router::protocol::scram::{ClientSecret, Offer, SCRAM, ScramClient, end_point};
use crate::router::table::{self, Encryption, Entry, Roles, State};
use crate::router::tls::PemFiles;
use crate::router::tls::tests::certificate;
use crate::tenancy::Secret;

const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

struct World {
    address: SocketAddr,
    clients: mpsc::Receiver<Client>,
    cancels: mpsc::Receiver<Cancel>,
    _serving: AbortOnDropHandle<()>,
    /// Their senders end with the world.
    _watched: (watch::Sender<Arc<Table>>, watch::Sender<Arc<Rules>>),
}

struct Tickets;

impl Tokens for Tickets {
    fn check<'a>(&'a self, token: &'a Secret) -> BoxFuture<'a, Result<Option<Bears>, Report<'static>>> {
        let right = token.expose() == "ticket";
        Box::pin(async move { Ok(right.then(|| Bears { tenant: "acme".into(), role: "acme".into(), lasts: None })) })
    }
}

fn entry(tenant: &str, login: table::Login, state: State) -> (Arc<str>, Arc<Entry>) {
    let entry = Entry {
        tenant: tenant.into(),
        instance: "shared-1".into(),
        database: tenant.into(),
        endpoints: Vec::new(),
        encryption: Encryption::Disabled,
        pooling: Pooling::Transaction,
        state,
        roles: Roles { named: [(tenant.into(), login)].into_iter().collect(), others: None },
        server_connections: 5,
        tier: "free".into(),
        allowance: None,
        upgrade: None,
        version: 1,
    };
    (tenant.into(), Arc::new(entry))
}

impl World {
    /// Tenants `open` (trust), `acme` (password `pencil`) and `gone` (the same, suspended).
    fn new(certificates: Vec<PemFiles>) -> World {
        World::with_room_for(LOGINS_MAX, certificates)
    }

    fn with_room_for(logins: usize, certificates: Vec<PemFiles>) -> World {
        let password = || table::Login::Password(Secret::new("pencil"));
        let entries: HashMap<_, _> = [
            entry("open", table::Login::Trust, State::Active),
            entry("acme", password(), State::Active),
            entry("gone", password(), State::Suspended),
        ]
        .into();
        let (table, tables) = watch::channel(Arc::new(Table { version: 1, entries, wildcard: None }));
        let identify = vec![Identify::Sni, Identify::User, Identify::Database, Identify::Jwt];
        let (rules, ruled) = watch::channel(Arc::new(Rules {
            identify,
            domain: Some("example".into()),
            notices: false,
            require_tls: false,
        }));
        let (on_client, clients) = mpsc::channel(100);
        let (on_cancel, cancels) = mpsc::channel(100);
        let tls = (!certificates.is_empty()).then(|| Arc::new(Tls::load(certificates).expect("loaded")));
        let doors = Doors {
            table: tables,
            rules: ruled,
            credentials: Credentials::new(None, [7; 32], None),
            tls,
            tokens: Some(Arc::new(Tickets)),
            handshakes: Handshakes::new(1),
            throttle: Mutex::default(),
            on_cancel: Box::new(move |cancel, _| {
                on_cancel.try_send(cancel).expect("room");
                Box::pin(std::future::ready(()))
            }),
            on_client: Arc::new(move |client| on_client.try_send(client).expect("room")),
        };
        let listener = bind("127.0.0.1:0".parse().expect("an address")).expect("bound");
        let address = listener.local_addr().expect("bound");
        let mut serving = tokio::task::JoinSet::new();
        serving.spawn(serve_at_most(logins, listener, Arc::new(doors), CancellationToken::new()));
        let serving = AbortOnDropHandle::new(TaskTracker::new().spawn(async move {
            serving.join_next().await;
        }));
        World { address, clients, cancels, _serving: serving, _watched: (table, rules) }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("connected")
    }

    async fn client(&mut self) -> Client {
        timeout(Duration::from_secs(5), self.clients.recv()).await.expect("in time").expect("a client")
    }
}

fn startup(fields: &[(&str, &str)]) -> Vec<u8> {
    let body: Vec<u8> = fields.iter().flat_map(|(name, value)| format!("{name}\0{value}\0").into_bytes()).collect();
    let length = u32::try_from(9 + body.len()).expect("small").to_be_bytes();
    [&length[..], &[0, 3, 0, 0], &body, &[0]].concat()
}

/// The next message: its type and its body.
async fn message(stream: &mut (impl AsyncRead + Unpin)) -> (u8, Vec<u8>) {
    let tag = stream.read_u8().await.expect("a message");
    let length = stream.read_u32().await.expect("a length") as usize;
    let mut body = vec![0; length - 4];
    stream.read_exact(&mut body).await.expect("a body");
    (tag, body)
}

/// Code and text of the error that comes next, after which the connection ends.
async fn error(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let (tag, body) = message(stream).await;
    assert_eq!(tag, b'E', "{body:?}");
    assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0, "closed");
    let text = String::from_utf8(body).expect("text");
    let field = |name| text.split('\0').find_map(|field| field.strip_prefix(name)).expect("there");
    format!("{} {}", field('C'), field('M'))
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), body: &[u8]) {
    let length = u32::try_from(4 + body.len()).expect("small").to_be_bytes();
    stream.write_all(&[b"p", &length[..], body].concat()).await.expect("sent");
    stream.flush().await.expect("sent");
}

/// Answers the request for SCRAM, up to the proof; the rest is the caller's.
async fn prove(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), password: &str, end_point: Option<Vec<u8>>) {
    let (_, offered) = message(stream).await;
    let offered = String::from_utf8_lossy(&offered[4..]).into_owned();
    let offer = Offer { plain: true, plus: offered.contains("PLUS"), end_point };
    let secret = ClientSecret::Password(Secret::new(password));
    let (mechanism, first, client) = ScramClient::start(secret, "client", offer).expect("offered");
    let length = u32::try_from(first.len()).expect("small").to_be_bytes();
    send(stream, &[mechanism.as_bytes(), b"\0", &length, &first].concat()).await;
    let (tag, challenge) = message(stream).await;
    assert_eq!((tag, challenge[3]), (b'R', 11), "{challenge:?}");
    let (last, _) = client.challenge(&challenge[4..]).expect("a challenge").answer();
    send(stream, &last).await;
}

#[tokio::test]
async fn a_trusted_client_is_handed_over_with_all_it_said() {
    let mut world = World::new(Vec::new());
    let mut stream = world.connect().await;
    let hello = startup(&[("user", "open~session"), ("application_name", ""), ("options", "-c a.b=1")]);
    stream.write_all(&[&hello[..], b"Q\0\0\0\x05\0"].concat()).await.expect("sent");
    let client = world.client().await;
    assert_eq!(client.unsent, [b'R', 0, 0, 0, 8, 0, 0, 0, 0]);
    assert_eq!(client.received, b"Q\0\0\0\x05\0", "what came early is not lost");
    assert!(client.stream.nodelay().expect("a socket"));
    let session = client.session;
    assert_eq!((&*session.role, session.pooling, session.minor), ("open", Pooling::Session, 0));
    assert_eq!(session.settings, [("a.b", "1"), ("application_name", "")].map(|(a, b)| (a.into(), b.into())));
    assert!(matches!(session.proof, Proof::Trust));
}

#[tokio::test]
async fn row_02_without_tls_it_is_declined_and_the_login_goes_on() {
    let mut world = World::new(Vec::new());
    let mut stream = world.connect().await;
    stream.write_all(&SSL_REQUEST).await.expect("sent");
    assert_eq!(stream.read_u8().await.expect("an answer"), b'N');
    stream.write_all(&startup(&[("user", "open")])).await.expect("sent");
    assert_eq!(&*world.client().await.session.entry.tenant, "open");
}

#[tokio::test]
async fn row_28_a_right_password_passes_and_whatever_is_wrong_is_told_in_one_text() {
    let mut world = World::new(Vec::new());
    let mut stream = world.connect().await;
    stream.write_all(&startup(&[("user", "acme")])).await.expect("sent");
    prove(&mut stream, "pencil", None).await;
    let client = world.client().await;
    assert_eq!((client.unsent[0], client.unsent[8]), (b'R', 12), "the server's proof comes with the rest");
    assert!(client.unsent.ends_with(&[b'R', 0, 0, 0, 8, 0, 0, 0, 0]));
    for user in ["acme", "nobody", "reader.acme", "reader.nobody"] {
        let mut stream = world.connect().await;
        stream.write_all(&startup(&[("user", user)])).await.expect("sent");
        prove(&mut stream, "wrong", None).await;
        let expected = format!("28P01 password authentication failed for user \"{user}\"");
        assert_eq!(error(&mut stream).await, expected);
    }
    assert!(world.clients.is_empty());
}

#[tokio::test]
async fn a_suspended_tenant_hears_it_after_the_right_password_only() {
    let world = World::new(Vec::new());
    for (password, expected) in [
        ("pencil", "57P03 tenant \"gone\" is suspended"),
        ("wrong", "28P01 password authentication failed for user \"gone\""),
    ] {
        let mut stream = world.connect().await;
        stream.write_all(&startup(&[("user", "gone")])).await.expect("sent");
        prove(&mut stream, password, None).await;
        assert_eq!(error(&mut stream).await, expected);
    }
}

#[tokio::test]
async fn row_33_only_wrong_answers_wait() {
    let mut world = World::new(Vec::new());
    let begun = Instant::now();
    for _ in 0..4 {
        let mut stream = world.connect().await;
        stream.write_all(&startup(&[("user", "acme")])).await.expect("sent");
        prove(&mut stream, "wrong", None).await;
        error(&mut stream).await;
    }
    assert!(begun.elapsed() >= Duration::from_millis(100), "the fourth waits");
    let mut waiting = world.connect().await;
    waiting.write_all(&startup(&[("user", "acme")])).await.expect("sent");
    prove(&mut waiting, "wrong", None).await;
    let mut stream = world.connect().await;
    stream.write_all(&startup(&[("user", "acme")])).await.expect("sent");
    prove(&mut stream, "pencil", None).await;
    world.client().await;
    let early = timeout(Duration::ZERO, waiting.read_u8()).await;
    assert!(early.is_err(), "the right one came first");
}

#[tokio::test]
async fn row_27_a_token_is_taken_as_the_password_on_the_loopback() {
    let mut world = World::new(Vec::new());
    for (user, token) in [("token", "ticket"), ("token.acme", "ticket"), ("token.open", "ticket"), ("token", "no")] {
        let mut stream = world.connect().await;
        stream.write_all(&startup(&[("user", user)])).await.expect("sent");
        assert_eq!(message(&mut stream).await, (b'R', vec![0, 0, 0, 3]));
        send(&mut stream, format!("{token}\0").as_bytes()).await;
        if user == "token.open" || token == "no" {
            assert_eq!(error(&mut stream).await, "28P01 password authentication failed for user \"token\"");
        } else {
            assert_eq!(&*world.client().await.session.role, "acme");
        }
    }
}

#[tokio::test]
async fn a_token_is_taken_by_oauthbearer_and_a_wrong_one_refused_as_libpq_expects_it() {
    let mut world = World::new(Vec::new());
    let hello = startup(&[("user", "somebody"), ("options", "-c o7s.auth=oauth")]);
    for token in ["ticket", "no"] {
        let mut stream = world.connect().await;
        stream.write_all(&hello).await.expect("sent");
        let offered = [&[0, 0, 0, 10][..], b"OAUTHBEARER\0\0"].concat();
        assert_eq!(message(&mut stream).await, (b'R', offered));
        let first = format!("n,,\x01auth=Bearer {token}\x01\x01");
        let length = u32::try_from(first.len()).expect("small").to_be_bytes();
        send(&mut stream, &[b"OAUTHBEARER\0", &length[..], first.as_bytes()].concat()).await;
        if token == "ticket" {
            let client = world.client().await;
            assert_eq!((&*client.session.role, &client.unsent[..]), ("acme", &b"R\0\0\0\x08\0\0\0\0"[..]));
        } else {
            let refusal = [&[0, 0, 0, 11][..], br#"{"status":"invalid_token"}"#].concat();
            assert_eq!(message(&mut stream).await, (b'R', refusal));
            send(&mut stream, b"\x01").await;
            assert_eq!(error(&mut stream).await, "28P01 password authentication failed for user \"token\"");
        }
    }
}

#[tokio::test]
async fn row_47_a_cancel_request_is_answered_by_nothing() {
    let mut world = World::new(Vec::new());
    let mut stream = world.connect().await;
    stream.write_all(&[0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 9, 1, 2, 3, 4]).await.expect("sent");
    assert_eq!(stream.read(&mut [0]).await.expect("closed"), 0);
    assert_eq!(world.cancels.recv().await, Some(Cancel { process: 9, secret: vec![1, 2, 3, 4] }));
}

#[tokio::test]
async fn row_07_and_14_garbage_is_refused_and_the_next_client_is_served() {
    let mut world = World::new(Vec::new());
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x7f, 0xff, 0xff, 0xff, 0, 3, 0, 0], &[0; 64]] {
        let mut stream = world.connect().await;
        stream.write_all(garbage).await.expect("sent");
        assert_eq!(error(&mut stream).await, "08P01 invalid length of startup packet");
    }
    let mut stream = world.connect().await;
    stream.write_all(&startup(&[("user", "open")])).await.expect("sent");
    world.client().await;
}

#[tokio::test]
async fn row_08_clients_that_say_nothing_do_not_keep_others_out() {
    let mut world = World::new(Vec::new());
    let mut silent = Vec::new();
    for _ in 0..300 {
        let mut stream = world.connect().await;
        stream.write_all(&[0]).await.expect("sent");
        silent.push(stream);
    }
    let begun = Instant::now();
    let mut stream = world.connect().await;
    stream.write_all(&startup(&[("user", "open")])).await.expect("sent");
    world.client().await;
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn row_08_where_silent_clients_take_all_room_the_first_of_them_goes() {
    let mut world = World::with_room_for(3, Vec::new());
    let mut silent = Vec::new();
    for _ in 0..3 {
        let mut stream = world.connect().await;
        stream.write_all(&[0]).await.expect("sent");
        silent.push(stream);
    }
    // One that has spoken is not silent: its password is waited for.
    for _ in 0..2 {
        let mut stream = world.connect().await;
        stream.write_all(&startup(&[("user", "acme")])).await.expect("sent");
        assert_eq!(message(&mut stream).await.0, b'R');
        silent.push(stream);
    }
    for gone in &mut silent[..2] {
        assert_eq!(gone.read(&mut [0]).await.unwrap_or(0), 0, "made room");
    }
    let begun = Instant::now();
    let mut stream = world.connect().await;
    stream.write_all(&startup(&[("user", "open")])).await.expect("sent");
    world.client().await;
    assert!(begun.elapsed() < LOGIN_MAX / 2);
    assert_eq!(silent[2].read(&mut [0]).await.unwrap_or(0), 0, "made room");
    for waiting in &silent[3..] {
        assert!(waiting.try_read(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock));
    }
}

#[tokio::test]
async fn row_116_a_client_is_asked_by_the_kernel_whether_it_is_still_there() {
    let mut world = World::new(Vec::new());
    let mut stream = world.connect().await;
    stream.write_all(&startup(&[("user", "open")])).await.expect("sent");
    let client = world.client().await;
    let socket = SockRef::from(&client.stream);
    let (time, interval, retries) = KEEPALIVE;
    assert!(socket.keepalive().expect("asked"));
    assert_eq!(socket.tcp_keepalive_time().expect("asked"), time);
    assert_eq!(socket.tcp_keepalive_interval().expect("asked"), interval);
    assert_eq!(socket.tcp_keepalive_retries().expect("asked"), retries);
}

/// Time stands still but for what the runtime waits for: the deadline comes as soon as nothing else does.
#[tokio::test(start_paused = true)]
async fn row_09_whoever_says_nothing_is_closed_at_the_deadline() {
    let world = World::new(Vec::new());
    let begun = Instant::now();
    let mut stream = world.connect().await;
    assert_eq!(stream.read(&mut [0]).await.expect("closed"), 0);
    let waited = begun.elapsed();
    assert!(waited >= LOGIN_MAX && waited < LOGIN_MAX * 2, "{waited:?}");
}

/// Logins that are begun by hand.
fn logins(doors: Doors) -> Arc<Logins> {
    Arc::new(Logins {
        doors: Arc::new(doors),
        begun: Instant::now(),
        ids: AtomicU64::new(1),
        tasks: TaskTracker::new(),
        room: Arc::new(Semaphore::new(1)),
        silent: Mutex::default(),
        waiting: Semaphore::new(1),
    })
}

fn doors_to_nothing() -> Doors {
    Doors {
        table: watch::channel(Arc::default()).1,
        rules: watch::channel(Arc::default()).1,
        credentials: Credentials::new(None, [7; 32], None),
        tls: None,
        tokens: Some(Arc::new(Tickets)),
        handshakes: Handshakes::new(1),
        throttle: Mutex::default(),
        on_cancel: Box::new(|_, _| Box::pin(std::future::ready(()))),
        on_client: Arc::new(drop),
    }
}

#[tokio::test]
async fn a_login_that_waits_is_small() {
    let world = World::new(Vec::new());
    let stream = world.connect().await;
    let logins = logins(doors_to_nothing());
    let room = logins.room().await.expect("open");
    let login = logins.login(stream, world.address, 1, room);
    assert!(size_of_val(&login) <= 4096, "{} bytes", size_of_val(&login));
}

/// From elsewhere than this machine. A route's own passwords are never sent, only proven (SCRAM); a token is.
#[tokio::test]
async fn row_06_whose_password_would_be_read_on_the_way_is_told_to_use_tls_before_it_is_asked() {
    let by_token = Rules { identify: vec![Identify::Jwt], ..Rules::default() };
    let tls_only = Rules { identify: vec![Identify::Database], require_tls: true, ..Rules::default() };
    for (rules, user) in [(by_token, "token"), (tls_only.clone(), "acme")] {
        let (tag, body) = said_from_afar(rules, user).await;
        assert_eq!(tag, b'E', "{body}");
        assert!(body.contains("C28000\0") && body.contains("sslmode=require"), "{body}");
    }
    // Without the rule a password is asked for, by SCRAM.
    assert_eq!(said_from_afar(Rules { require_tls: false, ..tls_only }, "acme").await.0, b'R');
}

/// The first message that a client from another machine hears, without TLS.
async fn said_from_afar(rules: Rules, user: &str) -> (u8, String) {
    let listener = bind("127.0.0.1:0".parse().expect("an address")).expect("bound");
    let connecting = TcpStream::connect(listener.local_addr().expect("bound"));
    let (client, accepted) = tokio::join!(connecting, listener.accept());
    let (mut client, (accepted, _)) = (client.expect("connected"), accepted.expect("accepted"));
    let logins = logins(Doors { rules: watch::channel(Arc::new(rules)).1, ..doors_to_nothing() });
    let room = logins.room().await.expect("open");
    client.write_all(&startup(&[("user", user), ("database", "acme")])).await.expect("sent");
    let peer = "203.0.113.9:40000".parse().expect("an address");
    let hearing = async move {
        let heard = message(&mut client).await;
        drop(client);
        heard
    };
    let ((tag, body), ()) = tokio::join!(hearing, logins.login(accepted, peer, 1, room));
    (tag, String::from_utf8_lossy(&body).into_owned())
}

mod with_tls {
    use super::*;
    use rustls::{ClientConfig, RootCertStore};
    use tokio_rustls::TlsConnector;
    use tokio_rustls::client::TlsStream;

    /// A client that trusts `files` and speaks `alpn`.
    fn connector(files: &[PemFiles], alpn: &[&[u8]]) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        for files in files {
            let certificate = CertificateDer::from_pem_file(&files.certificate).expect("a certificate");
            roots.add(certificate).expect("a root");
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = builder.expect("versions").with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }

    fn name(name: &str) -> ServerName<'static> {
        ServerName::try_from(name.to_owned()).expect("a name")
    }

    async fn secured(world: &World, files: &[PemFiles], server: &str) -> TlsStream<TcpStream> {
        let mut stream = world.connect().await;
        stream.write_all(&SSL_REQUEST).await.expect("sent");
        assert_eq!(stream.read_u8().await.expect("an answer"), b'S');
        connector(files, &[]).connect(name(server), stream).await.expect("a handshake")
    }

    #[tokio::test]
    async fn row_22_and_24_the_certificate_of_the_name_is_shown_and_bound_to() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = ["other.test", "acme.example"].map(|name| certificate(folder.path(), name));
        let mut world = World::new(files.to_vec());
        for (server, user) in [("acme.example", "acme"), ("other.test", "acme")] {
            let mut stream = secured(&world, &files, server).await;
            stream.write_all(&startup(&[("user", user)])).await.expect("sent");
            let shown = stream.get_ref().1.peer_certificates().expect("shown")[0].clone();
            prove(&mut stream, "pencil", end_point(&shown)).await;
            let client = world.client().await;
            assert!(client.tls.is_some_and(|tls| tls.server_name() == Some(server)));
            assert_eq!(&*client.session.role, "acme");
        }
    }

    #[tokio::test]
    async fn row_24_whoever_binds_to_another_certificate_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = [certificate(folder.path(), "acme.example")];
        let world = World::new(files.to_vec());
        let mut stream = secured(&world, &files, "acme.example").await;
        stream.write_all(&startup(&[("user", "acme")])).await.expect("sent");
        prove(&mut stream, "pencil", Some(vec![1; 32])).await;
        assert_eq!(error(&mut stream).await, "28P01 SCRAM channel binding check failed");
    }

    #[tokio::test]
    async fn row_23_a_client_that_was_told_of_no_binding_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = [certificate(folder.path(), "acme.example")];
        let world = World::new(files.to_vec());
        let mut stream = secured(&world, &files, "acme.example").await;
        stream.write_all(&startup(&[("user", "acme")])).await.expect("sent");
        message(&mut stream).await;
        let first = b"y,,n=,r=abc";
        let initial = [SCRAM.as_bytes(), b"\0", &[0, 0, 0, first.len() as u8], first].concat();
        send(&mut stream, &initial).await;
        assert!(error(&mut stream).await.starts_with("28P01 the client supports channel binding"));
    }

    #[tokio::test]
    async fn row_05_direct_tls_needs_its_protocol_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = [certificate(folder.path(), "open.example")];
        let mut world = World::new(files.to_vec());
        let direct = |alpn: &'static [&'static [u8]]| {
            let (connector, connecting) = (connector(&files, alpn), world.connect());
            async move { connector.connect(name("open.example"), connecting.await).await }
        };
        let mut right = direct(&[b"postgresql"]).await.expect("a handshake");
        assert!(direct(&[b"http/1.1"]).await.is_err(), "another protocol");
        if let Ok(mut none) = direct(&[]).await {
            assert_eq!(none.read(&mut [0]).await.unwrap_or(0), 0, "none at all");
        }
        right.write_all(&startup(&[("user", "open")])).await.expect("sent");
        assert_eq!(&*world.client().await.session.entry.tenant, "open");
    }

    #[tokio::test]
    async fn row_01_what_follows_the_request_in_the_clear_is_not_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut world = World::new(vec![certificate(folder.path(), "open.example")]);
        let mut stream = world.connect().await;
        let both = [&SSL_REQUEST[..], &startup(&[("user", "open")])].concat();
        stream.write_all(&both).await.expect("sent");
        assert_eq!(error(&mut stream).await, "08P01 received unencrypted data after SSL request");
        assert!(world.clients.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_broken_handshake_ends_with_an_alert_and_harms_nobody() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = [certificate(folder.path(), "open.example")];
        let mut world = World::new(files.to_vec());
        let mut broken = world.connect().await;
        broken.write_all(&[0x16, 3, 1, 0, 4, 1, 0, 0, 0]).await.expect("sent");
        assert_eq!(broken.read_u8().await.expect("an alert"), 0x15);
        let mut stream = secured(&world, &files, "open.example").await;
        stream.write_all(&startup(&[("user", "open")])).await.expect("sent");
        world.client().await;
    }

    #[tokio::test]
    async fn slow_handshakes_keep_nobody_out_for_long() {
        let handshakes = Handshakes::new(1);
        let never = || handshakes.run(std::future::pending::<()>());
        let slow = futures_util::future::join_all((0..8).map(|_| never()));
        let begun = Instant::now();
        tokio::select! {
            _ = slow => panic!("never ends"),
            () = async {
                tokio::task::yield_now().await;
                handshakes.run(std::future::ready(())).await;
            } => {}
        }
        assert!(begun.elapsed() < Duration::from_secs(1));
    }
}
