//! Sessions byte by byte, where what a server answers changes what later clients get.

use super::super::leave::Leave;
use super::*;
use crate::router::protocol::frame::put;

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, tag, |out| out.extend_from_slice(body));
    out
}

fn parse(name: &str, text: &str) -> Vec<u8> {
    message(b'P', format!("{name}\0{text}\0\0\0").as_bytes())
}

fn bind(name: &str) -> Vec<u8> {
    message(b'B', format!("\0{name}\0\0\0\0\0\0\0").as_bytes())
}

fn close(name: &str) -> Vec<u8> {
    message(b'C', format!("S{name}\0").as_bytes())
}

fn describe_portal() -> Vec<u8> {
    message(b'D', b"P\0")
}

fn execute() -> Vec<u8> {
    message(b'E', b"\0\0\0\0\0")
}

fn sync() -> Vec<u8> {
    message(b'S', b"")
}

fn ready() -> Vec<u8> {
    message(b'Z', b"I")
}

fn error(code: &str, text: &str, routine: &str) -> Vec<u8> {
    message(b'E', format!("SERROR\0VERROR\0C{code}\0M{text}\0R{routine}\0\0").as_bytes())
}

fn stale() -> Vec<u8> {
    error("0A000", "cached plan must not change result type", "RevalidateCachedQuery")
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
        let (sent, consumed) = self.client_in_part(bytes);
        assert_eq!(consumed, bytes.len());
        sent
    }

    /// What the server is sent, and how much of the input was used.
    fn client_in_part(&mut self, bytes: &[u8]) -> (Vec<u8>, usize) {
        let mut out = Out::default();
        let step = self
            .front
            .with_server(&mut self.back, Leave::ALL, &mut self.shared, bytes, &mut out)
            .expect("well formed");
        (out.flat(bytes), step.consumed)
    }

    fn server(&mut self, bytes: &[u8]) -> Vec<u8> {
        let (heard, again) = self.server_again(bytes);
        assert_eq!(again, b"", "nothing is asked again");
        heard
    }

    /// What the client hears, and what the server is sent at once.
    fn server_again(&mut self, bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let mut out = Out::default();
        let told = self.back.take(Some(&mut self.front), &mut self.shared, bytes, &mut out).expect("in its turn");
        assert_eq!(told.consumed, bytes.len());
        (out.flat(bytes), told.again)
    }

    /// Prepares one text under `name` and binds it; answers what the server is sent.
    fn prepared_as(&mut self, name: &str) -> Vec<u8> {
        self.client(&[parse(name, "SELECT * FROM t"), bind(name), sync()].concat())
    }
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(bytes, part).is_some()
}

/// A session that has prepared `a`, answered by the server.
fn session_with_a() -> Session {
    let mut session = Session::new();
    let sent = session.client(&[parse("a", "SELECT * FROM t"), sync()].concat());
    assert!(holds(&sent, b"o7s_1\0SELECT"));
    session.server(&[message(b'1', b""), ready()].concat());
    session
}

#[test]
fn row_73_a_text_whose_tables_have_changed_is_prepared_anew_for_who_asks_anew() {
    let (parsed, bound) = (message(b'1', b""), message(b'2', b""));
    let mut session = Session::new();
    assert!(holds(&session.prepared_as("a"), b"o7s_1\0SELECT"));
    session.server(&[parsed.clone(), bound, ready()].concat());
    // Another name for the same text needs no Parse of its own. Its client has not asked for the columns: the error is its.
    assert!(!holds(&session.prepared_as("b"), b"SELECT"));
    let answer = session.server(&[stale(), ready()].concat());
    assert_eq!(answer, [parsed, stale(), ready()].concat());
    assert!(holds(&session.prepared_as("c"), b"o7s_2\0SELECT"));
}

