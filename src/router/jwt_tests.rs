//! Tokens of an issuer made here, with fresh keys of each kind.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::manifest::JwtKeys;

const NOW: i64 = 1_800_000_000;
const SECRET: &str = "a shared secret of more than 32 bytes";

/// A signer of each kind, and the set of their public keys.
pub(in super::super) struct Issuer {
    rsa: RsaKeyPair,
    ec: EcdsaKeyPair,
    ed: Ed25519KeyPair,
}

impl Issuer {
    pub(in super::super) fn new() -> Issuer {
        Issuer {
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).expect("a key"),
            ec: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key"),
            ed: Ed25519KeyPair::generate().expect("a key"),
        }
    }

    pub(in super::super) fn jwks(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        // RFC 8017 §A.1.1 in DER: nine bytes of headers, 2048 bits, two bytes of header, 65537.
        let rsa = self.rsa.public_key().as_ref();
        let point = self.ec.public_key().as_ref();
        json!({ "keys": [
            { "kty": "RSA", "kid": "rsa", "use": "sig", "alg": "RS256",
              "n": text(&rsa[9..265]), "e": text(&rsa[267..]) },
            { "kty": "EC", "kid": "ec", "crv": "P-256", "x": text(&point[1..33]), "y": text(&point[33..]) },
            { "kty": "OKP", "kid": "ed", "crv": "Ed25519", "x": text(self.ed.public_key().as_ref()) },
            { "kty": "oct", "kid": "oct", "k": text(SECRET.as_bytes()) },
            { "kty": "RSA", "kid": "enc", "use": "enc", "n": "AQAB", "e": "AQAB" },
        ] })
    }

    pub(in super::super) fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_as(header["kid"].as_str().unwrap_or_default(), header, claims)
    }

    /// With the key of that name, whatever the header says.
    pub(in super::super) fn sign_as(&self, key: &str, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let random = SystemRandom::new();
        let signature = match key {
            "rsa" => {
                let mut signature = vec![0; self.rsa.public_modulus_len()];
                self.rsa.sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature).expect("signs");
                signature
            }
            "ec" => self.ec.sign(&random, signed.as_bytes()).expect("signs").as_ref().to_vec(),
            "ed" => self.ed.sign(signed.as_bytes()).as_ref().to_vec(),
            _ => {
                hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), signed.as_bytes()).as_ref().to_vec()
            }
        };
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

pub(in super::super) fn settings() -> Jwt {
    Jwt {
        keys: JwtKeys::SecretFrom("JWT_SECRET".to_owned()),
        audience: None,
        issuer: None,
        tenant_claim: "tenant".to_owned(),
        role_claim: "role".to_owned(),
        sessions_outlive: false,
    }
}

fn claims() -> Value {
    json!({ "tenant": "acme", "role": "reader", "exp": NOW + 60 })
}

fn with(key: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[key] = value;
    claims
}

fn shared(claims: &Value, jwt: &Jwt) -> Result<Claims, Wrong> {
    let keys = KeySet::shared(&Secret::new(SECRET)).expect("long enough");
    check(&Issuer::shared().sign(&json!({ "alg": "HS256" }), claims), &keys, jwt, NOW)
}

impl Issuer {
    /// One for all tests: RSA keys take long to make.
    pub(in super::super) fn shared() -> &'static Issuer {
        static ISSUER: std::sync::OnceLock<Issuer> = std::sync::OnceLock::new();
        ISSUER.get_or_init(Issuer::new)
    }
}

fn refused(result: Result<Claims, Wrong>) -> &'static str {
    match result.expect_err("it is wrong") {
        Wrong::Refused(why) => why,
        Wrong::UnknownKey => "unknown key",
    }
}

