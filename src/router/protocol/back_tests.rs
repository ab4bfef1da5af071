//! Sessions byte by byte, where what a server answers changes what later clients get.

use super::*;

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, tag, |out| out.extend_from_slice(body));
    out
}

struct Session {
    shared: Shared,
    back: Back,
    front: Front,
}

impl Session {
    fn new() -> Session {
        let shared = Shared::default();
        let none = shared.shelf.none();
        Session { back: Back::new(none.clone(), &[]), front: Front::new(1, false, none), shared }
    }

    fn client(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Out::default();
        let step =
            self.front.with_server(&mut self.back, true, &mut self.shared, bytes, &mut out).expect("well formed");
        assert_eq!(step.consumed, bytes.len());
        out.flat(bytes)
    }

    fn server(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Out::default();
        let told = self.back.take(Some(&mut self.front), &mut self.shared, bytes, &mut out).expect("in its turn");
        assert_eq!(told.consumed, bytes.len());
        out.flat(bytes)
    }

    /// Prepares one text under `name` and binds it; answers what the server is sent.
    fn prepared_as(&mut self, name: &str) -> Vec<u8> {
        let parse = message(b'P', format!("{name}\0SELECT * FROM t\0\0\0").as_bytes());
        let bind = message(b'B', format!("\0{name}\0\0\0\0\0\0\0").as_bytes());
        self.client(&[parse, bind, message(b'S', b"")].concat())
    }
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(bytes, part).is_some()
}

#[test]
fn a_text_whose_tables_have_changed_is_prepared_anew_for_who_asks_anew() {
    let stale = b"SERROR\0VERROR\0C0A000\0Mcached plan must not change result type\0RRevalidateCachedQuery\0\0";
    let (parsed, bound, ready) = (message(b'1', b""), message(b'2', b""), message(b'Z', b"I"));
    let mut session = Session::new();
    assert!(holds(&session.prepared_as("a"), b"o7s_1\0SELECT"));
    session.server(&[parsed.clone(), bound, ready.clone()].concat());
    // Another name for the same text needs no Parse of its own.
    assert!(!holds(&session.prepared_as("b"), b"SELECT"));
    let answer = session.server(&[message(b'E', stale), ready.clone()].concat());
    assert_eq!(answer, [parsed, message(b'E', stale), ready].concat());
    assert!(holds(&session.prepared_as("c"), b"o7s_2\0SELECT"));
}

#[test]
fn any_other_error_leaves_the_text_shared() {
    let wrong = b"SERROR\0VERROR\0C22P02\0Minvalid input syntax\0RRevalidateCachedQuery\0\0";
    let ready = message(b'Z', b"I");
    let mut session = Session::new();
    session.prepared_as("a");
    session.server(&[message(b'1', b""), message(b'E', wrong), ready].concat());
    assert!(!holds(&session.prepared_as("b"), b"SELECT"));
}
