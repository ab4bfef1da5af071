//! Servers over the loopback that behave in odd ways.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::*;
use crate::manifest::Pooling;
use crate::router::table::{Logins, Roles, State};

const READY: &[u8] = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";
const LET_IN: &[u8] = b"R\0\0\0\x08\0\0\0\0";
const STANDBY: &[u8] = b"R\0\0\0\x08\0\0\0\0S\0\0\0\x16in_hot_standby\0on\0Z\0\0\0\x05I";
/// Ready, and then what its timeline is.
const TIMELINE_1: &[u8] =
    b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05ID\0\0\0\x22\0\x01\0\0\0\x18000000010000000000000003Z\0\0\0\x05I";
const TIMELINE_2: &[u8] =
    b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05ID\0\0\0\x22\0\x01\0\0\0\x18000000020000000000000003Z\0\0\0\x05I";
const STARTING: &[u8] = b"E\0\0\0\x27SFATAL\0VFATAL\0C57P03\0Mstarting up\0\0";

fn address(at: SocketAddr) -> Address {
    Address { host: at.ip().to_string(), port: at.port() }
}

/// A route of tenant `acme`, unencrypted.
pub fn entry(instance: &str, endpoints: Vec<Address>) -> Entry {
    Entry {
        tenant: "acme".into(),
        instance: instance.into(),
        database: "acme".into(),
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
    }
}

fn request(endpoints: Vec<Address>, budget: Duration) -> Request {
    let entry = Arc::new(entry("pg-a", endpoints));
    Request { entry, role: "acme".into(), proof: Proof::Trust, settings: Vec::new(), budget }
}

fn opener() -> Opener {
    Opener::new(OpenConfig { in_flight: 2, ..OpenConfig::default() })
}

/// Whom a slow machine cannot mislead: it waits for every endpoint.
fn patient() -> Opener {
    Opener::new(OpenConfig { head_start: Duration::from_secs(20), ..OpenConfig::default() })
}

/// A server that gives the n-th client the n-th answer, and the last one to all that follow. An empty answer closes.
struct Fake {
    at: Address,
    seen: Arc<AtomicUsize>,
    most_at_once: Arc<AtomicUsize>,
    _task: JoinSet<()>,
}

impl Fake {
    async fn start(answers: &'static [&'static [u8]], takes: Duration) -> Fake {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("bound");
        let at = address(listener.local_addr().expect("bound"));
        let (seen, most_at_once): (Arc<AtomicUsize>, Arc<AtomicUsize>) = Default::default();
        let mut task = JoinSet::new();
        let (count, most) = (Arc::clone(&seen), Arc::clone(&most_at_once));
        task.spawn(async move {
            let (now, mut clients) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
            while let Ok((client, _)) = listener.accept().await {
                let answer = answers[count.fetch_add(1, SeqCst).min(answers.len() - 1)];
                most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                let now = Arc::clone(&now);
                clients.spawn(async move {
                    let _ = answer_one(client, answer, takes, &now).await;
                });
            }
        });
        Fake { at, seen, most_at_once, _task: task }
    }

    fn seen(&self) -> usize {
        self.seen.load(SeqCst)
    }
}

async fn answer_one(mut client: TcpStream, answer: &[u8], takes: Duration, now: &AtomicUsize) -> std::io::Result<()> {
    let length = client.read_u32().await?;
    let mut startup = vec![0; length as usize - 4];
    client.read_exact(&mut startup).await?;
    sleep(takes).await;
    now.fetch_sub(1, SeqCst);
    client.write_all(answer).await?;
    if !answer.is_empty() {
        let _ = client.read(&mut [0; 16]).await;
    }
    Ok(())
}

/// A port at which nothing listens.
async fn nowhere() -> Address {
    address(TcpListener::bind(("127.0.0.1", 0)).await.expect("bound").local_addr().expect("bound"))
}

const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn row_120_a_server_that_starts_is_waited_for() {
    let fake = Fake::start(&[b"", STARTING, READY], Duration::ZERO).await;
    let server = opener().open(&request(vec![fake.at.clone()], SOON)).await.expect("it came up");
    assert_eq!((fake.seen(), server.address), (3, fake.at.clone()));
    let error = opener().open(&request(vec![nowhere().await], Duration::from_millis(300))).await.expect_err("nobody");
    assert!(matches!(&error, OpenError::Unreachable { detail } if detail.contains("refused")), "{error:?}");
    let starting = Fake::start(&[STARTING], Duration::ZERO).await;
    let error = opener().open(&request(vec![starting.at.clone()], Duration::from_millis(300))).await;
    assert!(matches!(error, Err(OpenError::Refused { code: [b'5', b'7', b'P', b'0', b'3'], .. })), "its own words");
}

#[tokio::test]
async fn row_127_a_storm_opens_a_few_at_a_time() {
    let fake = Fake::start(&[READY], Duration::from_millis(20)).await;
    let (opener, request) = (opener(), request(vec![fake.at.clone()], SOON));
    let opened = futures_util::future::join_all((0..40).map(|_| opener.open(&request))).await;
    assert!(opened.iter().all(Result::is_ok));
    assert_eq!((fake.seen(), fake.most_at_once.load(SeqCst)), (40, 1), "one tenant has half of the turns");
}

