//! Checks a JSON Web Token (RFC 7519, signed as in RFC 7515). Pure: keys and time are arguments.
//!
//! A key has one algorithm, and a token must name just that one: neither `none` nor a public key taken for a shared
//! secret can be talked into. Every way of being wrong is the same to the outside.

use std::collections::BTreeSet;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::manifest::Jwt;
use crate::tenancy::Secret;

pub const TOKEN_BYTES_MAX: usize = 64 * 1024;
/// Issuers have a handful; more would make a token without `kid` costly to refuse.
pub const KEYS_MAX: usize = 64;
/// Of HS256's secret: RFC 7518 §3.2.
pub const SECRET_BYTES_MIN: usize = 32;
/// How far clocks of issuer and router may be apart, in seconds.
const LEEWAY: f64 = 30.0;

/// What a right token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    pub tenant: String,
    /// `None` for the owner.
    pub role: Option<String>,
    /// When it is no longer taken, in seconds since 1970: `exp` and the leeway.
    pub ends: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// Signed with a key that is not in the set: another set may have it.
    #[error("it is signed with a key that is not known")]
    UnknownKey,
    /// For the log; whoever sent the token is not told.
    #[error("{0}")]
    Refused(&'static str),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadKeys {
    #[error("it is no JSON Web Key Set: {0}")]
    Malformed(String),
    #[error("it holds no key for RS256, ES256 or EdDSA")]
    Empty,
    #[error("it holds more than {KEYS_MAX} keys")]
    TooMany,
    #[error("the shared secret has fewer than {SECRET_BYTES_MIN} bytes")]
    ShortSecret,
}

#[derive(Debug, Clone)]
pub struct KeySet(Vec<Key>);

#[derive(Debug, Clone)]
struct Key {
    id: Option<String>,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Public { algorithm: &'static str, key: Box<ParsedPublicKey> },
    Shared(Box<hmac::Key>),
}

/// RFC 7517, as far as it is used.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    crv: Option<String>,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that must be understood; none is.
    crit: Option<Value>,
}

impl KeySet {
    /// Reads a JWKS. Keys for other uses or algorithms are passed over; a shared secret in it is never taken, because
    /// what is published is no secret.
    pub fn from_jwks(text: &[u8]) -> Result<KeySet, BadKeys> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let set: Set = serde_json::from_slice(text).map_err(|error| BadKeys::Malformed(error.to_string()))?;
        if set.keys.len() > KEYS_MAX {
            return Err(BadKeys::TooMany);
        }
        let read = |value| serde_json::from_value::<Jwk>(value).ok().and_then(Jwk::key);
        let keys: Vec<Key> = set.keys.into_iter().filter_map(read).collect();
        if keys.is_empty() { Err(BadKeys::Empty) } else { Ok(KeySet(keys)) }
    }

    /// For HS256.
    pub fn shared(secret: &Secret) -> Result<KeySet, BadKeys> {
        let bytes = secret.expose().as_bytes();
        if bytes.len() < SECRET_BYTES_MIN {
            return Err(BadKeys::ShortSecret);
        }
        Ok(KeySet(vec![Key { id: None, kind: Kind::Shared(Box::new(hmac::Key::new(hmac::HMAC_SHA256, bytes))) }]))
    }

    /// A token that names its key is checked with that one; a set of one key needs no name.
    fn verify(&self, header: &Header, signed: &[u8], signature: &[u8]) -> Result<(), Wrong> {
        let named = |key: &&Key| match (&key.id, &header.kid) {
            (Some(id), Some(kid)) => id == kid,
            _ => true,
        };
        let mut found = false;
        for key in self.0.iter().filter(named) {
            if key.algorithm() != header.alg {
                continue;
            }
            found = true;
            let right = match &key.kind {
                Kind::Public { key, .. } => key.verify_sig(signed, signature).is_ok(),
                Kind::Shared(key) => hmac::verify(key, signed, signature).is_ok(),
            };
            if right {
                return Ok(());
            }
        }
        // Without a name the right key may be one that is published later, but asking for it would be anybody's lever.
        match (found, &header.kid) {
            (false, Some(_)) if self.is_public() => Err(Wrong::UnknownKey),
            _ => Err(Wrong::Refused("its signature is wrong")),
        }
    }

    fn is_public(&self) -> bool {
        self.0.iter().any(|key| matches!(key.kind, Kind::Public { .. }))
    }
}

