//! Replies that are owed, by kind, and what is read from the server's errors.

use std::collections::VecDeque;

use super::frame::{put, split_nul};
use super::names::Unnamed;
use super::sql::Effect;

/// A reply the router gives itself, in its turn among the server's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Local {
    Parsed,
    Closed,
    /// With ReadyForQuery.
    Deallocated,
    DeallocatedAll,
    Discarded,
    /// The next of the reports that take the place of what was asked.
    Refused,
    /// ReadyForQuery alone.
    Ready,
}

impl Local {
    /// It is the answer to what took names away.
    pub(super) fn takes_away(self) -> bool {
        matches!(self, Local::Closed | Local::Deallocated | Local::DeallocatedAll)
    }

    pub(super) fn put(self, out: &mut Vec<u8>, status: u8) {
        let tag: &[u8] = match self {
            Local::Parsed => return put(out, b'1', |_| {}),
            Local::Closed => return put(out, b'3', |_| {}),
            Local::Ready => return put(out, b'Z', |out| out.push(status)),
            // The report itself was put before.
            Local::Refused => return,
            Local::Deallocated => b"DEALLOCATE\0",
            Local::DeallocatedAll => b"DEALLOCATE ALL\0",
            Local::Discarded => b"DISCARD ALL\0",
        };
        put(out, b'C', |out| out.extend_from_slice(tag));
        put(out, b'Z', |out| out.push(status));
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Query,
    Call,
    Sync,
    /// Of a name of the client's own, or of none.
    Parse,
    /// Of a statement with this id; its name is the next of `names`.
    ParseNamed(u64),
    /// Of a name that is taken: it will fail.
    ParseTwice,
    /// Of the shared statement with this id; 0 is none.
    Bind(u64),
    Describe(u64),
    DescribePortal,
    Execute,
    Close,
    /// The client's CopyDone or CopyFail; owes nothing itself.
    CopyEnd,
    Local(Local),
    /// The router's own; their replies are for nobody else.
    OurQuery,
    OurParse(u64),
    OurClose,
    OurSync,
}

impl Kind {
    /// Its replies are for nobody but the router.
    pub(super) fn is_ours(self) -> bool {
        matches!(self, Kind::OurQuery | Kind::OurParse(_) | Kind::OurClose | Kind::OurSync)
    }
}

#[derive(Debug)]
pub struct Owed {
    pub(super) kind: Kind,
    pub(super) effects: VecDeque<Effect>,
    /// It gives the unnamed statement or takes it away: the one to come back should the server skip that.
    pub(super) unnamed: Option<Option<Box<Unnamed>>>,
}

impl Owed {
    pub(super) fn plain(kind: Kind) -> Owed {
        Owed { kind, effects: VecDeque::new(), unnamed: None }
    }
}

/// One field of an ErrorResponse's body.
pub fn field(body: &[u8], wanted: u8) -> Option<&[u8]> {
    let mut rest = body;
    while let Some((&kind, after)) = rest.split_first() {
        let (value, next) = split_nul(after)?;
        if kind == wanted {
            return Some(value);
        }
        rest = next;
    }
    None
}

/// The session ends with it. `V` is the severity in English; servers before 9.6 have only the translated one.
pub(super) fn is_fatal(body: &[u8]) -> bool {
    matches!(field(body, b'V').or(field(body, b'S')), Some(b"FATAL" | b"PANIC"))
}

/// The tables of a prepared statement have changed so that its rows would have other columns than it was described with.
pub(super) fn is_stale(body: &[u8]) -> bool {
    field(body, b'C') == Some(b"0A000") && field(body, b'R') == Some(b"RevalidateCachedQuery")
}

/// With every `from` in it replaced.
pub(super) fn renamed(body: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + to.len());
    let mut rest = body;
    while let Some(at) = memchr::memmem::find(rest, from) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    out.extend_from_slice(rest);
    out
}