#[tokio::test]
async fn a_sleeping_instance_is_woken_by_one_and_the_others_wait_for_it() {
    // As at a platform's edge: connections are taken and closed until the server behind is there.
    let fake = Fake::start(&[b"", b"", b"", b"", READY], Duration::ZERO).await;
    let (opener, request) = (opener(), request(vec![fake.at.clone()], SOON));
    let opened = futures_util::future::join_all((0..20).map(|_| opener.open(&request))).await;
    assert!(opened.iter().all(Result::is_ok), "nobody hears of it");
    assert_eq!(fake.seen(), 4 + 20, "no attempt but those of the one that tries");
}

#[tokio::test]
async fn behind_one_that_gave_up_the_others_are_told_quickly() {
    let opener = opener();
    let dead = nowhere().await;
    opener.open(&request(vec![dead.clone()], Duration::from_millis(200))).await.expect_err("dead");
    let request = request(vec![dead], Duration::from_secs(6));
    let started = Instant::now();
    let first = async {
        let answers = futures_util::future::join_all((0..5).map(|_| opener.open(&request)));
        let _ = timeout(Duration::from_secs(4), answers).await;
    };
    // All but the one that tries are through within two seconds; so is somebody who comes later.
    let late = async {
        sleep(Duration::from_millis(500)).await;
        let error = opener.open(&request).await.expect_err("dead");
        assert!(matches!(&error, OpenError::Unreachable { detail } if detail.contains("no answer for")), "{error:?}");
        started.elapsed()
    };
    let ((), took) = tokio::join!(first, late);
    assert!(took < Duration::from_millis(3500), "{took:?}");
}

#[tokio::test]
async fn row_128_a_full_server_is_told_at_once_and_in_its_own_words() {
    let fake = Fake::start(&[b"E\0\0\0\x1dSFATAL\0C53300\0Mtoo many\0\0"], Duration::ZERO).await;
    let error = opener().open(&request(vec![fake.at.clone()], SOON)).await.expect_err("full");
    assert!(matches!(error, OpenError::Refused { code: [b'5', b'3', b'3', b'0', b'0'], .. }), "{error:?}");
    assert_eq!(fake.seen(), 1, "the worker decides what to do, nobody tries again");
}

#[tokio::test]
async fn row_122_the_writable_endpoint_is_found_and_kept_to() {
    let standby = Fake::start(&[STANDBY], Duration::ZERO).await;
    let primary = Fake::start(&[READY], Duration::ZERO).await;
    let opener = opener();
    let request = request(vec![standby.at.clone(), primary.at.clone()], SOON);
    for _ in 0..5 {
        assert_eq!(opener.open(&request).await.expect("opened").address, primary.at);
    }
    assert!(standby.seen() <= 1, "the standby is asked at the first connection only");
    opener.suspect(&request.entry.instance, &primary.at);
    assert_eq!(opener.open(&request).await.expect("opened").address, primary.at);
    assert_eq!(primary.seen(), 6);
}

#[tokio::test]
async fn row_122_after_a_promotion_the_next_connection_goes_to_the_new_primary() {
    // Refuses its second client and all later ones, as a stopped server whose port is still taken.
    let old = Fake::start(&[READY, b""], Duration::ZERO).await;
    let new = Fake::start(&[STANDBY, STANDBY, STANDBY, READY], Duration::ZERO).await;
    let opener = opener();
    let request = request(vec![old.at.clone(), new.at.clone()], SOON);
    assert_eq!(opener.open(&request).await.expect("opened").address, old.at);
    let started = Instant::now();
    assert_eq!(opener.open(&request).await.expect("opened").address, new.at);
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}

#[tokio::test]
async fn row_122_of_two_that_take_writes_the_one_promoted_last_is_kept_to() {
    for old_answers_first in [true, false] {
        let late = |is_late: bool| Duration::from_millis(if is_late { 100 } else { 0 });
        let old = Fake::start(&[TIMELINE_1], late(!old_answers_first)).await;
        let new = Fake::start(&[TIMELINE_2], late(old_answers_first)).await;
        let opener = patient();
        let request = request(vec![old.at.clone(), new.at.clone()], SOON);
        assert_eq!(opener.open(&request).await.expect("opened").address, new.at);
        assert_eq!(opener.open(&request).await.expect("opened").address, new.at);
        assert_eq!(old.seen(), 1, "what is known to be the writable one is not asked again");
    }
    // One that does not say is not kept to.
    let dumb = Fake::start(&[READY], Duration::ZERO).await;
    let new = Fake::start(&[TIMELINE_1], Duration::ZERO).await;
    let request = request(vec![dumb.at.clone(), new.at.clone()], SOON);
    assert_eq!(patient().open(&request).await.expect("opened").address, new.at);
}

