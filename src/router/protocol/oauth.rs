//! OAUTHBEARER (RFC 7628), as Postgres 18 speaks it: what the client's first message says, and what a refusal says. Pure.

use serde_json::json;

/// Its name in SASL.
pub const OAUTHBEARER: &str = "OAUTHBEARER";
/// What a client answers a refusal with.
pub const DISMISSAL: &[u8] = &[SEPARATOR as u8];
const SEPARATOR: char = '\x01';

#[derive(Debug, PartialEq, Eq)]
pub enum Bearer<'a> {
    Token(&'a str),
    /// The client has none yet and asks where to get one.
    Discovery,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    #[error("malformed OAUTHBEARER message: {0}")]
    Malformed(&'static str),
    #[error("{0} is not supported with OAUTHBEARER")]
    Unsupported(&'static str),
}

/// `n,,` or `y,,`, then `key=value` pairs, each in front of a 0x01, and one 0x01 more.
pub fn read(message: &[u8]) -> Result<Bearer<'_>, BadMessage> {
    let malformed = |what| Err(BadMessage::Malformed(what));
    let Ok(text) = std::str::from_utf8(message) else { return malformed("it is no text") };
    if text.starts_with('p') {
        return Err(BadMessage::Unsupported("channel binding"));
    }
    let Some(rest) = text.strip_prefix("n,").or_else(|| text.strip_prefix("y,")) else {
        return malformed("it does not begin with n,, or y,,");
    };
    if rest.starts_with("a=") {
        return Err(BadMessage::Unsupported("an authorization identity"));
    }
    let Some(pairs) = rest.strip_prefix(",\x01").and_then(|rest| rest.strip_suffix("\x01\x01")) else {
        return malformed("its pairs are not framed");
    };
    let mut auth = None;
    for pair in pairs.split(SEPARATOR) {
        let Some((key, value)) = pair.split_once('=') else { return malformed("a pair has no value") };
        let named = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphabetic());
        if !named || value.bytes().any(|byte| !matches!(byte, b'\t' | b'\r' | b'\n' | 0x20..=0x7e)) {
            return malformed("a pair has characters that may not be in it");
        }
        if key == "auth" && auth.replace(value).is_some() {
            return malformed("it has two tokens");
        }
    }
    match auth {
        None => malformed("it has no auth"),
        Some("") => Ok(Bearer::Discovery),
        Some(value) => {
            token(value).map_or_else(|| malformed("its auth is no bearer token"), |it| Ok(Bearer::Token(it)))
        }
    }
}

/// RFC 6750 §2.1.
fn token(auth: &str) -> Option<&str> {
    let (scheme, token) = auth.split_once(' ')?;
    let token = token.trim_start_matches(' ');
    let body = token.trim_end_matches('=');
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    (scheme.eq_ignore_ascii_case("bearer") && !body.is_empty() && body.bytes().all(plain)).then_some(token)
}

/// Says where `issuer` tells how to get a token, in case the client has no good one.
pub fn refusal(issuer: Option<&str>) -> Vec<u8> {
    let mut refusal = json!({ "status": "invalid_token" });
    if let Some(issuer) = issuer {
        let address = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        refusal["openid-configuration"] = json!(address);
    }
    refusal.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_is_found_in_the_message_that_libpq_sends() {
        for (message, token) in [
            ("n,,\x01auth=Bearer ab.c-d_~+/e==\x01\x01", "ab.c-d_~+/e=="),
            ("y,,\x01auth=bearer  x\x01\x01", "x"),
            ("n,,\x01host=db.example\x01port=5432\x01auth=Bearer x\x01\x01", "x"),
        ] {
            assert_eq!(read(message.as_bytes()), Ok(Bearer::Token(token)));
        }
        assert_eq!(read(b"n,,\x01auth=\x01\x01"), Ok(Bearer::Discovery));
    }

    #[test]
    fn whatever_else_is_refused_for_what_it_is() {
        let why = |message: &[u8]| read(message).expect_err("refused").to_string();
        for malformed in [
            &b""[..],
            b"n",
            b"n,,",
            b"n,,\x01",
            b"n,,\x01\x01",
            b"x,,\x01auth=Bearer x\x01\x01",
            b"n,,\x01auth=Bearer x\x01",
            b"n,,auth=Bearer x\x01\x01",
            b"n,,\x01auth\x01\x01",
            b"n,,\x01=Bearer x\x01\x01",
            b"n,,\x01auth=Bearer\x01\x01",
            b"n,,\x01auth=Bearer \x01\x01",
            b"n,,\x01auth=Bearer x y\x01\x01",
            b"n,,\x01auth=Bearer =\x01\x01",
            b"n,,\x01auth=Basic x\x01\x01",
            b"n,,\x01host=db\x01\x01",
            b"n,,\x01auth=Bearer x\x01auth=Bearer y\x01\x01",
            b"n,,\x01auth=Bearer x\0\x01\x01",
            b"n,,\x01auth=Bearer \xff\x01\x01",
        ] {
            assert!(why(malformed).starts_with("malformed OAUTHBEARER message: "), "{malformed:?}");
        }
        assert_eq!(
            why(b"p=tls-exporter,,\x01auth=Bearer x\x01\x01"),
            "channel binding is not supported with OAUTHBEARER"
        );
        assert!(why(b"n,a=root,\x01auth=Bearer x\x01\x01").starts_with("an authorization identity"));
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_what_is_taken_for_a_token_was_there(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(Bearer::Token(token)) = read(&bytes) {
                prop_assert!(!token.is_empty() && bytes.windows(token.len()).any(|part| part == token.as_bytes()));
            }
        }
    }
}