#[test]
fn each_algorithm_is_checked_with_its_own_key() {
    let issuer = Issuer::shared();
    let keys = KeySet::from_jwks(issuer.jwks().to_string().as_bytes()).expect("a set");
    let right = Claims { tenant: "acme".to_owned(), role: Some("reader".to_owned()), ends: NOW + 90 };
    for (alg, kid) in [("RS256", "rsa"), ("ES256", "ec"), ("EdDSA", "ed")] {
        let token = issuer.sign(&json!({ "alg": alg, "kid": kid }), &claims());
        assert_eq!(check(&token, &keys, &settings(), NOW), Ok(right.clone()), "{alg}");
        let other = Issuer::new().sign(&json!({ "alg": alg, "kid": kid }), &claims());
        assert_eq!(refused(check(&other, &keys, &settings(), NOW)), "its signature is wrong", "{alg}");
    }
    assert_eq!(shared(&claims(), &settings()), Ok(right));
}

#[test]
fn no_algorithm_but_the_keys_own_is_taken() {
    let issuer = Issuer::shared();
    let keys = KeySet::from_jwks(issuer.jwks().to_string().as_bytes()).expect("a set");
    // The published key, taken for a shared secret; and a secret that was published.
    for kid in ["rsa", "oct"] {
        for alg in ["none", "None", "", "HS256", "RS512", "PS256", "ES256"] {
            let mut header = json!({ "alg": alg, "kid": kid });
            let token = issuer.sign(&header, &claims());
            assert!(check(&token, &keys, &settings(), NOW).is_err(), "{alg} {kid}");
            header["kid"] = json!(null);
            assert!(check(&issuer.sign(&header, &claims()), &keys, &settings(), NOW).is_err(), "{alg}");
            let unsigned = token.rsplit_once('.').map(|(signed, _)| format!("{signed}.")).expect("three parts");
            assert!(check(&unsigned, &keys, &settings(), NOW).is_err(), "{alg} unsigned");
        }
    }
    let mine = KeySet::shared(&Secret::new(SECRET)).expect("long enough");
    for alg in ["none", "RS256"] {
        let token = issuer.sign(&json!({ "alg": alg }), &claims());
        assert_eq!(refused(check(&token, &mine, &settings(), NOW)), "its signature is wrong", "{alg}");
    }
    let critical = issuer.sign(&json!({ "alg": "RS256", "kid": "rsa", "crit": ["b64"] }), &claims());
    assert_eq!(refused(check(&critical, &keys, &settings(), NOW)), "it needs an extension that is not known");
}

#[test]
fn a_key_that_may_be_published_by_now_is_told_from_a_wrong_signature() {
    let issuer = Issuer::shared();
    let keys = KeySet::from_jwks(issuer.jwks().to_string().as_bytes()).expect("a set");
    let token = |kid: Value| issuer.sign(&json!({ "alg": "RS256", "kid": kid }), &claims());
    assert_eq!(check(&token(json!("next")), &keys, &settings(), NOW), Err(Wrong::UnknownKey));
    assert_eq!(refused(check(&token(json!(null)), &keys, &settings(), NOW)), "its signature is wrong");
}

#[test]
fn times_are_kept_with_half_a_minute_of_leeway() {
    for (claims, why) in [
        (with("exp", json!(NOW - 29)), None),
        (with("exp", json!(NOW - 30)), Some("it has expired")),
        (with("exp", json!(NOW as f64 + 0.5)), None),
        (with("exp", json!(null)), Some("one of its times is no number")),
        (with("exp", json!("2099")), Some("one of its times is no number")),
        (json!({ "tenant": "acme" }), Some("it never expires")),
        (with("nbf", json!(NOW + 30)), None),
        (with("nbf", json!(NOW + 31)), Some("it is not valid yet")),
    ] {
        assert_eq!(shared(&claims, &settings()).err().map(|wrong| wrong.to_string()).as_deref(), why, "{claims}");
    }
}

