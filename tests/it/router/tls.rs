//! Rows 1, 5, 7, 137 and 138: TLS that fails, ends without a word, or never comes; half-open sockets; the size of records.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use socket2::SockRef;

use super::process::Process;
use super::wire::*;
use super::world::{soon, world};

const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
const APPLICATION_DATA: u8 = 23;
const ALERT: u8 = 21;
const FATAL: u8 = 2;

/// Takes one client in plain and brings it to a router inside TLS. When the client goes, its socket is closed without a
/// goodbye.
struct Bridge {
    port: u16,
    /// What the router sent, as it was on the wire.
    heard: Arc<Mutex<Vec<u8>>>,
    _thread: JoinHandle<()>,
}

impl Bridge {
    fn to(router: &Process<'_>) -> Bridge {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(router.certificate()).expect("read")).expect("trusted");
        let config = Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth());
        let tls = ClientConnection::new(config, ServerName::try_from("localhost").expect("a name")).expect("set up");
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let port = listener.local_addr().expect("bound").port();
        let mut raw = router.connect();
        raw.write_all(&SSL_REQUEST).expect("sent");
        raw.read_exact(&mut [0]).expect("an answer");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&heard);
        let thread = std::thread::spawn(move || {
            let (plain, _) = listener.accept().expect("a client");
            // Either side may end at any time.
            let _ = pass(plain, raw, tls, &noted);
        });
        Bridge { port, heard, _thread: thread }
    }
}

