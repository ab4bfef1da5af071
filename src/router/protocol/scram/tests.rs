//! Every row of the list of edge cases that is about SCRAM, the vector of RFC 7677, and the laws of the pair.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::*;
use crate::tenancy::{ScramKeys, Secret, Verifier};

/// The exchange of RFC 7677, section 3: user `user`, password `pencil`.
const CLIENT_FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const CLIENT_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
    p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

fn pencil() -> Verifier {
    Verifier::from_password(&Secret::new("pencil"), &STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64"))
}

fn server(offered: Option<&[u8]>) -> ScramServer {
    ScramServer::new(pencil(), "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".to_owned(), offered.map(<[u8]>::to_vec))
}

fn awaiting() -> AwaitingProof {
    server(None).first(SCRAM, CLIENT_FIRST.as_bytes()).expect("taken").1
}

#[test]
fn the_server_answers_as_in_rfc_7677() {
    let (first, awaiting) = server(None).first(SCRAM, CLIENT_FIRST.as_bytes()).expect("taken");
    assert_eq!(String::from_utf8_lossy(&first), SERVER_FIRST);
    let (last, keys) = awaiting.last(CLIENT_FINAL.as_bytes()).expect("right");
    assert_eq!(String::from_utf8_lossy(&last), SERVER_FINAL);
    let salt = pencil().salt;
    assert_eq!(keys, ScramKeys::of(&Secret::new("pencil"), &salt, pencil().iterations), "the proof yields both keys");
}

#[test]
fn row_23_a_client_that_was_not_told_of_plus_meets_a_refusal() {
    let taken = |mechanism: &str, first: &str, offered: Option<&[u8]>| {
        server(offered).first(mechanism, first.as_bytes()).map(|_| ()).err()
    };
    let hash: Option<&[u8]> = Some(b"hash");
    assert_eq!(taken(SCRAM, "y,,n=,r=abc", hash), Some(ScramError::Downgrade));
    assert_eq!(taken(SCRAM, "y,,n=,r=abc", None), None, "nothing was offered, so nothing was taken out");
    assert_eq!(taken(SCRAM, "n,,n=,r=abc", hash), None, "a client without channel binding");
    assert_eq!(taken(SCRAM_PLUS, "p=tls-server-end-point,,n=,r=abc", hash), None);
    let unsupported = [
        (SCRAM_PLUS, "p=tls-unique,,n=,r=abc", hash),
        (SCRAM_PLUS, "p=tls-server-end-point,,n=,r=abc", None),
        (SCRAM, "p=tls-server-end-point,,n=,r=abc", hash),
        ("SCRAM-SHA-1", "n,,n=,r=abc", None),
        (SCRAM, "n,a=other,n=,r=abc", None),
        (SCRAM, "n,,m=x,n=,r=abc", None),
    ];
    for (mechanism, first, offered) in unsupported {
        assert!(matches!(taken(mechanism, first, offered), Some(ScramError::Unsupported(_))), "{mechanism} {first}");
    }
    for flag in ["n", "y"] {
        let first = format!("{flag},,n=,r=abc");
        assert!(matches!(taken(SCRAM_PLUS, &first, hash), Some(ScramError::Malformed(_))), "PLUS with {flag}");
    }
}

#[test]
fn row_25_one_certificate_on_both_sides_or_no_login() {
    let exchange = |seen: &[u8], offered: &[u8]| {
        let offer = Offer { plain: true, plus: true, end_point: Some(seen.to_vec()) };
        let secret = ClientSecret::Password(Secret::new("pencil"));
        let (mechanism, first, client) = ScramClient::start(secret, "abc", offer).expect("offered");
        assert_eq!(mechanism, SCRAM_PLUS);
        let (answer, awaiting) = server(Some(offered)).first(mechanism, &first)?;
        awaiting.last(&client.challenge(&answer)?.answer().0).map(|_| ())
    };
    assert_eq!(exchange(b"certificate", b"certificate"), Ok(()));
    assert_eq!(exchange(b"certificate", b"another one"), Err(ScramError::Binding));
}

#[test]
fn row_28_an_unknown_name_sees_the_same_salt_at_every_try() {
    let first = |secret: [u8; 32], name: &str| {
        let server = ScramServer::new(mock_verifier(&secret, name), "x".to_owned(), None);
        server.first(SCRAM, CLIENT_FIRST.as_bytes()).expect("taken")
    };
    let (shown, awaiting) = first([1; 32], "nobody");
    assert_eq!(shown, first([1; 32], "nobody").0);
    assert_ne!(shown, first([1; 32], "no-one").0);
    assert_ne!(shown, first([2; 32], "nobody").0);
    assert_eq!(shown.len(), first([1; 32], "a much longer name").0.len());
    let proof = CLIENT_FINAL.replace("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", "x");
    assert_eq!(awaiting.last(proof.as_bytes()).map(|_| ()), Err(ScramError::Wrong));
}

#[test]
fn row_32_what_is_too_long_too_short_or_missing_is_refused() {
    let first = |text: &str| server(None).first(SCRAM, text.as_bytes()).map(|_| ()).expect_err(text);
    for bad in [
        "",
        "n",
        "n,",
        "n,,",
        "n,,n=user",
        "n,,r=abc",
        "n,,n=user,r=",
        "n,,n=user,r=a b",
        "n,,n=user,r=ä",
        "x,,n=user,r=abc",
        &format!("n,,n=user,r={}", "a".repeat(257)),
        &format!("n,,n=user,r={}", "a".repeat(100 * 1024)),
    ] {
        assert!(matches!(first(bad), ScramError::Malformed(_)), "{bad}");
    }
    let last = |text: &str| awaiting().last(text.as_bytes()).map(|_| ()).expect_err(text);
    for bad in [
        "",
        "c=biws",
        "p=AAAA",
        ",p=",
        &CLIENT_FINAL.replace("c=biws,", ""),
        &CLIENT_FINAL.replace("r=r", "r=x"),
        &CLIENT_FINAL.replace("p=d", "p=!"),
        &CLIENT_FINAL.replace("p=dHzb", "p="),
        &format!("{CLIENT_FINAL}AAAA"),
        &format!("{CLIENT_FINAL}{}", "A".repeat(100 * 1024)),
    ] {
        assert!(matches!(last(bad), ScramError::Malformed(_)), "{bad}");
    }
    assert_eq!(last(&CLIENT_FINAL.replace("biws", "eSws")), ScramError::Binding, "the flag was changed on the way");
    assert_eq!(last(&CLIENT_FINAL.replace("p=d", "p=e")), ScramError::Wrong);
}

fn challenge(server_first: &str) -> Result<Challenge, ScramError> {
    let offer = Offer { plain: true, plus: false, end_point: None };
    let secret = ClientSecret::Password(Secret::new("pencil"));
    ScramClient::start(secret, "rOprNGfwEbeRWgbNEkqO", offer).expect("offered").2.challenge(server_first.as_bytes())
}

#[test]
fn row_38_the_work_a_server_may_ask_for_is_bounded() {
    let refusal = |iterations: &str| challenge(&SERVER_FIRST.replace("4096", iterations)).err();
    assert_eq!(refusal("10000000"), Some(ScramError::TooCostly(10_000_000)));
    assert_eq!(refusal("1000001"), Some(ScramError::TooCostly(1_000_001)));
    assert_eq!(refusal("0"), Some(ScramError::Malformed("iterations")));
    assert_eq!(refusal("99999999999"), Some(ScramError::Malformed("iterations")));
    assert_eq!(refusal("1000000"), None);
    for bad in [
        "",
        "r=rOprNGfwEbeRWgbNEkqO,s=AAAA,i=4096",
        "r=another,s=AAAA,i=4096",
        "r=rOprNGfwEbeRWgbNEkqOx,s=,i=4096",
        "r=rOprNGfwEbeRWgbNEkqOx,s=?,i=4096",
        "r=rOprNGfwEbeRWgbNEkqOx,s=AAAA",
        "m=x,r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=4096",
        &"r=".repeat(100 * 1024),
    ] {
        assert!(challenge(bad).is_err(), "{bad}");
    }
}

#[test]
fn row_142_a_server_that_does_not_know_the_password_is_found_out() {
    let confirmation = || challenge(SERVER_FIRST).expect("taken").answer().1;
    let signed = format!("v={}", STANDARD.encode([7; 32]));
    assert_eq!(confirmation().check(signed.as_bytes()), Err(ScramError::Unproven));
    assert_eq!(confirmation().check(b"v=AAAA"), Err(ScramError::Unproven));
    assert_eq!(confirmation().check(b"e=invalid-proof"), Err(ScramError::Wrong));
    assert!(matches!(confirmation().check(b""), Err(ScramError::Malformed(_))));
}

#[test]
fn a_client_says_that_it_missed_plus_and_takes_nothing_less_than_scram() {
    let start = |plain, plus, end_point: Option<&[u8]>| {
        let offer = Offer { plain, plus, end_point: end_point.map(<[u8]>::to_vec) };
        let started = ScramClient::start(ClientSecret::Password(Secret::new("x")), "abc", offer);
        started.map(|(mechanism, first, _)| (mechanism, String::from_utf8_lossy(&first).into_owned()))
    };
    assert_eq!(start(true, false, Some(b"hash")), Ok((SCRAM, "y,,n=,r=abc".to_owned())));
    assert_eq!(start(true, true, None), Ok((SCRAM, "n,,n=,r=abc".to_owned())));
    assert!(start(false, true, None).is_err(), "PLUS without a certificate to bind to");
    assert!(start(false, false, Some(b"hash")).is_err());
}

/// The front of a certificate: only what is looked at.
fn certificate(algorithm: &[u8]) -> Vec<u8> {
    let wrapped = |tag: u8, body: &[u8]| {
        let length = u8::try_from(body.len()).expect("short");
        [&[tag, 0x81, length], body].concat()
    };
    let identifier = wrapped(0x06, algorithm);
    wrapped(0x30, &[wrapped(0x30, b"to be signed"), wrapped(0x30, &identifier)].concat())
}

#[test]
fn row_24_the_hash_is_that_of_the_certificates_signature() {
    let length = |algorithm: &[u8]| end_point(&certificate(algorithm)).map(|hash| hash.len());
    let rsa = |last| length(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, last]);
    assert_eq!([4, 5, 11, 12, 13, 10].map(rsa), [Some(32), Some(32), Some(32), Some(48), Some(64), None]);
    let ecdsa = |last| length(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, last]);
    assert_eq!([1, 2, 3, 4].map(ecdsa), [None, Some(32), Some(48), Some(64)]);
    assert_eq!(length(&[0x2b, 0x65, 0x70]), None, "Ed25519 has no hash of its own");
}

