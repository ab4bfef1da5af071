//! Logins to servers of every kind, byte by byte.

use proptest::prelude::*;

use super::*;
use crate::router::protocol::scram::ScramServer;
use crate::tenancy::{Secret, Verifier};

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag], &with_length(body)[..]].concat()
}

fn request(kind: u32, data: &[u8]) -> Vec<u8> {
    message(b'R', &[&kind.to_be_bytes(), data].concat())
}

fn login_as(proof: &Proof, end_point: Option<Vec<u8>>, loopback: bool) -> ServerLogin {
    let nonce = "abcdefghijklmnopqrstuvwx".to_owned();
    let ask = Ask { database: "acme", role: "acme_reader", settings: &[], proof, nonce, end_point, loopback };
    ServerLogin::start(ask).1
}

fn password() -> Proof {
    Proof::Password(Secret::new("pencil"))
}

/// What comes of these bytes, all at once.
fn outcome(mut login: ServerLogin, bytes: &[u8]) -> Result<Step, OpenError> {
    login.feed(bytes);
    login.step()
}

fn refusal(login: ServerLogin, bytes: &[u8]) -> OpenError {
    outcome(login, bytes).map(|_| ()).expect_err("refused")
}

fn unproven_with(part: &str, error: OpenError) {
    assert!(matches!(&error, OpenError::Unproven { detail } if detail.contains(part)), "{error:?}");
}

fn unreachable_with(part: &str, error: OpenError) {
    assert!(matches!(&error, OpenError::Unreachable { detail } if detail.contains(part)), "{error:?}");
}

fn sent(step: Step) -> Vec<u8> {
    let Step::Send(bytes) = step else { panic!("something is sent") };
    assert_eq!(bytes[0], b'p');
    bytes[5..].to_vec()
}

/// The exchange with a server that knows `known`, up to the proof: what the server answers to it.
fn exchange(login: &mut ServerLogin, known: &str, bound: Option<Vec<u8>>) -> Result<Vec<u8>, ScramError> {
    let mechanisms = if bound.is_some() { "SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0" } else { "SCRAM-SHA-256\0\0" };
    login.feed(&request(10, mechanisms.as_bytes()));
    let first = sent(login.step().expect("taken"));
    let end = first.iter().position(|&byte| byte == 0).expect("a mechanism");
    let mechanism = std::str::from_utf8(&first[..end]).expect("text");
    let server = ScramServer::new(Verifier::from_password(&Secret::new(known), b"salt"), "server".into(), bound);
    let (answer, awaiting) = server.first(mechanism, &first[end + 5..]).expect("taken");
    login.feed(&request(11, &answer));
    let Ok(Step::Hash(challenge)) = login.step() else { panic!("something is hashed") };
    let proof = login.answer(challenge.answer());
    awaiting.last(&proof[5..]).map(|(last, _)| last)
}

fn ready() -> Vec<u8> {
    let parts = [
        request(0, b""),
        message(b'S', b"server_version\x0017.2\0"),
        message(b'S', b"in_hot_standby\0off\0"),
        message(b'K', &[0, 0, 1, 0, 9, 8, 7, 6]),
        message(b'Z', b"I"),
    ];
    parts.concat()
}

#[test]
fn the_startup_message_asks_for_3_2_and_no_text_ends_early() {
    let settings = [("replication".to_owned(), "true\0user\0postgres".to_owned())];
    let proof = password();
    let (bytes, _) = ServerLogin::start(Ask {
        database: "acme",
        role: "acme_reader",
        settings: &settings,
        proof: &proof,
        nonce: String::new(),
        end_point: None,
        loopback: false,
    });
    assert_eq!(bytes[..8], [0, 0, 0, 111, 0, 3, 0, 2]);
    assert_eq!(usize::from(bytes[3]), bytes.len());
    assert_eq!(
        String::from_utf8_lossy(&bytes[8..]).replace('\0', "|"),
        "user|acme_reader|database|acme|client_encoding|UTF8|application_name|o7s|replication|trueuserpostgres||"
    );
}