#[test]
fn audience_issuer_and_names_are_those_of_the_manifest() {
    let strict = Jwt { audience: Some("db".to_owned()), issuer: Some("us".to_owned()), ..settings() };
    let ours = |aud: Value| json!({ "tenant": "acme", "exp": NOW + 60, "iss": "us", "aud": aud });
    let owner = Claims { tenant: "acme".to_owned(), role: None, ends: NOW + 90 };
    assert_eq!(shared(&ours(json!("db")), &strict), Ok(owner.clone()));
    assert_eq!(shared(&ours(json!(["web", "db"])), &strict), Ok(owner));
    for aud in [json!("web"), json!([]), json!(null), json!([["db"]]), json!("DB")] {
        assert_eq!(refused(shared(&ours(aud), &strict)), "it is meant for somebody else");
    }
    assert_eq!(refused(shared(&with("aud", json!("db")), &strict)), "it is of another issuer");
    assert_eq!(refused(shared(&with("aud", json!("db")), &settings())), "it is meant for somebody else");
    assert_eq!(refused(shared(&with("tenant", json!(null)), &settings())), "it names no tenant");
    for bad in [json!(7), json!(["acme"]), json!("")] {
        assert_eq!(refused(shared(&with("tenant", bad.clone()), &settings())), "its tenant or role is no text");
        assert_eq!(refused(shared(&with("role", bad), &settings())), "its tenant or role is no text");
    }
    let elsewhere = Jwt { tenant_claim: "https://example.com/org".to_owned(), ..settings() };
    let claims = shared(&with("https://example.com/org", json!("birch")), &elsewhere).expect("right");
    assert_eq!(claims.tenant, "birch");
}

#[test]
fn a_huge_token_is_refused_before_it_is_read() {
    let claims = with("pad", json!("x".repeat(TOKEN_BYTES_MAX)));
    assert_eq!(refused(shared(&claims, &settings())), "it is too long");
}

#[test]
fn weak_and_useless_keys_are_refused() {
    assert!(matches!(KeySet::shared(&Secret::new("short")), Err(BadKeys::ShortSecret)));
    assert!(matches!(KeySet::from_jwks(b"{}"), Err(BadKeys::Malformed(_))));
    assert!(matches!(KeySet::from_jwks(br#"{ "keys": [] }"#), Err(BadKeys::Empty)));
    let many = json!({ "keys": vec![json!({}); KEYS_MAX + 1] }).to_string();
    assert!(matches!(KeySet::from_jwks(many.as_bytes()), Err(BadKeys::TooMany)));
    let small = json!({ "keys": [{ "kty": "RSA", "n": URL_SAFE_NO_PAD.encode([0xffu8; 128]), "e": "AQAB" }] });
    let keys = KeySet::from_jwks(small.to_string().as_bytes());
    // Taken or not, nothing is verified with 1024 bits.
    let token = Issuer::shared().sign(&json!({ "alg": "RS256" }), &claims());
    assert!(keys.is_err() || check(&token, &keys.expect("a set"), &settings(), NOW).is_err());
}

proptest! {
    #[test]
    fn no_text_panics_or_passes(text in "[A-Za-z0-9_.{}\":,-]{0,200}", bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let keys = KeySet::shared(&Secret::new(SECRET)).expect("long enough");
        prop_assert!(check(&text, &keys, &settings(), NOW).is_err());
        prop_assert!(check(&String::from_utf8_lossy(&bytes), &keys, &settings(), NOW).is_err());
        let _ = KeySet::from_jwks(&bytes);
    }

    #[test]
    fn one_changed_character_makes_a_right_token_wrong(at in any::<prop::sample::Index>()) {
        let keys = KeySet::shared(&Secret::new(SECRET)).expect("long enough");
        let token = Issuer::shared().sign(&json!({ "alg": "HS256" }), &claims());
        let mut bytes = token.clone().into_bytes();
        // The last character of a part may carry bits that say nothing; it is refused where they are set.
        let at = at.index(bytes.len());
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        prop_assert!(check(&String::from_utf8(bytes).expect("ASCII"), &keys, &settings(), NOW).is_err());
    }
}