#[test]
fn row_73_who_asks_for_the_columns_notices_nothing() {
    let asked = [bind("a"), describe_portal(), execute(), sync()].concat();
    let mut session = session_with_a();
    let sent = session.client(&asked);
    let (heard, again) = session.server_again(&stale());
    assert_eq!(heard, b"");
    let anew = [close("o7s_1"), parse("o7s_1", "SELECT * FROM t")].concat();
    assert_eq!(again, [anew, sent].concat());
    let answer = [message(b'2', b""), message(b'T', b"\0\0"), message(b'C', b"SELECT 0\0"), ready()].concat();
    let unseen = [ready(), message(b'3', b""), message(b'1', b"")].concat();
    assert_eq!(session.server(&[unseen, answer.clone()].concat()), answer);
    assert!(session.back.at_rest());
    // Another time, and it fails twice: that is heard.
    session.client(&asked);
    assert_ne!(session.server_again(&stale()).1, b"");
    let answer = [stale(), ready()].concat();
    assert_eq!(session.server(&[ready(), message(b'3', b""), message(b'1', b""), answer.clone()].concat()), answer);
}

#[test]
fn row_73_a_request_without_an_end_is_ended_first() {
    let mut session = session_with_a();
    let asked = message(b'D', b"Sa\0");
    let sent = session.client(&[asked, message(b'H', b"")].concat());
    // The parameters come first, and may be other ones afterwards.
    let parameters = message(b't', b"\0\0");
    let mut out = Out::default();
    let told = session.back.take(Some(&mut session.front), &mut session.shared, &parameters, &mut out);
    assert_eq!(told.expect("in its turn").consumed, 0, "what comes next decides");
    let (heard, again) = session.server_again(&[parameters, stale()].concat());
    assert_eq!(heard, b"");
    assert_eq!(again, [sync(), close("o7s_1"), parse("o7s_1", "SELECT * FROM t"), sent].concat());
    let answer = [message(b't', b"\0\0"), message(b'n', b"")].concat();
    let unseen = [ready(), message(b'3', b""), message(b'1', b"")].concat();
    assert_eq!(session.server(&[unseen, answer.clone()].concat()), answer);
    session.client(&sync());
    assert_eq!(session.server(&ready()), ready());
}

#[test]
fn row_73_what_may_have_changed_something_or_is_followed_by_more_is_not_asked_again() {
    let asked = [bind("a"), describe_portal(), execute(), sync()].concat();
    // In a transaction, and after another request that failed.
    let mut session = session_with_a();
    session.client(&[bind("a"), execute(), sync()].concat());
    assert_eq!(session.server(&[stale(), ready()].concat()), [stale(), ready()].concat());
    session.client(&message(b'Q', b"BEGIN\0"));
    session.server(&[message(b'C', b"BEGIN\0"), message(b'Z', b"T")].concat());
    session.client(&asked);
    assert_eq!(session.server(&stale()), stale());
    // After something that ran, in the same request.
    let mut session = session_with_a();
    session.client(&[parse("", "DELETE FROM u"), bind(""), execute(), asked.clone()].concat());
    session.server(&[message(b'1', b""), message(b'2', b""), message(b'C', b"DELETE 1\0")].concat());
    assert_eq!(session.server(&stale()), stale());
    // With another request behind it.
    let mut session = session_with_a();
    session.client(&[asked.clone(), message(b'Q', b"SELECT 1\0")].concat());
    assert_eq!(session.server(&stale()), stale());
    // In the middle of a message.
    let mut session = session_with_a();
    session.client(&[&asked[..asked.len() - 5], b"d\0\0\0\x09"].concat());
    assert_eq!(session.server(&stale()), stale());
    // Bytes of a type that may be another one now.
    let mut session = session_with_a();
    let binary = message(b'B', b"\0a\0\0\x01\0\x01\0\x01\0\0\0\x01x\0\0");
    session.client(&[binary, describe_portal(), execute(), sync()].concat());
    assert_eq!(session.server(&stale()), stale());
    // Too long to be kept.
    let mut session = session_with_a();
    let long = message(b'B', &[b"\0a\0\0\0\0\x01\0\0\x40\0", &[b'x'; 0x4000][..], b"\0\0"].concat());
    session.client(&[long, describe_portal(), execute(), sync()].concat());
    assert_eq!(session.server(&stale()), stale());
}