impl Key {
    fn algorithm(&self) -> &'static str {
        match &self.kind {
            Kind::Public { algorithm, .. } => algorithm,
            Kind::Shared(_) => "HS256",
        }
    }
}

impl Jwk {
    fn key(self) -> Option<Key> {
        if self.purpose.as_deref().is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let part = |text: Option<String>| URL_SAFE_NO_PAD.decode(text?).ok();
        let (algorithm, key) = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => {
                let components = RsaPublicKeyComponents { n: part(self.n)?, e: part(self.e)? };
                // Below 2048 bits is refused here.
                ("RS256", components.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).ok()?)
            }
            ("EC", Some("P-256")) => {
                let point = [vec![4], part(self.x)?, part(self.y)?].concat();
                ("ES256", ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point).ok()?)
            }
            ("OKP", Some("Ed25519")) => ("EdDSA", ParsedPublicKey::new(&ED25519, part(self.x)?).ok()?),
            _ => return None,
        };
        // RFC 9864 gives EdDSA with this curve a name of its own.
        let is_meant = |alg: &str| alg == algorithm || (algorithm == "EdDSA" && alg == "Ed25519");
        let meant = self.alg.as_deref().is_none_or(is_meant);
        meant.then(|| Key { id: self.kid, kind: Kind::Public { algorithm, key: Box::new(key) } })
    }
}

/// `now` in seconds since 1970. Claims are read only after the signature was right.
pub fn check(token: &str, keys: &KeySet, jwt: &Jwt, now: i64) -> Result<Claims, Wrong> {
    const MALFORMED: Wrong = Wrong::Refused("it is no JWT");
    if token.len() > TOKEN_BYTES_MAX {
        return Err(Wrong::Refused("it is too long"));
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(MALFORMED)?;
    let (header, payload) = signed.split_once('.').ok_or(MALFORMED)?;
    let bytes = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| MALFORMED);
    let header: Header = serde_json::from_slice(&bytes(header)?).map_err(|_| MALFORMED)?;
    if header.crit.is_some() {
        return Err(Wrong::Refused("it needs an extension that is not known"));
    }
    keys.verify(&header, signed.as_bytes(), &bytes(signature)?)?;
    let claims: Map<String, Value> = serde_json::from_slice(&bytes(payload)?).map_err(|_| MALFORMED)?;
    read(&claims, jwt, now)
}

fn read(claims: &Map<String, Value>, jwt: &Jwt, now: i64) -> Result<Claims, Wrong> {
    #[expect(clippy::cast_precision_loss, reason = "NumericDate may have a fraction; seconds fit for ages")]
    let now = now as f64;
    let time = |key: &str| match claims.get(key) {
        None => Ok(None),
        Some(value) => value.as_f64().map(Some).ok_or(Wrong::Refused("one of its times is no number")),
    };
    let ends = match time("exp")? {
        Some(end) if now < end + LEEWAY => end + LEEWAY,
        Some(_) => return Err(Wrong::Refused("it has expired")),
        None => return Err(Wrong::Refused("it never expires")),
    };
    if time("nbf")?.is_some_and(|begin| now < begin - LEEWAY) {
        return Err(Wrong::Refused("it is not valid yet"));
    }
    if jwt.issuer.is_some() && claims.get("iss").and_then(Value::as_str) != jwt.issuer.as_deref() {
        return Err(Wrong::Refused("it is of another issuer"));
    }
    let meant: BTreeSet<&str> = match claims.get("aud") {
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        Some(one) => one.as_str().into_iter().collect(),
        None => BTreeSet::new(),
    };
    let is_ours = match &jwt.audience {
        Some(audience) => meant.contains(audience.as_str()),
        // RFC 7519 §4.1.3: who does not know itself by a name that is given must refuse.
        None => !claims.contains_key("aud"),
    };
    if !is_ours {
        return Err(Wrong::Refused("it is meant for somebody else"));
    }
    let name = |key: &str| match claims.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(name)) if !name.is_empty() => Ok(Some(name.clone())),
        Some(_) => Err(Wrong::Refused("its tenant or role is no text")),
    };
    let tenant = name(&jwt.tenant_claim)?.ok_or(Wrong::Refused("it names no tenant"))?;
    #[expect(clippy::cast_possible_truncation, reason = "what is later than any clock is cut to the latest")]
    let ends = ends.ceil() as i64;
    Ok(Claims { tenant, role: name(&jwt.role_claim)?, ends })
}

#[cfg(test)]
#[path = "jwt_tests.rs"]
pub(super) mod tests;
