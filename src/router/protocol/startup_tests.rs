//! Rows of the list of edge cases that end before the login, by number.

use proptest::prelude::*;

use super::*;
use crate::manifest::Pooling;

const V3_0: u32 = 0x0003_0000;
const V3_2: u32 = 0x0003_0002;

fn packet(code: u32, body: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(8 + body.len()).expect("small").to_be_bytes().to_vec();
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(body);
    out
}

fn startup(version: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut body: Vec<u8> =
        fields.iter().flat_map(|(name, value)| format!("{name}\0{value}\0").into_bytes()).collect();
    body.push(0);
    packet(version, &body)
}

fn ssl() -> Vec<u8> {
    packet(SSL_REQUEST, b"")
}

fn hello_of(bytes: &[u8]) -> Result<Hello, Report<'static>> {
    match Startup::new(Tls::Absent).step(bytes)? {
        (taken, Step::Hello(hello)) if taken == bytes.len() => Ok(*hello),
        other => panic!("no startup packet: {other:?}"),
    }
}

fn refusal(result: Result<impl std::fmt::Debug, Report<'static>>) -> String {
    let report = result.expect_err("refused");
    format!("{}: {}", report.code, report.message)
}

#[test]
fn row_01_what_follows_an_ssl_request_in_the_clear_is_never_read() {
    let both = [ssl(), startup(V3_0, &[("user", "acme")])].concat();
    let answer = Startup::new(Tls::Offered).step(&both);
    assert_eq!(refusal(answer), "08P01: received unencrypted data after SSL request");
    assert_eq!(Startup::new(Tls::Offered).step(&ssl()), Ok((8, Step::BeginTls)));
}

#[test]
fn row_02_without_tls_the_request_is_declined_and_a_startup_may_follow_at_once() {
    let mut machine = Startup::new(Tls::Absent);
    let both = [ssl(), startup(V3_0, &[("user", "acme")])].concat();
    assert_eq!(machine.step(&both), Ok((8, Step::Decline)));
    assert!(matches!(machine.step(&both[8..]), Ok((_, Step::Hello(_)))));
}

#[test]
fn row_03_gss_encryption_is_declined_and_tls_may_follow() {
    let mut machine = Startup::new(Tls::Offered);
    assert_eq!(machine.step(&packet(GSSENC_REQUEST, b"")), Ok((8, Step::Decline)));
    assert_eq!(machine.step(&ssl()), Ok((8, Step::BeginTls)));
}

#[test]
fn row_04_a_second_request_of_one_kind_is_refused() {
    let mut machine = Startup::new(Tls::Absent);
    assert_eq!(machine.step(&ssl()), Ok((8, Step::Decline)));
    assert_eq!(refusal(machine.step(&ssl())), "08P01: unexpected request for encryption");
    let mut machine = Startup::new(Tls::Absent);
    let gss = packet(GSSENC_REQUEST, b"");
    assert_eq!(machine.step(&gss), Ok((8, Step::Decline)));
    assert_eq!(refusal(machine.step(&gss)), "08P01: unexpected request for GSSAPI encryption");
    let mut inside = Startup::new(Tls::Offered);
    inside.secured();
    assert_eq!(refusal(inside.step(&ssl())), "08P01: unexpected request for encryption");
}

#[test]
fn row_05_a_handshake_record_as_the_first_byte_is_direct_tls() {
    assert_eq!(Startup::new(Tls::Offered).step(&[0x16]), Ok((0, Step::DirectTls)));
    assert!(Startup::new(Tls::Absent).step(&[0x16, 3, 1, 0]).is_err(), "not where there is none");
    let mut inside = Startup::new(Tls::Offered);
    inside.secured();
    assert!(inside.step(&[0x16, 3, 1, 0]).is_err(), "not inside itself");
}

#[test]
fn row_07_a_startup_of_two_gigabytes_is_refused() {
    for length in [0, 7, 10_001, 2 << 30, u32::MAX] {
        let answer = Startup::new(Tls::Absent).step(&length.to_be_bytes());
        assert_eq!(refusal(answer), "08P01: invalid length of startup packet", "{length}");
    }
    assert_eq!(Startup::new(Tls::Absent).step(&10_000_u32.to_be_bytes()), Ok((0, Step::More)));
    assert!(Startup::new(Tls::Offered).step(b"GET / HTTP/1.1\r\n").is_err());
}

#[test]
fn row_08_a_startup_byte_by_byte_is_the_same_startup() {
    let bytes = startup(V3_0, &[("user", "acme"), ("database", "acme")]);
    let mut machine = Startup::new(Tls::Absent);
    for end in 0..bytes.len() {
        assert_eq!(machine.step(&bytes[..end]), Ok((0, Step::More)), "{end}");
    }
    assert!(matches!(machine.step(&bytes), Ok((taken, Step::Hello(_))) if taken == bytes.len()));
}

#[test]
fn row_10_protocol_3_2_is_spoken() {
    let hello = hello_of(&startup(V3_2, &[("user", "acme")])).expect("accepted");
    assert_eq!((hello.minor, hello.negotiation), (2, Vec::new()));
    let hello = hello_of(&startup(0x0003_0001, &[("user", "acme")])).expect("accepted");
    assert_eq!((hello.minor, hello.negotiation), (0, Vec::new()));
}