#[test]
fn row_67_a_name_comes_back_when_its_close_was_skipped() {
    let failed = || error("42601", "syntax error", "scanner_yyerror");
    for (skipped, then) in [
        (close("a"), b"o7s_1"),
        ([close("a"), parse("a", "SELECT 2")].concat(), b"o7s_1"),
        ([close("a"), parse("a", "SELECT 2"), close("a")].concat(), b"o7s_1"),
        (message(b'Q', b"DEALLOCATE a\0"), b"o7s_1"),
        (message(b'Q', b"DEALLOCATE ALL\0"), b"o7s_1"),
    ] {
        let mut session = session_with_a();
        session.client(&[parse("", "nonsense"), skipped.clone(), sync()].concat());
        assert_eq!(session.server(&[failed(), ready()].concat()), [failed(), ready()].concat());
        assert!(holds(&session.client(&bind("a")), then), "{skipped:?}");
        // The error was there before the rest was sent.
        let mut session = session_with_a();
        session.client(&parse("", "nonsense"));
        session.server(&failed());
        session.client(&[skipped.clone(), sync()].concat());
        session.server(&ready());
        assert!(holds(&session.client(&bind("a")), then), "{skipped:?}");
    }
    // A name that was given only by what is skipped is none.
    let mut session = session_with_a();
    session.client(&[parse("", "nonsense"), parse("b", "SELECT * FROM t"), close("b"), sync()].concat());
    session.server(&[failed(), ready()].concat());
    assert_eq!(session.client(&bind("b")), bind("b"));
}

#[test]
fn row_67_the_unnamed_statement_is_what_it_was_when_its_parse_or_close_was_skipped() {
    let failed = || error("42P01", "no such table", "parserOpenTable");
    for skipped in [
        close(""),
        parse("", "SELECT 2"),
        [parse("", "SELECT 2"), close(""), parse("", "SELECT 3")].concat(),
        message(b'Q', b"SELECT 2\0"),
        message(b'Q', b"DEALLOCATE ALL\0"),
    ] {
        for known_before in [false, true] {
            let mut session = Session::new();
            session.client(&[parse("", "SELECT 1"), sync()].concat());
            session.server(&[message(b'1', b""), ready()].concat());
            let failing = parse("b", "SELECT * FROM none");
            if known_before {
                session.client(&failing);
                session.server(&failed());
                session.client(&[skipped.clone(), sync()].concat());
                session.server(&ready());
            } else {
                session.client(&[failing, skipped.clone(), sync()].concat());
                session.server(&[failed(), ready()].concat());
            }
            let sent = session.client(&[bind(""), sync()].concat());
            assert!(
                !holds(&sent, b"SELECT 2") && !holds(&sent, b"SELECT 3") && !sent.starts_with(b"C"),
                "{skipped:?}"
            );
            // On whatever server it is the one before.
            session.back = Back::new(session.shared.shelf.none(), &[]);
            let sent = session.client(&[bind(""), sync()].concat());
            assert_eq!(sent, [parse("", "SELECT 1"), bind(""), sync()].concat(), "{skipped:?}");
        }
    }
    // What comes before the error has been done.
    let mut session = Session::new();
    session.client(&[parse("", "SELECT 1"), sync()].concat());
    session.server(&[message(b'1', b""), ready()].concat());
    session.client(&[parse("", "SELECT 2"), bind("x"), close(""), parse("", "SELECT 3"), sync()].concat());
    session.server(&[message(b'1', b""), failed(), ready()].concat());
    let sent = session.client(&[bind(""), sync()].concat());
    assert_eq!(sent, [parse("", "SELECT 2"), bind(""), sync()].concat());
    // A Parse that failed leaves none, and whoever was there before cannot be met.
    let mut session = Session::new();
    session.client(&[parse("", "SELECT 1"), sync()].concat());
    session.server(&[message(b'1', b""), ready()].concat());
    session.client(&[parse("", "nonsense"), sync()].concat());
    session.server(&[failed(), ready()].concat());
    assert_eq!(session.client(&[bind(""), sync()].concat()), [close(""), bind(""), sync()].concat());
}

