//! As much of a Postgres server as it takes to answer every message of a session in its turn, without SQL: the first words of
//! a statement say what it does.

use std::collections::HashMap;

use ogelnates::router::protocol::frame::{HEAD, head, put, split_nul};

pub struct Server {
    input: Vec<u8>,
    status: u8,
    /// After an error of the extended protocol, up to Sync.
    skipping: bool,
    /// Something of the extended protocol came since the last Sync.
    open: bool,
    statements: HashMap<Vec<u8>, Vec<u8>>,
    portals: HashMap<Vec<u8>, Vec<u8>>,
}

/// The statement or message fails.
struct Fails;

impl Server {
    pub fn new() -> Server {
        Server {
            input: Vec::new(),
            status: b'I',
            skipping: false,
            open: false,
            statements: HashMap::new(),
            portals: HashMap::new(),
        }
    }

    /// Nothing of the client's is unfinished here.
    pub fn at_rest(&self) -> bool {
        self.input.is_empty() && self.status == b'I' && !self.skipping && !self.open
    }

    pub fn answer(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.input.extend_from_slice(bytes);
        let mut out = Vec::new();
        while let Some(head) = head(&self.input).expect("the router sends no bad lengths") {
            if self.input.len() < head.total {
                break;
            }
            let message: Vec<u8> = self.input.drain(..head.total).collect();
            self.message(head.tag, &message[HEAD..], &mut out);
        }
        out
    }

    fn message(&mut self, tag: u8, body: &[u8], out: &mut Vec<u8>) {
        if self.skipping && tag != b'S' {
            return;
        }
        match tag {
            b'S' => {
                (self.skipping, self.open) = (false, false);
                self.ready(out);
            }
            b'Q' => {
                self.statements.remove(&b""[..]);
                if self.simple(body, out).is_err() {
                    self.fail(out);
                }
                self.open = false;
                self.ready(out);
            }
            b'F' => {
                if self.status == b'E' {
                    self.fail(out);
                } else {
                    put(out, b'V', |out| out.extend_from_slice(&[0xff; 4]));
                }
                self.ready(out);
            }
            // Outside of a COPY they are ignored.
            b'd' | b'c' | b'f' | b'H' => {}
            _ => {
                self.open = true;
                if self.extended(tag, body, out).is_err() {
                    self.fail(out);
                    self.skipping = true;
                }
            }
        }
    }

    fn fail(&mut self, out: &mut Vec<u8>) {
        if self.status == b'T' {
            self.status = b'E';
        }
        put(out, b'E', |out| out.extend_from_slice(b"SERROR\0VERROR\0C42601\0Mno\0\0"));
    }

    fn ready(&mut self, out: &mut Vec<u8>) {
        if self.status == b'I' {
            self.portals.clear();
        }
        put(out, b'Z', |out| out.push(self.status));
    }

    fn simple(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<(), Fails> {
        let (text, _) = split_nul(body).ok_or(Fails)?;
        let mut empty = true;
        for statement in text.split(|&byte| byte == b';').filter(|part| !part.trim_ascii().is_empty()) {
            empty = false;
            self.execute(statement, out)?;
        }
        if empty {
            put(out, b'I', |_| {});
        }
        Ok(())
    }

    fn execute(&mut self, text: &[u8], out: &mut Vec<u8>) -> Result<(), Fails> {
        let text = String::from_utf8_lossy(text).to_ascii_uppercase();
        let words: Vec<&str> = text.split_whitespace().collect();
        let ends = matches!(words.first(), Some(&"COMMIT" | &"ROLLBACK"));
        if self.status == b'E' && !ends {
            return Err(Fails);
        }
        let tag = match words.as_slice() {
            [] => {
                put(out, b'I', |_| {});
                return Ok(());
            }
            ["FAIL", ..] => return Err(Fails),
            ["BEGIN", ..] => {
                self.status = b'T';
                "BEGIN"
            }
            ["ROLLBACK", "TO", ..] if self.status == b'I' => return Err(Fails),
            ["ROLLBACK", "TO", ..] => {
                self.status = b'T';
                "ROLLBACK"
            }
            ["COMMIT" | "ROLLBACK", ..] => {
                let undone = self.status == b'E' || words[0] == "ROLLBACK";
                self.status = b'I';
                if undone { "ROLLBACK" } else { "COMMIT" }
            }
            ["SET", ..] => "SET",
            ["RESET", ..] => "RESET",
            ["DISCARD", "ALL", ..] if self.status == b'T' => return Err(Fails),
            ["DISCARD", "ALL", ..] => {
                self.statements.clear();
                "DISCARD ALL"
            }
            ["DEALLOCATE", "ALL", ..] => {
                self.statements.clear();
                "DEALLOCATE ALL"
            }
            ["DEALLOCATE", name, ..] => {
                self.statements.remove(name.to_ascii_lowercase().as_bytes()).ok_or(Fails)?;
                "DEALLOCATE"
            }
            _ => {
                put(out, b'D', |out| out.extend_from_slice(&[0, 0]));
                "SELECT 1"
            }
        };
        put(out, b'C', |out| out.extend_from_slice(format!("{tag}\0").as_bytes()));
        Ok(())
    }

    fn extended(&mut self, tag: u8, body: &[u8], out: &mut Vec<u8>) -> Result<(), Fails> {
        let usable = |text: &[u8], status: u8| {
            let ends = text.starts_with(b"COMMIT") || text.starts_with(b"ROLLBACK");
            if status == b'E' && !ends { Err(Fails) } else { Ok(()) }
        };
        match tag {
            b'P' => {
                let (name, rest) = split_nul(body).ok_or(Fails)?;
                let (text, _) = split_nul(rest).ok_or(Fails)?;
                if name.is_empty() {
                    self.statements.remove(name);
                }
                usable(text, self.status)?;
                if self.statements.contains_key(name) || text.starts_with(b"BAD") {
                    return Err(Fails);
                }
                self.statements.insert(name.to_vec(), text.to_vec());
                put(out, b'1', |_| {});
            }
            b'B' => {
                let (portal, rest) = split_nul(body).ok_or(Fails)?;
                let (name, _) = split_nul(rest).ok_or(Fails)?;
                let text = self.statements.get(name).ok_or(Fails)?;
                usable(text, self.status)?;
                self.portals.insert(portal.to_vec(), text.clone());
                put(out, b'2', |_| {});
            }
            b'D' | b'C' => {
                let (&kind, rest) = body.split_first().ok_or(Fails)?;
                let (name, _) = split_nul(rest).ok_or(Fails)?;
                let known = match kind {
                    b'S' => &mut self.statements,
                    b'P' => &mut self.portals,
                    _ => return Err(Fails),
                };
                if tag == b'C' {
                    known.remove(name);
                    put(out, b'3', |_| {});
                    return Ok(());
                }
                usable(known.get(name).ok_or(Fails)?, self.status)?;
                if kind == b'S' {
                    put(out, b't', |out| out.extend_from_slice(&[0, 0]));
                }
                put(out, b'n', |_| {});
            }
            b'E' => {
                let (portal, _) = split_nul(body).ok_or(Fails)?;
                let text = self.portals.get(portal).ok_or(Fails)?.clone();
                self.execute(&text, out)?;
            }
            _ => return Err(Fails),
        }
        Ok(())
    }
}
