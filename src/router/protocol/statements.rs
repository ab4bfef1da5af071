//! Prepared statements, one copy of a text for all clients that have it. A client's own names stay its own; server
//! connections know the statements by names the router gives.

use std::collections::HashMap;
use std::sync::Arc;

use super::frame::put;
use super::sql::{self, Effect};

/// All texts a worker holds, in bytes. Over it, texts no client has are forgotten; where that is not enough, a client's
/// next statement keeps its own name and pins the client to its server connection.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// How the router's names of statements begin.
pub const OURS: &[u8] = b"o7s_";

#[derive(Debug)]
pub struct Statement {
    pub id: u64,
    /// What server connections call it.
    pub name: Box<[u8]>,
    /// Those it is prepared under.
    settings: u64,
    /// Of its Parse message: query, nul, types.
    body: Arc<[u8]>,
    pub effects: Vec<Effect>,
}

impl Statement {
    /// Its Parse message under the router's name.
    pub fn put_parse(&self, out: &mut Vec<u8>) {
        put(out, b'P', |out| {
            out.extend_from_slice(&self.name);
            out.push(0);
            out.extend_from_slice(&self.body);
        });
    }

    pub fn text(&self) -> &[u8] {
        super::frame::split_nul(&self.body).map_or(&self.body, |(text, _)| text)
    }

    pub fn bytes(&self) -> usize {
        self.body.len()
    }
}

#[derive(Debug, Default)]
pub struct Book {
    next: u64,
    bytes: usize,
    /// By the settings it is prepared under, because they change what a text means, and by the whole text.
    known: HashMap<u64, HashMap<Arc<[u8]>, Arc<Statement>>>,
}

impl Book {
    /// `None`: there is no room.
    pub fn intern(&mut self, settings: u64, body: &[u8]) -> Option<Arc<Statement>> {
        if let Some(known) = self.known.get(&settings).and_then(|known| known.get(body)) {
            return Some(known.clone());
        }
        if self.bytes + body.len() > BYTES_MAX {
            self.forget_unused();
            if self.bytes + body.len() > BYTES_MAX {
                return None;
            }
        }
        self.next += 1;
        let text = super::frame::split_nul(body).map_or(body, |(text, _)| text);
        let body: Arc<[u8]> = body.into();
        let statement = Arc::new(Statement {
            id: self.next,
            name: [OURS, format!("{:x}", self.next).as_bytes()].concat().into(),
            settings,
            body: body.clone(),
            effects: sql::effects(text).list,
        });
        self.bytes += body.len();
        self.known.entry(settings).or_default().insert(body, statement.clone());
        Some(statement)
    }

    /// Whoever prepares its text from now on gets another one; the clients that have it keep it.
    pub fn retire(&mut self, statement: &Statement) {
        let Some(texts) = self.known.get_mut(&statement.settings) else { return };
        if texts.get(&statement.body).is_some_and(|known| known.id == statement.id) {
            texts.remove(&statement.body);
            self.bytes -= statement.bytes();
        }
    }

    fn forget_unused(&mut self) {
        for texts in self.known.values_mut() {
            texts.retain(|body, statement| {
                let used = Arc::strong_count(statement) > 1;
                self.bytes -= if used { 0 } else { body.len() };
                used
            });
        }
        self.known.retain(|_, texts| !texts.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_70_71_72_one_copy_of_a_text_but_for_its_types_and_settings() {
        let mut book = Book::default();
        let one = book.intern(1, b"SELECT $1\0\0\0").expect("room");
        assert!(Arc::ptr_eq(&one, &book.intern(1, b"SELECT $1\0\0\0").expect("room")));
        let typed = book.intern(1, b"SELECT $1\0\0\x01\0\0\0\x17").expect("room");
        let other_path = book.intern(2, b"SELECT $1\0\0\0").expect("room");
        assert_ne!((one.id, &one.name), (typed.id, &typed.name));
        assert_ne!(one.id, other_path.id);
        let mut out = Vec::new();
        one.put_parse(&mut out);
        assert_eq!(out, b"P\0\0\0\x16o7s_1\0SELECT $1\0\0\0");
    }

    #[test]
    fn row_74_memory_comes_back_and_what_a_client_has_stays() {
        let mut book = Book::default();
        let mut text = vec![b'x'; 1 << 20];
        let kept = book.intern(0, &text).expect("room");
        for n in 0..200_u8 {
            text[0] = n;
            assert!(book.intern(0, &text).is_some());
        }
        assert!(book.bytes <= BYTES_MAX);
        text[0] = b'x';
        assert!(Arc::ptr_eq(&kept, &book.intern(0, &text).expect("room")));
    }
}