proptest! {
    #[test]
    fn whoever_knows_the_password_logs_in_and_nobody_else(
        password in ".{0,40}", other in ".{0,40}", salt in proptest::collection::vec(any::<u8>(), 1..32), plus: bool,
        nonces in ("[!-+\\--~]{1,200}", "[!-+\\--~]{1,24}"), by_keys: bool,
    ) {
        let (password, other) = (Secret::new(password), Secret::new(other));
        let one = std::num::NonZeroU32::MIN;
        let verifier = |password: &Secret| {
            let keys = ScramKeys::of(password, &salt, one);
            let stored_key = crate::tenancy::scram::hash(&keys.client_key);
            Verifier { iterations: one, salt: salt.clone(), stored_key, server_key: keys.server_key }
        };
        let secret = match by_keys {
            true => ClientSecret::Keys(Arc::new(ScramKeys::of(&password, &salt, one))),
            false => ClientSecret::Password(password.clone()),
        };
        for known in [&password, &other] {
            let end_point = plus.then(|| vec![9; 32]);
            let offer = Offer { plain: true, plus, end_point: end_point.clone() };
            let (mechanism, first, client) = ScramClient::start(secret.clone(), &nonces.0, offer).expect("offered");
            let server = ScramServer::new(verifier(known), nonces.1.clone(), end_point);
            let (answer, awaiting) = server.first(mechanism, &first).expect("taken");
            let (proof, confirmation) = client.challenge(&answer).expect("taken").answer();
            match awaiting.last(&proof) {
                Ok((last, keys)) => {
                    prop_assert_eq!(confirmation.check(&last), Ok(()));
                    prop_assert_eq!(keys, ScramKeys::of(&password, &salt, one));
                }
                Err(error) => {
                    prop_assert_eq!(error, ScramError::Wrong);
                    prop_assert_ne!(verifier(&password), verifier(known));
                }
            }
        }
    }

    #[test]
    fn no_bytes_make_either_half_panic(bytes: Vec<u8>, text in "[npyvcrsime=,A-C0-9/+]{0,80}", plus: bool) {
        for message in [&bytes[..], text.as_bytes()] {
            let mechanism = if plus { SCRAM_PLUS } else { SCRAM };
            let _ = server(plus.then_some(b"hash")).first(mechanism, message);
            let _ = awaiting().last(message);
            let _ = challenge(&String::from_utf8_lossy(message)).map(|_| ());
            let _ = challenge(SERVER_FIRST).expect("taken").answer().1.check(message);
            let _ = end_point(message);
        }
    }
}
