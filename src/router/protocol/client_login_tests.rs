//! Whole logins and broken ones, with the client's half of SCRAM on the other side.

use proptest::prelude::*;

use super::*;
use crate::router::protocol::scram::{ClientSecret, Offer, ScramClient, mock_verifier};

const NONCE: &str = "AAAAAAAAAAAAAAAAAAAAAAAA";

fn verifier() -> Verifier {
    Verifier::from_password(&Secret::new("pencil"), b"0123456789abcdef")
}

fn message(body: &[u8]) -> Vec<u8> {
    [b"p", &u32::try_from(body.len() + 4).expect("small").to_be_bytes()[..], body].concat()
}

fn initial(mechanism: &str, first: &[u8]) -> Vec<u8> {
    let length = u32::try_from(first.len()).expect("small").to_be_bytes();
    message(&[mechanism.as_bytes(), b"\0", &length, first].concat())
}

/// The data of the Authentication message that `out` is, and empties it.
fn data(out: &mut Vec<u8>, kind: u8) -> Vec<u8> {
    assert_eq!((out[0], out[8]), (b'R', kind), "{out:?}");
    let length = usize::from(out[4]) + 1;
    let data = out[9..length].to_vec();
    out.drain(..length);
    data
}

/// A login with `password`, the client bound as `offer` says; `Ok` holds the client key the server learned.
fn exchange(verifier: Verifier, password: &str, end_point: Option<Vec<u8>>) -> Result<ScramKeys, Failure> {
    let mut out = Vec::new();
    let offer = Offer { plain: true, plus: end_point.is_some(), end_point: end_point.clone() };
    let mut login = ClientLogin::scram(verifier, NONCE.into(), end_point, &mut out);
    let offered = data(&mut out, 10);
    let secret = ClientSecret::Password(Secret::new(password));
    let (mechanism, first, client) = ScramClient::start(secret, "client", offer).expect("offered");
    assert!(offered.starts_with(mechanism.as_bytes()), "the strongest comes first");
    let bytes = initial(mechanism, &first);
    let (taken, progress) = login.step(&bytes, &mut out)?;
    assert!(taken == bytes.len() && matches!(progress, Progress::More));
    let (last, confirmation) = client.challenge(&data(&mut out, 11)).expect("a challenge").answer();
    match login.step(&message(&last), &mut out)? {
        (_, Progress::Proven(keys)) => {
            confirmation.check(&data(&mut out, 12)).expect("the server proved itself");
            assert_eq!(out, AUTHENTICATION_OK);
            Ok(keys)
        }
        (_, other) => panic!("{other:?}"),
    }
}

