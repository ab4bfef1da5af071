//! A client that speaks message by message, and what it hears as a line of text.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use ogelnates::router::handover::{OpenError, Proof};
use ogelnates::router::protocol::server_login::{Ask, ServerLogin, Step};
use ogelnates::tenancy::Secret;

/// Longer than anything here takes: whoever waits for this is stuck.
const STUCK: Duration = Duration::from_secs(10);
/// Long enough for an answer that must not come.
const QUIET: Duration = Duration::from_millis(60);

pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("short");
    [&[tag], &length.to_be_bytes()[..], body].concat()
}

fn strings(texts: &[&str]) -> Vec<u8> {
    texts.iter().flat_map(|text| [text.as_bytes(), b"\0"].concat()).collect()
}

pub fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &strings(&[sql]))
}

pub fn parse(name: &str, sql: &str) -> Vec<u8> {
    message(b'P', &[&strings(&[name, sql])[..], &[0, 0]].concat())
}

/// With the types of its parameters.
pub fn parse_typed(name: &str, sql: &str, types: &[u32]) -> Vec<u8> {
    let count = u16::try_from(types.len()).expect("few").to_be_bytes();
    let types: Vec<u8> = types.iter().flat_map(|oid| oid.to_be_bytes()).collect();
    message(b'P', &[&strings(&[name, sql])[..], &count, &types].concat())
}

pub fn bind(portal: &str, statement: &str, values: &[&[u8]]) -> Vec<u8> {
    bind_in(portal, statement, &[], values, &[])
}

/// With format codes for parameters and results: 0 is text, 1 binary.
pub fn bind_in(portal: &str, statement: &str, formats: &[u16], values: &[&[u8]], results: &[u16]) -> Vec<u8> {
    let list = |codes: &[u16]| -> Vec<u8> {
        let count = u16::try_from(codes.len()).expect("few");
        std::iter::once(&count).chain(codes).flat_map(|code| code.to_be_bytes()).collect()
    };
    let mut body = strings(&[portal, statement]);
    body.extend(list(formats));
    body.extend(u16::try_from(values.len()).expect("at most 65535").to_be_bytes());
    for value in values {
        body.extend(u32::try_from(value.len()).expect("short").to_be_bytes());
        body.extend_from_slice(value);
    }
    body.extend(list(results));
    message(b'B', &body)
}

/// `kind` is `S` or `P`.
pub fn describe(kind: u8, name: &str) -> Vec<u8> {
    message(b'D', &[&[kind], &strings(&[name])[..]].concat())
}

pub fn close(kind: u8, name: &str) -> Vec<u8> {
    message(b'C', &[&[kind], &strings(&[name])[..]].concat())
}

pub fn execute(portal: &str, rows: u32) -> Vec<u8> {
    message(b'E', &[&strings(&[portal])[..], &rows.to_be_bytes()].concat())
}

pub fn sync() -> Vec<u8> {
    message(b'S', &[])
}

pub fn flush() -> Vec<u8> {
    message(b'H', &[])
}

pub fn terminate() -> Vec<u8> {
    message(b'X', &[])
}

pub fn copy_data(text: &str) -> Vec<u8> {
    message(b'd', text.as_bytes())
}

pub fn copy_done() -> Vec<u8> {
    message(b'c', &[])
}

pub fn copy_fail(why: &str) -> Vec<u8> {
    message(b'f', &strings(&[why]))
}

/// Parse, Bind, Execute of the unnamed statement, without Sync.
pub fn run(sql: &str) -> Vec<u8> {
    [parse("", sql), bind("", "", &[]), execute("", 0)].concat()
}

pub type Message = (u8, Vec<u8>);

/// Why a login ended, as people read it.
fn refused(error: &OpenError) -> String {
    match error {
        OpenError::Refused { body, .. } => report(body),
        other => format!("{other:?}"),
    }
}

