//! The client's role towards an instance, until its first ReadyForQuery: bytes in, bytes out.
//!
//! A password never travels: the server is answered by SCRAM or not at all, and must prove in turn that it knows the
//! password before anything else is sent. An address that has gone to another tenant's database is found out here.

use super::scram::{Challenge, ClientSecret, Confirmation, Offer, SCRAM, SCRAM_PLUS, ScramClient, ScramError};
use crate::router::handover::{OpenError, Proof};

/// Asks for TLS; the server answers with one byte, `S` or `N`.
pub const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
const CANCEL_CODE: [u8; 4] = [0x04, 0xd2, 0x16, 0x2e];
const PROTOCOL: [u8; 4] = [0, 3, 0, 2];
const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// All that a server may send until it is ready; a real one sends less than 1 KiB, and notices of login triggers.
const LOGIN_BYTES_MAX: usize = 256 * 1024;
const PARAMETERS_MAX: usize = 128;
/// For an error without an SQLSTATE: the server rejected the connection.
const REJECTED: [u8; 5] = *b"08004";

/// What is asked of the server, and what is known of the way to it.
pub struct Ask<'a> {
    pub database: &'a str,
    pub role: &'a str,
    /// Further startup parameters, `replication` among them; later ones win.
    pub settings: &'a [(String, String)],
    pub proof: &'a Proof,
    /// Fresh, [`super::scram::NONCE_CHARS`] of base64.
    pub nonce: String,
    /// The hash of the server's certificate, under TLS.
    pub end_point: Option<Vec<u8>>,
    /// Whether the way stays on this machine: only then a server may let us in without a proof.
    pub loopback: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub struct LoggedIn {
    /// In the order sent.
    pub parameters: Vec<(String, String)>,
    pub process: u32,
    pub secret: Vec<u8>,
    /// What came after ReadyForQuery.
    pub received: Vec<u8>,
}

pub enum Step {
    /// More bytes are needed.
    Read,
    Send(Vec<u8>),
    /// To be answered, on a thread that may hash for a while, and given to [`ServerLogin::answer`].
    Hash(Challenge),
    Done(LoggedIn),
}

enum State {
    /// Nothing was asked of us yet.
    Asked(Option<ClientSecret>),
    Started(ScramClient),
    Hashing,
    Answered(Confirmation),
    /// The server has proved itself; AuthenticationOk is due.
    Proven,
    /// Past AuthenticationOk.
    Starting,
}

pub struct ServerLogin {
    state: State,
    nonce: String,
    end_point: Option<Vec<u8>>,
    loopback: bool,
    minor: u8,
    taken: usize,
    input: Vec<u8>,
    parameters: Vec<(String, String)>,
    process: u32,
    secret: Vec<u8>,
}

impl ServerLogin {
    /// The startup message, and what reads the answers to it.
    pub fn start(ask: Ask<'_>) -> (Vec<u8>, ServerLogin) {
        let fixed = [
            ("user", ask.role),
            ("database", ask.database),
            ("client_encoding", "UTF8"),
            ("application_name", "o7s"),
        ];
        let settings = ask.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let mut body = PROTOCOL.to_vec();
        for (name, value) in fixed.into_iter().chain(settings) {
            // A zero byte would end the value early and begin a parameter of somebody else's choice.
            for text in [name, value] {
                body.extend(text.bytes().filter(|&byte| byte != 0));
                body.push(0);
            }
        }
        body.push(0);
        let secret = match ask.proof {
            Proof::Trust => None,
            Proof::Password(password) => Some(ClientSecret::Password(password.clone())),
            Proof::Keys(keys) => Some(ClientSecret::Keys(keys.clone())),
        };
        let login = ServerLogin {
            state: State::Asked(secret),
            nonce: ask.nonce,
            end_point: ask.end_point,
            loopback: ask.loopback,
            minor: PROTOCOL[3],
            taken: 0,
            input: Vec::new(),
            parameters: Vec::new(),
            process: 0,
            secret: Vec::new(),
        };
        (with_length(&body), login)
    }

