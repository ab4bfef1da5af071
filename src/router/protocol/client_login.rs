//! The login of a client: its proof or its token, as values. What is sent is appended to `out`; nothing is read here.

use crate::tenancy::{ScramKeys, Secret, Verifier};

use super::error::{Report, SqlState};
use super::oauth::{self, BadMessage, Bearer, DISMISSAL, OAUTHBEARER};
use super::scram::{AwaitingProof, SCRAM, SCRAM_PLUS, ScramError, ScramServer};

/// Of the body of a token's message: enough for a JWT with many claims.
pub const TOKEN_BYTES_MAX: usize = 64 * 1024;
/// A SCRAM message, the mechanism's name and two lengths.
const SASL_BYTES_MAX: usize = 2048;
const HEADER_BYTES: usize = 5;

const AUTHENTICATION_OK: [u8; 9] = [b'R', 0, 0, 0, 8, 0, 0, 0, 0];
const CLEARTEXT_PASSWORD: [u8; 9] = [b'R', 0, 0, 0, 8, 0, 0, 0, 3];
const SASL: u32 = 10;
const SASL_CONTINUE: u32 = 11;
const SASL_FINAL: u32 = 12;

pub fn authentication_ok(out: &mut Vec<u8>) {
    out.extend_from_slice(&AUTHENTICATION_OK);
}

/// A login under way.
pub struct ClientLogin(Awaits);

enum Awaits {
    Mechanism(ScramServer),
    Proof(AwaitingProof),
    Token,
    /// A token by OAUTHBEARER; what refuses it.
    Bearer(Vec<u8>),
    /// What is said of the token; what refuses it.
    Verdict(Vec<u8>),
    /// The end of an exchange that has failed.
    Dismissal(Failure),
    /// Failed or done.
    Nothing,
}

#[derive(Debug)]
pub enum Progress {
    /// More bytes are needed, after those taken.
    More,
    /// The password was right. The end of the login is in `out`; nothing of it may be sent before what decides besides.
    Proven(ScramKeys),
    /// To be checked by whoever knows tokens.
    Token(Secret),
}

#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    WrongPassword,
    /// The client does not keep to the protocol, or does what is not supported.
    Refused(Report<'static>),
}

impl ClientLogin {
    /// Asks for SCRAM; with -PLUS first where `end_point`, the hash of our certificate, is known. `nonce` is fresh.
    pub fn scram(verifier: Verifier, nonce: String, end_point: Option<Vec<u8>>, out: &mut Vec<u8>) -> ClientLogin {
        let mechanisms = match end_point {
            Some(_) => [SCRAM_PLUS, "\0", SCRAM, "\0\0"].concat(),
            None => [SCRAM, "\0\0"].concat(),
        };
        authentication(out, SASL, mechanisms.as_bytes());
        ClientLogin(Awaits::Mechanism(ScramServer::new(verifier, nonce, end_point)))
    }

    /// Asks for a password in the clear: only inside TLS, or on the loopback.
    pub fn token(out: &mut Vec<u8>) -> ClientLogin {
        out.extend_from_slice(&CLEARTEXT_PASSWORD);
        ClientLogin(Awaits::Token)
    }

    /// Asks for a token by OAUTHBEARER, under the same condition. A client without one hears of `issuer`.
    pub fn bearer(issuer: Option<&str>, out: &mut Vec<u8>) -> ClientLogin {
        authentication(out, SASL, [OAUTHBEARER, "\0\0"].concat().as_bytes());
        ClientLogin(Awaits::Bearer(oauth::refusal(issuer)))
    }

    /// The token was wrong. Whether the client is still to answer that; the next step fails then.
    pub fn deny(&mut self, out: &mut Vec<u8>) -> bool {
        let Awaits::Verdict(refusal) = std::mem::replace(&mut self.0, Awaits::Nothing) else { return false };
        authentication(out, SASL_CONTINUE, &refusal);
        self.0 = Awaits::Dismissal(Failure::WrongPassword);
        true
    }

