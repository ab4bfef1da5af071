//! The first packets of a connection, before anybody is known: encryption requests, cancel requests, the startup packet.

use super::error::{Report, SqlState};
use super::options::{self, ForRouter};

/// Of a startup packet, its own length counted.
pub const PACKET_BYTES_MAX: usize = 10_000;
/// Before it: the length counts itself, and a code follows.
const PACKET_BYTES_MIN: usize = 8;
/// The first byte of a TLS handshake record; no startup packet may be so long that it begins with it.
const TLS_HANDSHAKE: u8 = 0x16;
const MINOR_MAX: u16 = 2;

const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;

/// Whether TLS can be had here and now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    Offered,
    Absent,
    /// All that is read now is inside it.
    Active,
}

/// Reads the packets in front of the login; remembers which of them have been seen.
#[derive(Debug)]
pub struct Startup {
    tls: Tls,
    asked_tls: bool,
    asked_gss: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// More bytes are needed; none were taken.
    More,
    /// The client begins a TLS handshake without a word; none of its bytes were taken.
    DirectTls,
    /// Answer `S`, then begin the TLS handshake.
    BeginTls,
    /// Answer `N`, then go on.
    Decline,
    Cancel(Cancel),
    Hello(Box<Hello>),
}

/// The key that a client was given with BackendKeyData.
#[derive(Clone, PartialEq, Eq)]
pub struct Cancel {
    pub process: u32,
    /// 4 bytes in 3.0, up to 256 in 3.2.
    pub secret: Vec<u8>,
}

impl std::fmt::Debug for Cancel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cancel({}, ***)", self.process)
    }
}

/// What a startup packet says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hello {
    /// The minor that both sides speak: 0 or 2.
    pub minor: u16,
    /// NegotiateProtocolVersion, whole, where the client asked for more than there is; else empty.
    pub negotiation: Vec<u8>,
    pub user: String,
    /// Absent also when it was empty, as in Postgres.
    pub database: Option<String>,
    /// `true` or `database`.
    pub replication: Option<String>,
    /// Those inside `options` first: a later one wins.
    pub settings: Vec<(String, String)>,
    pub router: ForRouter,
}

impl Startup {
    pub fn new(tls: Tls) -> Startup {
        Startup { tls, asked_tls: false, asked_gss: false }
    }

    /// After the handshake.
    pub fn secured(&mut self) {
        self.tls = Tls::Active;
    }

    /// What the first bytes of `buffer` ask for, and how many of them they are. Looks at no more than one packet.
    ///
    /// Fails with what the client shall read before the connection is closed. At most [`PACKET_BYTES_MAX`] bytes are
    /// ever needed, so a caller may cap its buffer there.
    pub fn step(&mut self, buffer: &[u8]) -> Result<(usize, Step), Report<'static>> {
        if buffer.first() == Some(&TLS_HANDSHAKE) && self.tls == Tls::Offered && !self.asked_tls {
            return Ok((0, Step::DirectTls));
        }
        let Some(length) = buffer.first_chunk().map(|&bytes| u32::from_be_bytes(bytes) as usize) else {
            return Ok((0, Step::More));
        };
        if !(PACKET_BYTES_MIN..=PACKET_BYTES_MAX).contains(&length) {
            return Err(violation("invalid length of startup packet"));
        }
        let Some(packet) = buffer.get(4..length) else { return Ok((0, Step::More)) };
        let (code, body) = packet.split_first_chunk().expect("8 bytes at least");
        let step = match u32::from_be_bytes(*code) {
            SSL_REQUEST => self.encryption_request(body, buffer.len() - length)?,
            GSSENC_REQUEST if self.asked_gss || self.tls == Tls::Active || !body.is_empty() => {
                return Err(violation("unexpected request for GSSAPI encryption"));
            }
            GSSENC_REQUEST => {
                self.asked_gss = true;
                Step::Decline
            }
            CANCEL_REQUEST => Step::Cancel(cancel(body)?),
            version => Step::Hello(Box::new(hello(version, body)?)),
        };
        Ok((length, step))
    }

    /// `after` bytes came with the request. Sent in the clear, they might be anybody's, so they must not be taken for
    /// what the client says inside TLS.
    fn encryption_request(&mut self, body: &[u8], after: usize) -> Result<Step, Report<'static>> {
        if self.asked_tls || self.tls == Tls::Active || !body.is_empty() {
            return Err(violation("unexpected request for encryption"));
        }
        self.asked_tls = true;
        match self.tls {
            Tls::Offered if after > 0 => Err(violation("received unencrypted data after SSL request")
                .detail("This could be either a client-software bug or evidence of an attempted attack.")),
            Tls::Offered => Ok(Step::BeginTls),
            _ => Ok(Step::Decline),
        }
    }
}