    pub fn feed(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// What to do now; to be called until it asks for more bytes.
    pub fn step(&mut self) -> Result<Step, OpenError> {
        while let Some((tag, body)) = self.message()? {
            match tag {
                b'R' => {
                    if let Some(step) = self.authentication(&body)? {
                        return Ok(step);
                    }
                }
                b'E' => return Err(refused(body)),
                // A notice of a login trigger is nothing for whoever gets this connection later.
                b'N' => {}
                b'S' => self.parameter(&body)?,
                b'K' => self.key(&body)?,
                b'v' => self.negotiate(&body)?,
                b'Z' if matches!(self.state, State::Starting) => return Ok(Step::Done(self.done())),
                _ => return Err(unreadable("a message out of order")),
            }
        }
        Ok(Step::Read)
    }

    /// Takes what [`Challenge::answer`] made; yields what to send.
    pub fn answer(&mut self, (answer, confirmation): (Vec<u8>, Confirmation)) -> Vec<u8> {
        self.state = State::Answered(confirmation);
        password_message(&answer)
    }

    /// The next whole message. What cannot become one is refused by its first bytes.
    fn message(&mut self) -> Result<Option<(u8, Vec<u8>)>, OpenError> {
        let Some(&tag) = self.input.first() else { return Ok(None) };
        if !b"RENSKvZ".contains(&tag) {
            return Err(unreadable("what is no Postgres message"));
        }
        let Some(&[_, a, b, c, d]) = self.input.first_chunk() else { return Ok(None) };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if !(4..=MESSAGE_BYTES_MAX).contains(&length) || self.taken + length > LOGIN_BYTES_MAX {
            return Err(unreadable("more than a login needs"));
        }
        if self.input.len() < 1 + length {
            return Ok(None);
        }
        self.taken += 1 + length;
        let body = self.input[5..=length].to_vec();
        self.input.drain(..=length);
        Ok(Some((tag, body)))
    }

    fn authentication(&mut self, body: &[u8]) -> Result<Option<Step>, OpenError> {
        let (kind, data) = body.split_first_chunk().ok_or_else(|| unreadable("a short message"))?;
        let kind = u32::from_be_bytes(*kind);
        match (kind, std::mem::replace(&mut self.state, State::Hashing)) {
            (0, State::Proven) => self.state = State::Starting,
            (0, State::Asked(_)) if self.loopback => self.state = State::Starting,
            (0, State::Asked(_)) => {
                return Err(unproven("the server lets anybody in, so it has not shown that it is the right one"));
            }
            (10, State::Asked(None)) => {
                return Err(unproven("the server asks for a password, and the route has none"));
            }
            (10, State::Asked(Some(secret))) => return self.choose(secret, data).map(Some),
            (11, State::Started(client)) => {
                return client.challenge(data).map(|challenge| Some(Step::Hash(challenge))).map_err(failed);
            }
            (12, State::Answered(confirmation)) => {
                confirmation.check(data).map_err(failed)?;
                self.state = State::Proven;
            }
            (3 | 5, _) => {
                return Err(unproven("the server asks for the password by another way than SCRAM-SHA-256"));
            }
            (0 | 10 | 11 | 12, _) => return Err(unreadable("a message out of order")),
            _ => return Err(unproven("the server asks for a way to log in that is not SCRAM-SHA-256")),
        }
        Ok(None)
    }

    fn choose(&mut self, secret: ClientSecret, mechanisms: &[u8]) -> Result<Step, OpenError> {
        let has = |name: &str| mechanisms.split(|&byte| byte == 0).any(|offered| offered == name.as_bytes());
        let offer = Offer { plain: has(SCRAM), plus: has(SCRAM_PLUS), end_point: self.end_point.take() };
        let (mechanism, first, client) = ScramClient::start(secret, &self.nonce, offer).map_err(failed)?;
        self.state = State::Started(client);
        let length = u32::try_from(first.len()).expect("bounded");
        Ok(Step::Send(password_message(&[mechanism.as_bytes(), &[0], &length.to_be_bytes(), &first].concat())))
    }

    fn parameter(&mut self, body: &[u8]) -> Result<(), OpenError> {
        let mut texts = body.split(|&byte| byte == 0).map(|text| String::from_utf8_lossy(text).into_owned());
        let (Some(name), Some(value)) = (texts.next(), texts.next()) else { return Err(unreadable("a parameter")) };
        if self.parameters.len() == PARAMETERS_MAX {
            return Err(unreadable("more parameters than any server has"));
        }
        self.parameters.push((name, value));
        Ok(())
    }

    fn key(&mut self, body: &[u8]) -> Result<(), OpenError> {
        let (process, secret) = body.split_first_chunk().ok_or_else(|| unreadable("a short key"))?;
        let fits = if self.minor == 0 { secret.len() == 4 } else { (4..=256).contains(&secret.len()) };
        if !fits {
            return Err(unreadable("a key of the wrong length"));
        }
        (self.process, self.secret) = (u32::from_be_bytes(*process), secret.to_vec());
        Ok(())
    }

    /// An older server names its newest minor version, some of them with the major one before it.
    fn negotiate(&mut self, body: &[u8]) -> Result<(), OpenError> {
        let newest = match body.first_chunk() {
            Some([0, 0 | 3, 0, minor]) if *minor <= PROTOCOL[3] => *minor,
            _ => return Err(unreadable("a protocol nobody asked for")),
        };
        self.minor = newest;
        Ok(())
    }

    fn done(&mut self) -> LoggedIn {
        LoggedIn {
            parameters: std::mem::take(&mut self.parameters),
            process: self.process,
            secret: std::mem::take(&mut self.secret),
            received: std::mem::take(&mut self.input),
        }
    }
}

/// CancelRequest, as sent on a connection of its own.
pub fn cancel_request(process: u32, secret: &[u8]) -> Vec<u8> {
    with_length(&[&CANCEL_CODE, &process.to_be_bytes(), secret].concat())
}

fn with_length(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("what we send is short");
    [&length.to_be_bytes(), body].concat()
}

fn password_message(body: &[u8]) -> Vec<u8> {
    [b"p", &with_length(body)[..]].concat()
}

/// Postgres' own words as they are; a body that has no SQLSTATE, or is cut, is made into one that drivers can read.
pub fn refused(body: Vec<u8>) -> OpenError {
    let field = |tag: u8| {
        let mut fields = body.split(|&byte| byte == 0);
        fields.find_map(|field| field.split_first().filter(|(first, _)| **first == tag).map(|(_, text)| text))
    };
    let code = field(b'C').and_then(|code| <[u8; 5]>::try_from(code).ok());
    match code.filter(|code| code.iter().all(u8::is_ascii_alphanumeric) && body.ends_with(&[0, 0])) {
        Some(code) => OpenError::Refused { code, body },
        None => {
            let words = String::from_utf8_lossy(field(b'M').unwrap_or(b"the server refused the connection"));
            let code = String::from_utf8_lossy(&REJECTED);
            let body = format!("SFATAL\0VFATAL\0C{code}\0M{words}\0\0").into_bytes();
            OpenError::Refused { code: REJECTED, body }
        }
    }
}

fn unproven(detail: &str) -> OpenError {
    OpenError::Unproven { detail: detail.to_owned() }
}

fn unreadable(what: &str) -> OpenError {
    OpenError::Unreachable { detail: format!("the server sent {what}") }
}

fn failed(error: ScramError) -> OpenError {
    match error {
        ScramError::Malformed(_) => OpenError::Unreachable { detail: error.to_string() },
        _ => OpenError::Unproven { detail: error.to_string() },
    }
}

#[cfg(test)]
#[path = "server_login_tests.rs"]
mod tests;
