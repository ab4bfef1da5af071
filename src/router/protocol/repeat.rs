//! `cached plan must not change result type`: where it can be done without the client noticing, the statement is prepared
//! anew on this server connection and what the client asked is asked again, once.
//!
//! Only outside a transaction, as the first thing of a request that is over soon, and only where nothing relies on what the
//! client was told of the old one: its columns are told it with the answer, and its parameters are text, not bytes of a
//! type that may be another one now. Anybody else gets the error.

use super::back::Back;
use super::frame::{HEAD, Out, put, split_nul};
use super::front::Front;
use super::replies::{Kind, Local, Owed};

/// A longer request is not kept for it.
const KEPT_MAX: usize = 8 * 1024;

/// What has been sent of a request that may have to be asked again.
#[derive(Debug, Default)]
pub(super) struct Repeat {
    on: bool,
    sent: Vec<u8>,
}

impl Repeat {
    pub fn end(&mut self) {
        self.on = false;
        self.sent.clear();
    }
}

impl Back {
    /// The next message to the server is the first of a request outside a transaction.
    pub(super) fn begins_a_request(&self) -> bool {
        let local = |owed: &Owed| matches!(owed.kind, Kind::Local(Local::Parsed | Local::Closed));
        self.status == b'I' && !self.skipping && !self.sent && self.owed.iter().all(local)
    }

    pub(super) fn begin_to_keep(&mut self) {
        self.repeat.end();
        self.repeat.on = true;
    }

    /// Keeps what is in `out` after its first `from` bytes.
    pub(super) fn keep(&mut self, out: &Out, from: usize, input: &[u8]) {
        if !self.repeat.on {
            return;
        }
        if self.repeat.sent.len() + out.bytes() - from > KEPT_MAX {
            return self.repeat.end();
        }
        let mut skip = from;
        for piece in out.slices(input) {
            let skipped = skip.min(piece.len());
            skip -= skipped;
            self.repeat.sent.extend_from_slice(&piece[skipped..]);
        }
    }

    /// The statement with this id is stale, says the server. What to send it for another try, where there may be one: the
    /// answers to that are owed in place of the error.
    pub(super) fn again(&mut self, id: u64, front: &Front) -> Option<Vec<u8>> {
        let binds = self.owed.iter().filter(|owed| matches!(owed.kind, Kind::Bind(_))).count();
        let told = match self.head_kind() {
            Some(Kind::Bind(_)) => {
                let described = self.owed.get(1).is_some_and(|owed| owed.kind == Kind::DescribePortal);
                binds == 1 && described && binds_text(&self.repeat.sent)
            }
            _ => binds == 0,
        };
        let ends = |owed: &Owed| matches!(owed.kind, Kind::Sync | Kind::Query | Kind::Call | Kind::CopyEnd);
        let end = self.owed.iter().position(ends);
        let synced = end.is_some();
        let last = end.is_none_or(|at| at + 1 == self.owed.len() && self.owed[at].kind == Kind::Sync);
        if !self.repeat.on || !told || !last || front.inside_a_message() {
            return None;
        }
        let (_, statement) = front.named(id)?;
        let mut out = Vec::with_capacity(self.repeat.sent.len() + 128);
        if !synced {
            put(&mut out, b'S', |_| {});
        }
        put(&mut out, b'C', |out| {
            out.push(b'S');
            out.extend_from_slice(&statement.name);
            out.push(0);
        });
        statement.put_parse(&mut out);
        out.append(&mut self.repeat.sent);
        self.repeat.end();
        for kind in [Kind::OurParse(id), Kind::OurClose, Kind::OurSync] {
            self.owed.push_front(Owed::plain(kind));
        }
        Some(out)
    }
}

/// All parameters of the Bind that `sent` begins with are text.
fn binds_text(sent: &[u8]) -> bool {
    let formats = || {
        let (_portal, rest) = split_nul(sent.get(HEAD..)?)?;
        let (count, rest) = split_nul(rest)?.1.split_first_chunk()?;
        rest.get(..2 * usize::from(u16::from_be_bytes(*count)))
    };
    formats().is_some_and(|formats| formats.iter().all(|&byte| byte == 0))
}