/// SQLSTATE, message, detail and hint of an ErrorResponse.
fn report(body: &[u8]) -> String {
    [b'C', b'M', b'D', b'H'].into_iter().filter_map(|tag| field(body, tag)).collect::<Vec<_>>().join(" | ")
}

/// Each message by its letter; of errors the SQLSTATE, of CommandComplete the tag, of ReadyForQuery the status, of a row
/// its first column.
pub fn shown(messages: &[Message]) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned();
    let one = |(tag, body): &Message| match tag {
        b'E' | b'N' => format!("{}:{}", char::from(*tag), field(body, b'C').unwrap_or_default()),
        b'C' | b'Z' => format!("{}:{}", char::from(*tag), text(body)),
        b'D' => match body.get(2..6).map(|length| i32::from_be_bytes(length.try_into().expect("four bytes"))) {
            None => "D".to_owned(),
            Some(-1) => "D:null".to_owned(),
            Some(length) => format!("D:{}", text(&body[6..6 + usize::try_from(length).expect("a length")])),
        },
        b'S' => format!("S:{}", text(body).replace('\0', "=")),
        b'd' => format!("d:{}", text(body).trim_end()),
        _ => char::from(*tag).to_string(),
    };
    messages.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// Of an ErrorResponse or NoticeResponse.
pub fn field(body: &[u8], wanted: u8) -> Option<String> {
    let mut fields = body.split(|&byte| byte == 0);
    fields.find(|field| field.first() == Some(&wanted)).map(|field| String::from_utf8_lossy(&field[1..]).into_owned())
}

#[derive(Clone, Copy)]
pub struct Door<'a> {
    pub port: u16,
    pub database: &'a str,
    pub role: &'a str,
    pub password: &'a Secret,
}

#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    port: u16,
    pub process: u32,
    pub secret: Vec<u8>,
    /// ParameterStatus of its login.
    pub parameters: Vec<(String, String)>,
    input: Vec<u8>,
    /// Of the error heard last.
    last_error: String,
}

impl Client {
    pub fn connect(door: Door<'_>, settings: &[(&str, &str)]) -> Result<Client, String> {
        Client::connect_within(door, settings, STUCK)
    }

    /// Hangs up when nothing is said for so long during the login.
    pub fn connect_within(door: Door<'_>, settings: &[(&str, &str)], patience: Duration) -> Result<Client, String> {
        let mut stream = TcpStream::connect(("127.0.0.1", door.port)).expect("it listens");
        stream.set_nodelay(true).expect("set");
        stream.set_read_timeout(Some(patience)).expect("set");
        let settings: Vec<_> = settings.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        let proof = Proof::Password(door.password.clone());
        let (startup, mut login) = ServerLogin::start(Ask {
            database: door.database,
            role: door.role,
            settings: &settings,
            proof: &proof,
            nonce: "abcdefghijklmnopqrstuvwx".into(),
            end_point: None,
            loopback: true,
        });
        stream.write_all(&startup).expect("sent");
        loop {
            match login.step().map_err(|error| refused(&error))? {
                Step::Read => {
                    let mut part = [0; 4096];
                    let read = stream.read(&mut part).map_err(|error| format!("no answer to the login: {error}"))?;
                    if read == 0 {
                        return Err("closed".into());
                    }
                    login.feed(&part[..read]);
                }
                Step::Send(bytes) => stream.write_all(&bytes).expect("sent"),
                Step::Hash(challenge) => stream.write_all(&login.answer(challenge.answer())).expect("sent"),
                Step::Done(done) => {
                    return Ok(Client {
                        stream,
                        port: door.port,
                        process: done.process,
                        secret: done.secret,
                        parameters: done.parameters,
                        input: done.received,
                        last_error: String::new(),
                    });
                }
            }
        }
    }