fn refused(result: Result<impl std::fmt::Debug, Failure>) -> String {
    match result {
        Err(Failure::Refused(report)) => format!("{} {}", report.code, report.message),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_right_password_yields_the_keys_that_log_in_elsewhere() {
    let expected = ScramKeys::of(&Secret::new("pencil"), b"0123456789abcdef", verifier().iterations);
    assert_eq!(exchange(verifier(), "pencil", None), Ok(expected));
}

#[test]
fn row_22_inside_tls_binding_is_offered_first_and_used() {
    assert!(exchange(verifier(), "pencil", Some(vec![7; 32])).is_ok());
    let mut out = Vec::new();
    ClientLogin::scram(verifier(), NONCE.into(), Some(vec![7; 32]), &mut out);
    assert_eq!(&out[9..], b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0");
}

#[test]
fn row_23_a_client_that_believes_there_is_no_binding_is_refused() {
    let mut login = ClientLogin::scram(verifier(), NONCE.into(), Some(vec![7; 32]), &mut Vec::new());
    let answer = login.step(&initial(SCRAM, b"y,,n=,r=abc"), &mut Vec::new());
    assert!(refused(answer).starts_with("28P01 the client supports channel binding"));
}

#[test]
fn row_28_nobodys_verifier_takes_no_password_and_looks_like_any_other() {
    let mock = || mock_verifier(&[1; 32], "nobody");
    assert_eq!(exchange(mock(), "pencil", None), Err(Failure::WrongPassword));
    assert_eq!(exchange(verifier(), "pencils", None), Err(Failure::WrongPassword));
    let first = |verifier| {
        let mut out = Vec::new();
        let mut login = ClientLogin::scram(verifier, NONCE.into(), None, &mut out);
        out.clear();
        login.step(&initial(SCRAM, b"n,,n=,r=abc"), &mut out).expect("an answer");
        out
    };
    assert_eq!(first(mock()), first(mock()), "the same salt at every try");
    assert_eq!(first(mock()).len(), first(verifier()).len());
}

#[test]
fn row_32_broken_messages_are_refused() {
    let first = |bytes: &[u8]| {
        ClientLogin::scram(verifier(), NONCE.into(), None, &mut Vec::new())
            .step(bytes, &mut Vec::new())
            .map(|(taken, _)| taken)
    };
    let long = [b"n,,n=,r=", &[b'x'; 1500][..]].concat();
    for (bytes, expected) in [
        (initial(SCRAM, &long), "08P01 malformed SCRAM message: too long"),
        (initial(SCRAM, b"n,,n="), "08P01 malformed SCRAM message: no nonce"),
        (initial(SCRAM_PLUS, b"p=tls-unique,,n=,r=a"), "0A000 SCRAM with this mechanism is not supported"),
        (message(b"SCRAM-SHA-256\0\0\0\0\x09n,,"), "08P01 malformed SASL initial response"),
        (message(b"SCRAM-SHA-256\0\xff\xff\xff\xff"), "08P01 malformed SASL initial response"),
        (message(b"SCRAM"), "08P01 malformed SASL initial response"),
        (vec![b'p', 0, 1, 0x86, 0xa0], "08P01 invalid length of password packet"),
        (vec![b'p', 0, 0, 0, 3], "08P01 invalid length of password packet"),
        (b"X\0\0\0\x04".to_vec(), "08P01 expected password response, got message type 88"),
    ] {
        assert_eq!(refused(first(&bytes)), expected);
    }
}

#[test]
fn row_32_a_proof_of_the_wrong_length_is_refused() {
    let mut login = ClientLogin::scram(verifier(), NONCE.into(), None, &mut Vec::new());
    login.step(&initial(SCRAM, b"n,,n=,r=abc"), &mut Vec::new()).expect("an answer");
    let answer = login.step(&message(format!("c=biws,r=abc{NONCE},p=AAAA").as_bytes()), &mut Vec::new());
    assert_eq!(refused(answer), "08P01 malformed SCRAM message: proof");
}

#[test]
fn row_27_a_token_is_taken_up_to_its_bound() {
    let token = |bytes: &[u8]| {
        let mut out = Vec::new();
        let mut login = ClientLogin::token(&mut out);
        assert_eq!(out, CLEARTEXT_PASSWORD);
        match login.step(bytes, &mut out)? {
            (taken, Progress::Token(token)) => Ok((taken, token.expose().to_owned())),
            (_, other) => panic!("{other:?}"),
        }
    };
    assert_eq!(token(&message(b"a.b.c\0")), Ok((11, "a.b.c".to_owned())));
    let long = [&vec![b'x'; TOKEN_BYTES_MAX - 1][..], b"\0"].concat();
    assert!(token(&message(&long)).is_ok());
    assert_eq!(refused(token(&message(&[&long[..], b"\0"].concat()))), "08P01 invalid length of password packet");
    for bad in [&b""[..], b"abc", b"a\0b\0", b"\xff\0"] {
        assert_eq!(refused(token(&message(bad))), "08P01 invalid password packet");
    }
}

proptest! {
    #[test]
    fn row_32_no_bytes_make_it_panic(first in any::<Vec<u8>>(), text in "[a-z=,+/ ]{0,60}", plus in any::<bool>()) {
        for bytes in [first.clone(), message(&first), initial(SCRAM, text.as_bytes()), initial(SCRAM_PLUS, &first)] {
            let end_point = plus.then(|| vec![1; 32]);
            let mut login = ClientLogin::scram(verifier(), NONCE.into(), end_point, &mut Vec::new());
            let _ = login.step(&bytes, &mut Vec::new());
            let _ = login.step(&message(text.as_bytes()), &mut Vec::new());
            let _ = ClientLogin::token(&mut Vec::new()).step(&bytes, &mut Vec::new());
        }
    }

    #[test]
    fn where_the_network_cuts_a_message_changes_nothing(cut in 0_usize..40) {
        let bytes = initial(SCRAM, b"n,,n=,r=abc");
        let mut login = ClientLogin::scram(verifier(), NONCE.into(), None, &mut Vec::new());
        let mut out = Vec::new();
        let cut = cut.min(bytes.len() - 1);
        prop_assert!(matches!(login.step(&bytes[..cut], &mut out), Ok((0, Progress::More))));
        let whole = login.step(&bytes, &mut out);
        prop_assert!(matches!(whole, Ok((taken, Progress::More)) if taken == bytes.len()));
    }
}

#[test]
fn a_bearer_token_is_asked_for_as_postgres_18_does_and_refused_in_two_steps() {
    let ask = |out: &mut Vec<u8>| {
        let login = ClientLogin::bearer(Some("https://issuer.example/"), out);
        assert_eq!(std::mem::take(out), b"R\0\0\0\x15\0\0\0\x0aOAUTHBEARER\0\0");
        login
    };
    let said = br#"{"openid-configuration":"https://issuer.example/.well-known/openid-configuration","status":"invalid_token"}"#;
    let mut out = Vec::new();
    let mut login = ask(&mut out);
    let first = initial("OAUTHBEARER", b"n,,\x01auth=Bearer a.b.c\x01\x01");
    assert!(matches!(login.step(&first[..first.len() - 1], &mut out), Ok((0, Progress::More))), "not whole");
    let Ok((taken, Progress::Token(token))) = login.step(&first, &mut out) else { panic!("a token") };
    assert_eq!(
        (taken, token.expose(), out.len()),
        (first.len(), "a.b.c", 0),
        "whoever checks it says what comes next"
    );
    assert!(login.deny(&mut out));
    assert_eq!(data(&mut out, 11), said);
    assert_eq!(login.step(&message(b"\x01"), &mut out).err(), Some(Failure::WrongPassword));
    assert!(!login.deny(&mut out) && out.is_empty());

    // Without a token the client is told where there are some.
    let mut login = ask(&mut out);
    let progress = login.step(&initial("OAUTHBEARER", b"n,,\x01auth=\x01\x01"), &mut out);
    assert!(matches!(progress, Ok((_, Progress::More))), "{progress:?}");
    assert_eq!(data(&mut out, 11), said);
    assert_eq!(refused(login.step(&message(b"\x01"), &mut out)), "28000 no token was sent");

    for (bytes, expected) in [
        (initial("SCRAM-SHA-256", b"n,,n=,r=abc"), "08P01 client selected an invalid SASL authentication mechanism"),
        (initial("OAUTHBEARER", b"auth"), "08P01 malformed OAUTHBEARER message: it does not begin with n,, or y,,"),
        (initial("OAUTHBEARER", b"p=x,,"), "0A000 channel binding is not supported with OAUTHBEARER"),
        (message(b"hunter2\0"), "08P01 malformed SASL initial response"),
        (message(&vec![b'x'; TOKEN_BYTES_MAX + 1]), "08P01 invalid length of password packet"),
    ] {
        assert_eq!(refused(ask(&mut out).step(&bytes, &mut out)), expected);
    }
    let mut login = ask(&mut out);
    let _ = login.step(&initial("OAUTHBEARER", b"n,,\x01auth=\x01\x01"), &mut out);
    out.clear();
    assert_eq!(
        refused(login.step(&message(b"\x01\x01"), &mut out)),
        "08P01 malformed OAUTHBEARER message: no dismissal"
    );
}