#[test]
fn row_77_an_unnamed_statement_whose_parse_was_skipped_is_not_taken_for_there() {
    let mut session = Session::new();
    session.client(&[parse("", "SELECT 1"), sync()].concat());
    session.server(&[message(b'1', b""), ready()].concat());
    // Another server connection: it must be told the text, and skips that.
    session.back = Back::new(session.shared.shelf.none(), &[]);
    let sent = session.client(&[bind("none"), bind(""), sync()].concat());
    assert!(holds(&sent, b"SELECT 1"));
    session.server(&[error("26000", "no such statement", "FetchPreparedStatement"), ready()].concat());
    assert!(holds(&session.client(&[bind(""), sync()].concat()), b"SELECT 1"));
}

#[test]
fn row_67_a_name_in_doubt_waits_for_the_answer() {
    for (doubtful, next) in [
        (close("a"), bind("a")),
        (close("a"), parse("a", "SELECT 2")),
        (close("a"), message(b'Q', b"DEALLOCATE ALL\0")),
        (parse("b", "SELECT * FROM t"), bind("b")),
        (parse("b", "SELECT 3"), message(b'D', b"Sb\0")),
        (parse("b", "SELECT 3"), close("b")),
    ] {
        let mut session = session_with_a();
        let first = [parse("", "nonsense"), doubtful, sync()].concat();
        let (_, consumed) = session.client_in_part(&[first.clone(), next].concat());
        assert_eq!(consumed, first.len());
    }
    // In one request no answer is needed: if the first is skipped, so is the second.
    session_with_a()
        .client(&[close("a"), parse("a", "SELECT 2"), bind("a"), parse("b", "SELECT 3"), bind("b")].concat());
}

#[test]
fn that_there_is_no_such_statement_is_said_with_the_clients_name() {
    let none = |name: &str| {
        error("26000", &format!("prepared statement \"{name}\" does not exist"), "FetchPreparedStatement")
    };
    // The server has lost it, by a DEALLOCATE ALL inside a function say.
    let mut session = session_with_a();
    session.client(&[bind("a"), sync()].concat());
    assert_eq!(session.server(&[none("o7s_1"), ready()].concat()), [none("a"), ready()].concat());
    assert!(holds(&session.client(&bind("a")), b"SELECT * FROM t"), "and then it is prepared again");
    // A name of the router's own leads to nobody's statement.
    let mut session = session_with_a();
    assert_eq!(session.client(&[bind("o7s_1"), sync()].concat()), [bind("o7s_o7s_1"), sync()].concat());
    assert_eq!(session.server(&[none("o7s_o7s_1"), ready()].concat()), [none("o7s_1"), ready()].concat());
    assert_eq!(session.client(&[close("o7s_1"), sync()].concat()), sync());
}

#[test]
fn deallocate_all_among_other_statements_takes_the_names_away() {
    let mut session = session_with_a();
    session.client(&message(b'Q', b"DEALLOCATE ALL; SELECT 1\0"));
    let answer = [message(b'C', b"DEALLOCATE ALL\0"), message(b'C', b"SELECT 1\0"), ready()].concat();
    session.server(&answer);
    assert_eq!(session.client(&bind("a")), bind("a"));
    let mut session = session_with_a();
    session.client(&message(b'Q', b"DEALLOCATE ALL; SELECT 1\0"));
    session.server(&answer);
    assert!(holds(&session.client(&parse("a", "SELECT * FROM t")), b"o7s_1\0SELECT"));
    session.server(&message(b'1', b""));
}

#[test]
fn a_request_without_end_is_answered_as_it_grows() {
    let mut session = session_with_a();
    let many: Vec<u8> = (0..5000).flat_map(|n| parse(&format!("n{n}"), "SELECT * FROM t")).collect();
    let (sent, consumed) = session.client_in_part(&many);
    assert!(consumed < many.len());
    assert_eq!(sent, message(b'H', b""), "the server knows the text; it is asked to answer what it may owe");
    let mut out = Out::default();
    session.back.give_overdue(&mut out);
    assert_eq!(out.flat(&[]).len(), 4096 * 5);
    session.client(&many[consumed..]);
}

#[test]
fn any_other_error_leaves_the_text_shared() {
    let wrong = error("22P02", "invalid input syntax", "RevalidateCachedQuery");
    let mut session = Session::new();
    session.prepared_as("a");
    session.server(&[message(b'1', b""), wrong, ready()].concat());
    assert!(!holds(&session.prepared_as("b"), b"SELECT"));
}