fn violation(message: &'static str) -> Report<'static> {
    Report::fatal(SqlState::PROTOCOL_VIOLATION, message)
}

fn cancel(body: &[u8]) -> Result<Cancel, Report<'static>> {
    match body.split_first_chunk() {
        Some((process, secret)) if (4..=256).contains(&secret.len()) => {
            Ok(Cancel { process: u32::from_be_bytes(*process), secret: secret.to_vec() })
        }
        _ => Err(violation("invalid length of query cancel packet")),
    }
}

fn hello(version: u32, body: &[u8]) -> Result<Hello, Report<'static>> {
    let [major, minor] = [version >> 16, version & 0xffff].map(|half| half as u16);
    if major != 3 {
        let message = format!("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.{MINOR_MAX}");
        return Err(Report::fatal(SqlState::FEATURE_NOT_SUPPORTED, message));
    }
    // 3.1 was never made; Postgres takes it for what it says, and nothing in it differs from 3.0.
    let mut hello = Hello { minor: if minor >= MINOR_MAX { MINOR_MAX } else { 0 }, ..Hello::default() };
    let mut unknown = Vec::new();
    let mut options = None;
    let mut settings = Vec::new();
    let mut fields = Fields(body);
    while let Some((name, value)) = fields.next()? {
        match name {
            "user" => hello.user = value.to_owned(),
            "database" => hello.database = Some(value.to_owned()).filter(|name| !name.is_empty()),
            "options" => options = Some(value),
            "replication" => hello.replication = replication(value)?,
            name if name.starts_with("_pq_.") => unknown.push(name),
            name if hello.router.take(name, value)? => {}
            name => settings.push((name.to_owned(), value.to_owned())),
        }
    }
    if hello.user.is_empty() {
        let message = "no PostgreSQL user name specified in startup packet";
        return Err(Report::fatal(SqlState::INVALID_AUTHORIZATION, message));
    }
    if let Some(options) = options {
        options::read(options, &mut hello.settings, &mut hello.router)?;
    }
    hello.settings.append(&mut settings);
    if minor > MINOR_MAX || !unknown.is_empty() {
        hello.negotiation = negotiation(minor.min(MINOR_MAX), &unknown);
    }
    Ok(hello)
}

/// Pairs of texts, each ended by a nul, and one nul more as the last byte.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn next(&mut self) -> Result<Option<(&'a str, &'a str)>, Report<'static>> {
        if self.0 == [0] {
            return Ok(None);
        }
        let (name, value) = (self.text()?, self.text()?);
        // An empty name is the end, and nothing may come after it.
        if name.is_empty() { Err(layout()) } else { Ok(Some((name, value))) }
    }

    fn text(&mut self) -> Result<&'a str, Report<'static>> {
        let end = self.0.iter().position(|&byte| byte == 0).ok_or_else(layout)?;
        let (text, rest) = self.0.split_at(end);
        self.0 = &rest[1..];
        std::str::from_utf8(text).map_err(|_| violation("a startup parameter is not valid UTF-8"))
    }
}

fn layout() -> Report<'static> {
    violation("invalid startup packet layout: expected terminator as last byte")
}

/// As Postgres reads a boolean, or `database`.
fn replication(value: &str) -> Result<Option<String>, Report<'static>> {
    match value.to_ascii_lowercase().as_str() {
        "database" => Ok(Some("database".to_owned())),
        "true" | "on" | "yes" | "1" => Ok(Some("true".to_owned())),
        "false" | "off" | "no" | "0" => Ok(None),
        _ => {
            let message = format!("invalid value for parameter \"replication\": \"{value}\"");
            let hint = "Valid values are: \"false\", 0, \"true\", 1, \"database\".";
            Err(Report::fatal(SqlState::INVALID_PARAMETER_VALUE, message).hint(hint))
        }
    }
}

fn negotiation(minor: u16, unknown: &[&str]) -> Vec<u8> {
    let bytes: usize = unknown.iter().map(|name| name.len() + 1).sum();
    let mut out = Vec::with_capacity(13 + bytes);
    out.push(b'v');
    for number in [12 + bytes, (3 << 16) | usize::from(minor), unknown.len()] {
        let number = u32::try_from(number).expect("a startup packet is small");
        out.extend_from_slice(&number.to_be_bytes());
    }
    for name in unknown {
        out.extend_from_slice(name.as_bytes());
        out.push(0);
    }
    out
}

#[cfg(test)]
#[path = "startup_tests.rs"]
mod tests;