#[tokio::test]
async fn row_122_an_endpoint_that_hears_nothing_does_not_hold_up_the_others() {
    // Listens and never answers.
    let deaf = Fake::start(&[READY], Duration::from_secs(60)).await;
    let primary = Fake::start(&[READY], Duration::ZERO).await;
    let (opener, request) = (opener(), request(vec![deaf.at.clone(), primary.at.clone()], SOON));
    opener.gate(&request.entry.instance).keep_to(&deaf.at);
    let started = Instant::now();
    assert_eq!(opener.open(&request).await.expect("opened").address, primary.at);
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
}

#[tokio::test]
async fn only_standbys_are_said_to_be_the_reason() {
    let standby = Fake::start(&[STANDBY], Duration::ZERO).await;
    let request = request(vec![standby.at.clone(), nowhere().await], Duration::from_millis(400));
    let error = opener().open(&request).await.expect_err("none is writable");
    assert!(matches!(&error, OpenError::Unreachable { detail } if detail.contains("is a standby")), "{error:?}");
}

#[tokio::test]
async fn row_143_a_name_that_is_not_there_is_asked_for_until_the_budget_is_spent() {
    let (budget, started) = (Duration::from_millis(400), Instant::now());
    let nameless = Address { host: "no-such-host.invalid".into(), port: 5432 };
    let error = opener().open(&request(vec![nameless], budget)).await.expect_err("no name");
    assert!(started.elapsed() >= Duration::from_millis(50), "tried again");
    assert!(matches!(&error, OpenError::Unreachable { detail } if !detail.contains("--public")), "{error:?}");
}

#[tokio::test]
async fn row_141_every_connection_asks_for_the_name_again_and_takes_any_family() {
    let fake = Fake::start(&[READY], Duration::ZERO).await;
    // Where `localhost` is also ::1, nothing listens there, and the other address is tried at once.
    let by_name = Address { host: "localhost".into(), port: fake.at.port };
    let started = Instant::now();
    opener().open(&request(vec![by_name], SOON)).await.expect("opened");
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_cancel_ends_when_the_server_closes_and_no_later_than_allowed() {
    async fn cancelled(answers: &'static [&'static [u8]]) -> Result<(), OpenError> {
        let fake = Fake::start(answers, Duration::ZERO).await;
        let opener = Opener::new(OpenConfig { cancel: Duration::from_millis(300), ..OpenConfig::default() });
        opener.cancel(&fake.at, Encryption::Disabled, (1, &[1; 32])).await
    }
    assert_eq!(cancelled(&[b""]).await, Ok(()));
    assert!(cancelled(&[READY]).await.is_err(), "not closed: what it will do is not known");
    let opener = opener();
    assert!(opener.cancel(&nowhere().await, Encryption::Disabled, (1, &[1; 4])).await.is_err());
}

#[tokio::test]
async fn a_server_without_tls_is_not_used_where_the_route_asks_for_it() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("bound");
    let at = address(listener.local_addr().expect("bound"));
    let opener = opener();
    let serve = async {
        let (mut client, _) = listener.accept().await.expect("a client");
        let mut asked = [0; 8];
        client.read_exact(&mut asked).await.expect("asked");
        client.write_all(b"N").await.expect("said");
    };
    let cancel = opener.cancel(&at, Encryption::Required, (1, &[1; 4]));
    let ((), refused) = tokio::join!(serve, cancel);
    assert!(matches!(refused, Err(OpenError::Unproven { .. })), "{refused:?}");
}

#[tokio::test]
async fn the_table_of_instances_is_bounded() {
    let opener = opener();
    let held = opener.gate(&"held".into());
    held.keep_to(&Address { host: "a".into(), port: 1 });
    for number in 0..GATES_MAX * 2 {
        opener.gate(&format!("pg-{number}").into());
    }
    assert!(opener.gates.lock().expect("sound").len() <= GATES_MAX);
    assert!(opener.gate(&"held".into()).writable().is_some(), "one in use stays");
}

#[tokio::test]
async fn a_database_that_lets_no_login_finish_holds_up_neither_the_instance_nor_the_other_tenants() {
    // Lets in and never becomes ready, as while somebody holds a lock on the database.
    let locked = Fake::start(&[LET_IN], Duration::ZERO).await;
    let open = Fake::start(&[READY], Duration::ZERO).await;
    let opener = Opener::new(OpenConfig { in_flight: 2, login: Duration::from_secs(1), ..OpenConfig::default() });
    let stuck = request(vec![locked.at.clone()], SOON);
    let mut other = request(vec![open.at.clone()], SOON);
    other.entry = Arc::new(Entry { tenant: "other".into(), ..(*other.entry).clone() });
    let started = Instant::now();
    let others = async {
        sleep(Duration::from_millis(100)).await;
        opener.open(&other).await.expect("opened");
        started.elapsed()
    };
    let (first, second, took) = tokio::join!(opener.open(&stuck), opener.open(&stuck), others);
    assert!(took < Duration::from_millis(700), "{took:?}");
    for error in [first.expect_err("stuck"), second.expect_err("stuck")] {
        assert!(matches!(&error, OpenError::Unreachable { detail } if detail.contains("no login")), "{error:?}");
    }
    assert_eq!(locked.seen(), 2, "not tried again");
}