    /// What the other side no longer takes is nobody's mistake here: the answer tells.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// As much of it as is taken while nobody reads the answers; the rest.
    pub fn send_unread<'a>(&mut self, mut bytes: &'a [u8]) -> &'a [u8] {
        self.stream.set_write_timeout(Some(Duration::from_millis(200))).expect("set");
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(_full) => break,
            }
        }
        self.stream.set_write_timeout(None).expect("set");
        bytes
    }

    pub fn second(&self) -> TcpStream {
        self.stream.try_clone().expect("cloned")
    }

    pub fn end_sending(&self) {
        self.stream.shutdown(Shutdown::Write).expect("half closed");
    }

    /// Closes as a killed process does.
    pub fn vanish(self) {
        drop(self);
    }

    /// The next message, notices included; `None` at the end.
    pub fn next(&mut self) -> Option<Message> {
        loop {
            if let Some(head) = self.input.first_chunk::<5>() {
                let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
                if self.input.len() > length {
                    let rest = self.input.split_off(length + 1);
                    let whole = std::mem::replace(&mut self.input, rest);
                    if whole[0] == b'E' {
                        self.last_error = report(&whole[5..]);
                    }
                    return Some((whole[0], whole[5..].to_vec()));
                }
            }
            let mut part = [0; 64 * 1024];
            match self.stream.read(&mut part) {
                Ok(0) => {
                    assert!(self.input.is_empty(), "half a message");
                    return None;
                }
                Ok(read) => self.input.extend_from_slice(&part[..read]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("stuck: {error}; {:?} is there", String::from_utf8_lossy(&self.input)),
            }
        }
    }

    /// Up to and with the `count`th ReadyForQuery, or to the end.
    pub fn until_ready(&mut self, count: usize) -> Vec<Message> {
        let (mut messages, mut ready) = (Vec::new(), 0);
        while ready < count {
            let Some(message) = self.next() else { break };
            ready += usize::from(message.0 == b'Z');
            messages.push(message);
        }
        messages
    }

    pub fn rest(&mut self) -> Vec<Message> {
        std::iter::from_fn(|| self.next()).collect()
    }

    /// The next `count` messages.
    pub fn some(&mut self, count: usize) -> String {
        let messages: Vec<Message> = (0..count).map_while(|_| self.next()).collect();
        shown(&messages)
    }

    /// Sends, and shows the answer up to its first ReadyForQuery.
    pub fn tell(&mut self, bytes: &[u8]) -> String {
        self.send(bytes);
        shown(&self.until_ready(1))
    }

    pub fn ask(&mut self, sql: &str) -> String {
        self.tell(&query(sql))
    }

    pub fn last_error(&self) -> String {
        self.last_error.clone()
    }

    /// The first column of the first row.
    pub fn value(&mut self, sql: &str) -> String {
        let answer = self.ask(sql);
        let Some((_, row)) = answer.split_once("D:") else { panic!("{sql}: {answer}") };
        let end = row.find(" D:").or(row.find(" C:")).unwrap_or(row.len());
        row[..end].to_owned()
    }

    /// Nothing comes for a while.
    pub fn hears_nothing(&mut self) {
        assert!(self.input.is_empty());
        self.stream.set_read_timeout(Some(QUIET)).expect("set");
        let heard = self.stream.read(&mut [0; 64]);
        self.stream.set_read_timeout(Some(STUCK)).expect("set");
        assert!(heard.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "{heard:?}");
    }

    /// Where a CancelRequest goes, and what it says.
    pub fn key(&self) -> (u16, u32, Vec<u8>) {
        (self.port, self.process, self.secret.clone())
    }

    /// Sends a CancelRequest for this client and waits until it has been taken.
    pub fn cancel(&self) {
        cancel(self.port, self.process, &self.secret);
    }
}

pub fn cancel(port: u16, process: u32, secret: &[u8]) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    let body = [&80_877_102_u32.to_be_bytes()[..], &process.to_be_bytes(), secret].concat();
    let length = u32::try_from(body.len() + 4).expect("short").to_be_bytes();
    stream.write_all(&[&length[..], &body].concat()).expect("sent");
    stream.set_read_timeout(Some(STUCK)).expect("set");
    assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0, "a cancel request is never answered");
}