    /// Takes the first message of `buffer` when it is there in whole, and says how many bytes that was.
    pub fn step(&mut self, buffer: &[u8], out: &mut Vec<u8>) -> Result<(usize, Progress), Failure> {
        let bytes_max =
            if matches!(self.0, Awaits::Token | Awaits::Bearer(_)) { TOKEN_BYTES_MAX } else { SASL_BYTES_MAX };
        let Some(&[tag, a, b, c, d]) = buffer.first_chunk::<HEADER_BYTES>() else {
            return Ok((0, Progress::More));
        };
        if tag != b'p' {
            let message = format!("expected password response, got message type {tag}");
            return Err(Failure::Refused(Report::fatal(SqlState::PROTOCOL_VIOLATION, message)));
        }
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let Some(body_bytes) = length.checked_sub(4).filter(|&bytes| bytes <= bytes_max) else {
            return Err(violation("invalid length of password packet"));
        };
        let Some(body) = buffer.get(HEADER_BYTES..HEADER_BYTES + body_bytes) else {
            return Ok((0, Progress::More));
        };
        let progress = match std::mem::replace(&mut self.0, Awaits::Nothing) {
            Awaits::Mechanism(server) => {
                let (mechanism, first) = initial_response(body)?;
                let (answer, awaiting) = server.first(mechanism, first).map_err(failure)?;
                authentication(out, SASL_CONTINUE, &answer);
                self.0 = Awaits::Proof(awaiting);
                Progress::More
            }
            Awaits::Proof(awaiting) => {
                let (answer, keys) = awaiting.last(body).map_err(failure)?;
                authentication(out, SASL_FINAL, &answer);
                authentication_ok(out);
                Progress::Proven(keys)
            }
            Awaits::Token => {
                let text = body.strip_suffix(&[0]).and_then(|text| std::str::from_utf8(text).ok());
                let text = text.filter(|text| !text.contains('\0'));
                Progress::Token(Secret::new(text.ok_or(violation("invalid password packet"))?))
            }
            Awaits::Bearer(refusal) => {
                let (mechanism, first) = initial_response(body)?;
                if mechanism != OAUTHBEARER {
                    return Err(violation("client selected an invalid SASL authentication mechanism"));
                }
                match oauth::read(first).map_err(bad_bearer)? {
                    Bearer::Token(token) => {
                        self.0 = Awaits::Verdict(refusal);
                        Progress::Token(Secret::new(token))
                    }
                    Bearer::Discovery => {
                        authentication(out, SASL_CONTINUE, &refusal);
                        let report = Report::fatal(SqlState::INVALID_AUTHORIZATION, "no token was sent");
                        self.0 = Awaits::Dismissal(Failure::Refused(report));
                        Progress::More
                    }
                }
            }
            Awaits::Dismissal(failure) if body == DISMISSAL => return Err(failure),
            Awaits::Dismissal(_) => return Err(violation("malformed OAUTHBEARER message: no dismissal")),
            Awaits::Verdict(_) | Awaits::Nothing => return Err(violation("unexpected password response")),
        };
        Ok((length + 1, progress))
    }
}

/// SASLInitialResponse: the mechanism's name, a length, the first message.
fn initial_response(body: &[u8]) -> Result<(&str, &[u8]), Failure> {
    let read = || {
        let end = body.iter().position(|&byte| byte == 0)?;
        let mechanism = std::str::from_utf8(&body[..end]).ok()?;
        let (length, first) = body[end + 1..].split_first_chunk()?;
        (u32::from_be_bytes(*length) as usize == first.len()).then_some((mechanism, first))
    };
    read().ok_or(violation("malformed SASL initial response"))
}

fn authentication(out: &mut Vec<u8>, kind: u32, data: &[u8]) {
    let length = u32::try_from(8 + data.len()).expect("what is said in SASL is small");
    out.push(b'R');
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(data);
}

fn violation(message: &'static str) -> Failure {
    Failure::Refused(Report::fatal(SqlState::PROTOCOL_VIOLATION, message))
}

fn bad_bearer(error: BadMessage) -> Failure {
    let code = match error {
        BadMessage::Malformed(_) => SqlState::PROTOCOL_VIOLATION,
        BadMessage::Unsupported(_) => SqlState::FEATURE_NOT_SUPPORTED,
    };
    Failure::Refused(Report::fatal(code, error.to_string()))
}

fn failure(error: ScramError) -> Failure {
    let (code, hint) = match error {
        ScramError::Wrong | ScramError::Unproven => return Failure::WrongPassword,
        ScramError::Malformed(_) => (SqlState::PROTOCOL_VIOLATION, None),
        ScramError::Unsupported(_) | ScramError::TooCostly(_) => (SqlState::FEATURE_NOT_SUPPORTED, None),
        ScramError::Downgrade | ScramError::Binding => {
            let hint =
                "Somebody between client and router may be reading along: check who ends the TLS of this connection.";
            (SqlState::INVALID_PASSWORD, Some(hint))
        }
    };
    let report = Report::fatal(code, error.to_string());
    Failure::Refused(match hint {
        Some(hint) => report.hint(hint),
        None => report,
    })
}

#[cfg(test)]
#[path = "client_login_tests.rs"]
mod tests;