#[test]
fn row_11_unknown_minors_and_extensions_are_negotiated() {
    let fields = [("user", "acme"), ("_pq_.a", "1"), ("_pq_.test_protocol_negotiation", "")];
    let hello = hello_of(&startup(0x0003_0000 + 9999, &fields)).expect("accepted");
    assert_eq!(hello.minor, 2);
    let mut expected = vec![b'v', 0, 0, 0, 50, 0, 3, 0, 2, 0, 0, 0, 2];
    expected.extend_from_slice(b"_pq_.a\0_pq_.test_protocol_negotiation\0");
    assert_eq!(hello.negotiation, expected);
    assert_eq!(hello.settings, [], "an extension is not a setting");
    let hello = hello_of(&startup(V3_0, &fields[..2])).expect("accepted");
    assert_eq!(hello.negotiation, b"v\0\0\0\x13\0\x03\0\0\0\0\0\x01_pq_.a\0");
}

#[test]
fn row_12_other_majors_are_refused_in_version_3() {
    for (version, text) in [(0x0002_0000, "2.0"), (0x0004_0000, "4.0")] {
        assert_eq!(
            refusal(hello_of(&packet(version, b"\0"))),
            format!("0A000: unsupported frontend protocol {text}: server supports 3.0 to 3.2")
        );
    }
}

#[test]
fn row_13_a_missing_user_is_refused() {
    for fields in [&[][..], &[("database", "acme")], &[("user", "")]] {
        let answer = refusal(hello_of(&startup(V3_0, fields)));
        assert_eq!(answer, "28000: no PostgreSQL user name specified in startup packet");
    }
}

#[test]
fn row_14_a_packet_of_broken_layout_is_refused() {
    let layout = "08P01: invalid startup packet layout: expected terminator as last byte";
    for body in
        [&b""[..], b"user\0acme", b"user\0acme\0", b"user\0acme\0x\0", b"user\0acme\0\0\0", b"user\0acme\0\0y"]
    {
        assert_eq!(refusal(hello_of(&packet(V3_0, body))), layout, "{body:?}");
    }
    let answer = refusal(hello_of(&packet(V3_0, b"user\0\xff\xfe\0\0")));
    assert_eq!(answer, "08P01: a startup parameter is not valid UTF-8");
}

#[test]
fn row_15_an_empty_database_is_a_missing_one() {
    let hello = hello_of(&startup(V3_0, &[("user", "reader.acme"), ("database", "")])).expect("accepted");
    assert_eq!(hello.database, None);
}

#[test]
fn row_16_replication_is_read_as_postgres_reads_it() {
    let ask = |value| hello_of(&startup(V3_0, &[("user", "acme"), ("replication", value)]));
    assert_eq!(ask("database").expect("accepted").replication.as_deref(), Some("database"));
    assert_eq!(ask("on").expect("accepted").replication.as_deref(), Some("true"));
    assert_eq!(ask("0").expect("accepted").replication, None);
    assert_eq!(refusal(ask("maybe")), "22023: invalid value for parameter \"replication\": \"maybe\"");
}

#[test]
fn row_17_and_19_settings_are_kept_as_they_are_and_after_those_of_options() {
    let fields =
        [("user", "acme"), ("application_name", ""), ("nope", "1"), ("options", "-c a.b=1 -c o7s.tenant=acme")];
    let hello = hello_of(&startup(V3_0, &fields)).expect("accepted");
    let expected = [("a.b", "1"), ("application_name", ""), ("nope", "1")];
    assert_eq!(hello.settings, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(hello.router.tenant.as_deref(), Some("acme"));
}

#[test]
fn a_parameter_of_its_own_names_the_tenant_too() {
    let fields = [("user", "acme"), ("o7s.tenant", "acme"), ("o7s.pooling", "session")];
    let hello = hello_of(&startup(V3_0, &fields)).expect("accepted");
    assert_eq!(hello.router.tenant.as_deref(), Some("acme"));
    assert_eq!(hello.router.pooling, Some(Pooling::Session));
    assert_eq!(hello.settings, []);
}

#[test]
fn cancel_requests_of_both_lengths_are_read() {
    for secret in [vec![1; 4], vec![2; 32], vec![3; 256]] {
        let bytes = packet(CANCEL_REQUEST, &[&[0, 0, 1, 0], &secret[..]].concat());
        let expected = Cancel { process: 256, secret };
        assert_eq!(Startup::new(Tls::Offered).step(&bytes), Ok((bytes.len(), Step::Cancel(expected))));
    }
    for body in [&[0; 3][..], &[0; 7], &[0; 261]] {
        let answer = refusal(Startup::new(Tls::Absent).step(&packet(CANCEL_REQUEST, body)));
        assert_eq!(answer, "08P01: invalid length of query cancel packet");
    }
}

proptest! {
    #[test]
    fn row_14_no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), version in any::<bool>()) {
        let _ = Startup::new(Tls::Offered).step(&bytes);
        let _ = Startup::new(Tls::Absent).step(&packet(if version { V3_0 } else { V3_2 }, &bytes));
    }

    #[test]
    fn row_18_no_options_make_it_panic(text in "[-c=. \\\\%0-9a-z\u{e9}]{0,40}") {
        let _ = options::read(&text, &mut Vec::new(), &mut ForRouter::default());
    }
}