#[test]
fn row_25_a_password_is_proved_both_ways_and_bound_to_the_certificate() {
    for bound in [None, Some(vec![7; 32])] {
        let mut login = login_as(&password(), bound.clone(), false);
        let last = exchange(&mut login, "pencil", bound).expect("the right password");
        login.feed(&[request(12, &last), ready(), b"rest".to_vec()].concat());
        let Ok(Step::Done(done)) = login.step() else { panic!("logged in") };
        let parameters: Vec<String> = done.parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(parameters, ["server_version=17.2", "in_hot_standby=off"]);
        assert_eq!((done.process, &done.secret[..], &done.received[..]), (256, &[9, 8, 7, 6][..], &b"rest"[..]));
    }
}

#[test]
fn row_142_nothing_is_sent_to_a_server_that_has_not_proved_itself() {
    let mut login = login_as(&password(), None, false);
    assert_eq!(exchange(&mut login, "another", None), Err(ScramError::Wrong), "the server refuses first");
    let forged = b"v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    unproven_with("could not prove", refusal(login, &[request(12, forged), ready()].concat()));

    let mut login = login_as(&password(), None, true);
    exchange(&mut login, "pencil", None).expect("right");
    unreachable_with("out of order", refusal(login, &request(0, b"")));
    // A server that asks for nothing has proved nothing: fine on this machine only.
    unproven_with("lets anybody in", refusal(login_as(&password(), None, false), &ready()));
    unproven_with("lets anybody in", refusal(login_as(&Proof::Trust, None, false), &ready()));
    assert!(matches!(outcome(login_as(&Proof::Trust, None, true), &ready()), Ok(Step::Done(_))));
    let asked = request(10, b"SCRAM-SHA-256\0\0");
    unproven_with("the route has none", refusal(login_as(&Proof::Trust, None, true), &asked));
}

#[test]
fn row_35_an_error_without_sqlstate_becomes_one_that_drivers_can_read() {
    let refused = |body: &[u8]| refusal(login_as(&password(), None, false), &message(b'E', body));
    let whole = b"SFATAL\0VFATAL\0C28000\0Mno\0\0";
    assert_eq!(refused(whole), OpenError::Refused { code: *b"28000", body: whole.to_vec() }, "its own words");
    let made = b"SFATAL\0VFATAL\0C08004\0Mgo away\0\0".to_vec();
    for odd in [&b"SFATAL\0Mgo away\0\0"[..], b"SFATAL\0C\0Mgo away\0\0", b"C280\0Mgo away\0\0", b"C28000\0Mgo away"]
    {
        assert_eq!(refused(odd), OpenError::Refused { code: *b"08004", body: made.clone() }, "{odd:?}");
    }
    assert!(matches!(refused(b""), OpenError::Refused { code, .. } if code == *b"08004"));
}

#[test]
fn row_36_notices_during_login_are_no_error() {
    let notice = message(b'N', b"SNOTICE\0C00000\0Mwelcome\0\0");
    let bytes = [notice.clone(), request(0, b""), notice.clone(), message(b'Z', b"I")].concat();
    assert!(matches!(outcome(login_as(&Proof::Trust, None, true), &bytes), Ok(Step::Done(_))));
    unreachable_with("more than", refusal(login_as(&Proof::Trust, None, true), &notice.repeat(10_000)));
}

#[test]
fn row_37_the_password_is_given_by_no_other_way_than_scram() {
    for (kind, data) in [(3, &b""[..]), (5, b"salt"), (7, b""), (10, b"SCRAM-SHA-1\0\0"), (10, b"")] {
        let error = refusal(login_as(&password(), None, true), &request(kind, data));
        assert!(matches!(error, OpenError::Unproven { .. }), "{kind}: {error:?}");
    }
}

