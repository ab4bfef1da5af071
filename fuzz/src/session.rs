//! The session machines: whatever the two sides send, and wherever the network cuts it.

use ogelnates::router::protocol::back::{Back, Desync};
use ogelnates::router::protocol::frame::Out;
use ogelnates::router::protocol::front::{Broken, Front, Shared, Stop};
use ogelnates::router::protocol::leave::Leave;

use super::server::Server;
use super::{first, part, pieces};

/// One client on one server connection.
struct Session {
    shared: Shared,
    front: Front,
    back: Back,
    /// Received and not yet used; once it has ended, nothing is.
    of_client: Vec<u8>,
    of_server: Vec<u8>,
    queries: u32,
    seen: Seen,
}

/// All that either side was sent, and how it ended.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    to_server: Bytes,
    to_client: Bytes,
    broken: Option<Broken>,
    desync: Option<Desync>,
    left: bool,
    fatal: Option<Vec<u8>>,
    ours_failed: Option<Vec<u8>>,
    errors: u32,
}

#[derive(Default, PartialEq, Eq)]
struct Bytes(Vec<u8>);

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl Session {
    fn new(pools_by_session: bool) -> Session {
        let shared = Shared::default();
        let none = shared.shelf.none();
        Session {
            front: Front::new(1, pools_by_session, none.clone()),
            back: Back::new(none, &[]),
            shared,
            of_client: Vec::new(),
            of_server: Vec::new(),
            queries: 0,
            seen: Seen::default(),
        }
    }

    fn ended(&self) -> bool {
        self.seen.broken.is_some() || self.seen.desync.is_some() || self.seen.left
    }

    fn client_sends(&mut self, bytes: &[u8]) {
        self.of_client.extend_from_slice(bytes);
        if self.ended() {
            return;
        }
        let mut out = Out::default();
        let step = self.front.with_server(&mut self.back, Leave::ALL, &mut self.shared, &self.of_client, &mut out);
        self.seen.to_server.0.extend(out.flat(&self.of_client));
        match step {
            Ok(step) => {
                self.of_client.drain(..step.consumed);
                self.queries += step.queries;
                self.seen.left = step.stop == Stop::Terminate;
                assert_ne!(step.stop, Stop::Begin, "it had leave to begin");
            }
            Err(broken) => {
                self.seen.broken = Some(broken);
                // The steps of before told of theirs; what this one would have told is lost, where the whole was one step.
                self.queries = 0;
            }
        }
    }

    fn overdue(&mut self) {
        let mut out = Out::default();
        self.back.give_overdue(&mut out);
        self.seen.to_client.0.extend(out.flat(&[]));
    }

    fn server_sends(&mut self, bytes: &[u8]) {
        self.of_server.extend_from_slice(bytes);
        if self.seen.desync.is_some() {
            return;
        }
        let mut out = Out::default();
        let told = self.back.take(Some(&mut self.front), &mut self.shared, &self.of_server, &mut out);
        self.seen.to_client.0.extend(out.flat(&self.of_server));
        match told {
            Ok(told) => {
                self.of_server.drain(..told.consumed);
                self.seen.errors += told.tally.errors;
                self.seen.to_server.0.extend(told.again);
                self.seen.fatal = told.fatal.or(self.seen.fatal.take());
                self.seen.ours_failed = told.ours_failed.or(self.seen.ours_failed.take());
            }
            Err(desync) => {
                let to_client = std::mem::take(&mut self.seen.to_client);
                self.seen = Seen { to_client, desync: Some(desync), ..Seen::default() };
            }
        }
    }
}

/// Any bytes of a client's, with a server connection and without one: cut anywhere, they come to the same.
pub fn client(data: &[u8]) {
    let ((flags, rest), by_session) = (first(data), first(data).0 & 1 != 0);
    let (seed, stream) = first(rest);
    let run = |pieces: &[&[u8]]| {
        let mut session = Session::new(by_session);
        pieces.iter().for_each(|piece| session.client_sends(piece));
        let rest = if session.ended() { Vec::new() } else { session.of_client };
        (session.seen, rest, session.back.at_rest(), session.front.pin)
    };
    assert_eq!(run(&pieces(stream, seed)), run(&[stream]));

    let alone = |pieces: &[&[u8]]| {
        let mut front = Session::new(by_session).front;
        if flags & 2 != 0 {
            front.refuse();
        }
        let (mut input, mut sent) = (Vec::new(), Vec::new());
        for piece in pieces {
            input.extend_from_slice(piece);
            let mut out = Out::default();
            let step = front.without_server(&input, &mut out);
            sent.extend(out.flat(&input));
            match step {
                Err(broken) => return (sent, Vec::new(), Some(broken)),
                Ok(step) => drop(input.drain(..step.consumed)),
            }
        }
        (sent, input, None)
    };
    assert_eq!(alone(&pieces(stream, seed)), alone(&[stream]));
}

/// Any bytes of a server's, after any of a client's.
pub fn replies(data: &[u8]) {
    let (flags, rest) = first(data);
    let (seed, rest) = first(rest);
    let (asked, stream) = part(rest);
    let run = |pieces: &[&[u8]]| {
        let mut session = Session::new(flags & 1 != 0);
        session.client_sends(asked);
        pieces.iter().for_each(|piece| session.server_sends(piece));
        let rest = if session.ended() { Vec::new() } else { session.of_server };
        (session.seen, rest, session.back.at_rest(), session.front.settings.id, session.back.parameters)
    };
    assert_eq!(run(&pieces(stream, seed)), run(&[stream]));
}

/// Rounds of a client's messages and a server's answers. The router is never out of step with the server, gives no
/// connection away on which something is unfinished, and it is all the same where the network cuts.
pub fn session(data: &[u8]) {
    let (flags, rest) = first(data);
    let (seed, rounds) = first(rest);
    let run = |cut: &dyn for<'a> Fn(&'a [u8]) -> Vec<&'a [u8]>| {
        let (mut session, mut server) = (Session::new(flags & 1 != 0), Server::new());
        let (mut rest, mut answered) = (rounds, 0);
        while !rest.is_empty() && !session.ended() {
            let round;
            (round, rest) = part(rest);
            for piece in cut(round) {
                session.client_sends(piece);
                session.overdue();
            }
            // What had to wait for answers goes on when they are there.
            loop {
                let before = (session.seen.to_server.0.len(), session.seen.to_client.0.len());
                let answers = server.answer(&session.seen.to_server.0[answered..]);
                answered = before.0;
                if !answers.is_empty() {
                    cut(&answers).into_iter().for_each(|piece| session.server_sends(piece));
                }
                assert_eq!(session.seen.desync, None, "{:?}", session.seen);
                session.client_sends(&[]);
                session.overdue();
                if before == (session.seen.to_server.0.len(), session.seen.to_client.0.len()) {
                    break;
                }
            }
            let unfinished = session.front.inside_a_message() || !session.back.at_rest();
            assert!(unfinished || server.at_rest(), "a connection that is not at rest: {:?}", session.seen);
        }
        // What has to wait for an answer waits longer in one than in the other, so what the server is sent may differ.
        (session.seen.to_client, session.seen.broken, session.seen.left)
    };
    assert_eq!(run(&|bytes| pieces(bytes, seed)), run(&|bytes| vec![bytes]));
}