fn pass(
    mut plain: TcpStream,
    mut raw: TcpStream,
    mut tls: ClientConnection,
    heard: &Mutex<Vec<u8>>,
) -> std::io::Result<()> {
    let mut part = [0; 32 * 1024];
    let patience = Some(Duration::from_millis(1));
    plain.set_read_timeout(patience)?;
    raw.set_read_timeout(patience)?;
    loop {
        while tls.wants_write() {
            tls.write_tls(&mut raw)?;
        }
        match plain.read(&mut part) {
            Ok(0) => return Ok(()),
            Ok(read) => tls.writer().write_all(&part[..read])?,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        let read = match raw.read(&mut part) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        heard.lock().expect("no panic").extend_from_slice(&part[..read]);
        let mut rest = &part[..read];
        while !rest.is_empty() {
            tls.read_tls(&mut rest)?;
            let state = tls.process_new_packets().map_err(std::io::Error::other)?;
            let mut text = vec![0; state.plaintext_bytes_to_read()];
            tls.reader().read_exact(&mut text)?;
            plain.write_all(&text)?;
        }
    }
}

/// The bytes of each record of application data.
fn records(mut bytes: &[u8]) -> Vec<usize> {
    let mut sizes = Vec::new();
    while let Some((&[kind, _, _, high, low], rest)) = bytes.split_first_chunk::<5>() {
        let size = usize::from(u16::from_be_bytes([high, low]));
        if kind == APPLICATION_DATA {
            sizes.push(size);
        }
        bytes = rest.get(size..).unwrap_or_default();
    }
    sizes
}

#[test]
fn row_137_tls_that_ends_without_a_goodbye_is_an_end_like_any_other() {
    let world = world();
    let router = Process::start(&world, "true", true);
    world.direct().ask("CREATE TABLE t (a int)");
    let log = router.log();
    for stage in ["SELECT 1", "BEGIN; INSERT INTO t VALUES (1)", "SELECT pg_sleep(30)"] {
        let mut a = router.client_at(Bridge::to(&router).port);
        a.send(&query(stage));
        if !stage.contains("sleep") {
            a.until_ready(1);
        }
        a.vanish();
        assert_eq!(router.client().ask("SELECT count(*) FROM t"), "T D:0 C:SELECT 1 Z:I", "{stage}");
    }
    assert_eq!(router.log(), log, "nothing is worth a line");
}

#[test]
fn row_138_no_record_is_longer_than_libpq_reads_at_once() {
    let world = world();
    let router = Process::start(&world, "true", true);
    let bridge = Bridge::to(&router);
    let mut a = router.client_at(bridge.port);
    assert_eq!(a.value("SELECT repeat('x', 1000000)").len(), 1_000_000);
    a.ask("SELECT repeat('y', n) FROM generate_series(1, 2000) n");
    let sizes = records(&bridge.heard.lock().expect("no panic"));
    let longest = sizes.iter().max().expect("some");
    // The text, and what encrypts it.
    assert!((4096..8192 + 256).contains(longest), "{longest} bytes");
    assert!(sizes.iter().sum::<usize>() > 3_000_000);
}

/// A ClientHello in its record: `version`, these cipher suites, signatures and groups as everybody has them.
fn client_hello(version: [u8; 2], ciphers: &[u16]) -> Vec<u8> {
    let extensions: &[u8] = &[0, 13, 0, 4, 0, 2, 4, 1, 0, 10, 0, 4, 0, 2, 0, 23];
    let mut hello = [&version[..], &[7; 32], &[0]].concat();
    hello.extend(u16::try_from(2 * ciphers.len()).expect("few").to_be_bytes());
    hello.extend(ciphers.iter().flat_map(|cipher| cipher.to_be_bytes()));
    hello.extend([1, 0]);
    hello.extend(u16::try_from(extensions.len()).expect("few").to_be_bytes());
    hello.extend(extensions);
    let length = u16::try_from(hello.len()).expect("short");
    let [high, low] = length.to_be_bytes();
    let [record_high, record_low] = (length + 4).to_be_bytes();
    [&[22, 3, 1, record_high, record_low, 1, 0, high, low], &hello[..]].concat()
}

#[test]
fn rows_01_05_handshakes_that_fail_end_with_an_alert_and_harm_nobody() {
    let world = world();
    let router = Process::start(&world, "true", true);
    let mut bystander = router.client();
    let (log, descriptors) = (router.log(), router.descriptors());
    let good = &[0x1301, 0xc02f];
    let oversized = [&[22, 3, 1, 0xff, 0xff][..], &[1; 70_000]].concat();
    for (what, bytes) in [
        ("garbage", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("no record", vec![0xff; 64]),
        ("a startup in the clear", [0, 0, 0, 9, 0, 3, 0, 0, 0].to_vec()),
        ("a record of 64 KiB", oversized),
        ("TLS 1.0", client_hello([3, 1], good)),
        ("SSL 3", client_hello([3, 0], good)),
        ("no common cipher", client_hello([3, 3], &[0x000a, 0x0005])),
        ("no cipher", client_hello([3, 3], &[])),
    ] {
        for direct in [false, true] {
            // Without the request there is no TLS but in what begins like it.
            if direct && bytes[0] != 22 {
                continue;
            }
            let mut stream = router.connect();
            if !direct {
                stream.write_all(&SSL_REQUEST).expect("sent");
                stream.read_exact(&mut [0]).expect("an answer");
            }
            let _ = stream.write_all(&bytes);
            let mut answer = Vec::new();
            let ended = stream.read_to_end(&mut answer);
            let reset = ended.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset);
            let alert = answer.len() == 7 && answer[0] == ALERT && answer[5] == FATAL;
            assert!(alert || (reset && answer.is_empty()), "{what}, direct: {direct}: {answer:?}");
            assert_eq!(bystander.ask("SELECT 1"), "T D:1 C:SELECT 1 Z:I");
        }
    }
    // More than there are turns for handshakes.
    let never: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut stream = router.connect();
            stream.write_all(&SSL_REQUEST).expect("sent");
            stream.read_exact(&mut [0]).expect("an answer");
            stream.write_all(&client_hello([3, 3], good)[..20]).expect("sent");
            stream
        })
        .collect();
    let mut late = router.client_at(Bridge::to(&router).port);
    assert_eq!(late.ask("SELECT 2"), "T D:2 C:SELECT 1 Z:I");
    assert_eq!(bystander.ask("SELECT 1"), "T D:1 C:SELECT 1 Z:I");
    for mut stream in never {
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0, "closed when its time is up");
    }
    drop(late);
    soon("all is given back", || router.descriptors() <= descriptors + 1);
    assert_eq!(router.log(), log, "nothing is worth a line");
}

#[test]
fn rows_07_09_half_open_sockets_are_closed() {
    let world = world();
    let router = Process::start(&world, "true", true);
    let mut bystander = router.client();
    let descriptors = router.descriptors();
    let database = world.database.as_bytes();
    let body = [b"\0\x03\0\0user\0postgres\0database\0", database, b"\0\0"].concat();
    let startup = [&u32::try_from(body.len() + 4).expect("short").to_be_bytes()[..], &body].concat();
    for (what, bytes) in [
        ("nothing", &[][..]),
        ("half a length", &startup[..2]),
        ("half a startup", &startup[..20]),
        ("a request for TLS", &SSL_REQUEST),
        ("a startup, and no password", &startup),
    ] {
        let mut stream = router.connect();
        stream.write_all(bytes).expect("sent");
        stream.shutdown(Shutdown::Write).expect("half closed");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("closed by the router too");
        assert!(answer.is_empty() || matches!(answer[0], b'S' | b'R'), "{what}: {answer:?}");
        // And one that is cut off.
        let mut stream = router.connect();
        stream.write_all(bytes).expect("sent");
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("set");
        drop(stream);
        assert_eq!(bystander.ask("SELECT 1"), "T D:1 C:SELECT 1 Z:I");
    }
    soon("all is given back", || router.descriptors() <= descriptors);
    assert!(!router.log().contains("WARN"), "{}", router.log());
}