#[test]
fn row_38_a_server_that_asks_for_ten_million_rounds_is_refused() {
    let mut login = login_as(&password(), None, false);
    login.feed(&request(10, b"SCRAM-SHA-256\0\0"));
    sent(login.step().expect("taken"));
    let first = b"r=abcdefghijklmnopqrstuvwxyz,s=c2FsdA==,i=10000000";
    unproven_with("too many", refusal(login, &request(11, first)));
}

#[test]
fn row_10_an_older_server_names_its_version_and_a_newer_one_sends_a_longer_key() {
    let with = |version: &[u8], key: &[u8]| {
        let negotiation = if version.is_empty() { vec![] } else { message(b'v', &[version, &[0; 4]].concat()) };
        let key = message(b'K', &[&[0, 0, 0, 1], key].concat());
        let bytes = [negotiation, request(0, b""), key, message(b'Z', b"I")].concat();
        outcome(login_as(&Proof::Trust, None, true), &bytes).is_ok_and(|step| matches!(step, Step::Done(_)))
    };
    assert!(with(&[], &[1; 32]) && with(&[], &[1; 256]) && with(&[], &[1; 4]));
    assert!(!with(&[], &[1; 257]) && !with(&[], &[1; 3]));
    assert!(with(&[0, 3, 0, 0], &[1; 4]) && with(&[0, 0, 0, 0], &[1; 4]));
    assert!(!with(&[0, 3, 0, 0], &[1; 32]), "3.0 has keys of 4 bytes");
    assert!(!with(&[0, 3, 0, 3], &[1; 4]) && !with(&[0, 2, 0, 0], &[1; 4]));
}

#[test]
fn what_is_no_server_is_found_out_by_its_first_bytes() {
    let login = || login_as(&Proof::Trust, None, true);
    unreachable_with("no Postgres message", refusal(login(), b"HTTP/1.1 400 Bad Request"));
    unreachable_with("more than", refusal(login(), b"R\x7f\xff\xff\xff"));
    unreachable_with("more than", refusal(login(), b"R\x00\x00\x00\x03"));
    unreachable_with("out of order", refusal(login(), &message(b'Z', b"I")));
    unreachable_with("out of order", refusal(login(), &request(12, b"v=")));
    let many = [request(0, b""), message(b'S', b"a\0b\0").repeat(129)].concat();
    unreachable_with("more parameters", refusal(login(), &many));
}

#[test]
fn a_cancel_request_carries_the_key_as_it_was_sent() {
    assert_eq!(cancel_request(258, &[7; 4]), [0, 0, 0, 16, 0x04, 0xd2, 0x16, 0x2e, 0, 0, 1, 2, 7, 7, 7, 7]);
    assert_eq!(cancel_request(1, &[7; 32]).len(), 44);
}

proptest! {
    #[test]
    fn where_the_network_cuts_the_login_changes_nothing(cut in 0..200_usize) {
        let bytes = ready();
        let cut = cut.min(bytes.len());
        let mut login = login_as(&Proof::Trust, None, true);
        login.feed(&bytes[..cut]);
        let early = login.step().expect("no error in a part");
        let done = match early {
            Step::Done(done) => done,
            _ => {
                login.feed(&bytes[cut..]);
                let Ok(Step::Done(done)) = login.step() else { panic!("logged in") };
                done
            }
        };
        prop_assert_eq!(done.parameters.len(), 2);
        prop_assert_eq!(done.process, 256);
    }

    #[test]
    fn no_bytes_of_a_server_make_us_panic(
        tags in proptest::collection::vec((proptest::sample::select(b"RENSKvZA".to_vec()), any::<Vec<u8>>()), 0..6),
        kind in 0..14_u8,
    ) {
        let mut login = login_as(&password(), None, true);
        login.feed(&request(u32::from(kind), b"SCRAM-SHA-256\0\0"));
        for (tag, body) in tags {
            let _ = login.step();
            login.feed(&message(tag, &body));
        }
        let _ = login.step();
    }
}
