//! What the router itself sends to a server connection, what it notes of it, and what a COPY changes in what is owed.

use super::back::Back;
use super::frame::{Out, put, split_nul};
use super::front::OWED_MAX;
use super::reading::Reading;
use super::replies::Kind;

impl Back {
    /// Messages that close what was pushed out, to be sent before anything else of a segment.
    pub fn put_evicted(&mut self, out: &mut Vec<u8>) {
        for name in std::mem::take(&mut self.evicted) {
            put(out, b'C', |out| {
                out.push(b'S');
                out.extend_from_slice(&name);
                out.push(0);
            });
            self.owe(Kind::OurClose);
        }
    }

    /// One of the router's own: whatever it answers is swallowed.
    pub fn put_our_query(&mut self, text: &str, out: &mut Vec<u8>) {
        put(out, b'Q', |out| {
            out.extend_from_slice(text.as_bytes());
            out.push(0);
        });
        self.unnamed = None;
        self.owe(Kind::OurQuery);
    }

    /// Ends the open segment of a client that is gone.
    pub fn put_sync(&mut self, out: &mut Vec<u8>) {
        put(out, b'S', |_| {});
        self.synced();
    }

    /// So much is owed that nothing more is taken: if nobody has asked the server to answer yet, it is asked now.
    pub(super) fn want_replies(&mut self, out: &mut Out) {
        if !self.owes_ready() {
            out.make(|out| put(out, b'H', |_| {}));
            self.flush_wanted = true;
        }
    }

    /// Whether the client's next message waits for answers: too many are owed, or all names are being forgotten. Without a
    /// Sync or Flush the server would keep those to itself.
    pub(super) fn must_answer_first(&mut self, tag: u8, out: &mut Out) -> bool {
        let discarded = self.discarding && !matches!(tag, b'X' | b'S' | b'H');
        let full = self.owed.len() >= OWED_MAX;
        if full || (discarded && !self.hurried) {
            self.want_replies(out);
            self.hurried |= discarded;
        }
        full || discarded
    }

    /// CopyDone or CopyFail of the client's. Where nothing is owed, no COPY can be meant.
    pub(super) fn copy_ends(&mut self) {
        self.in_copy = false;
        if self.owes() {
            self.owe(Kind::CopyEnd);
        }
    }

    /// Ends the COPY of a client that is gone.
    pub fn put_copy_fail(&mut self, out: &mut Vec<u8>) {
        if self.in_copy {
            put(out, b'f', |out| out.extend_from_slice(b"the client is gone\0"));
            self.in_copy = false;
            self.owe(Kind::CopyEnd);
        }
    }

    /// ParameterStatus messages of all that was reported.
    pub fn put_parameters(&self, out: &mut Vec<u8>) {
        for (name, value) in &self.parameters {
            put(out, b'S', |out| {
                out.extend_from_slice(name.as_bytes());
                out.push(0);
                out.extend_from_slice(value.as_bytes());
                out.push(0);
            });
        }
    }

    /// ParameterStatus.
    pub(super) fn note_parameter(&mut self, body: &[u8]) {
        let Some((name, rest)) = split_nul(body) else { return };
        let Some((value, _)) = split_nul(rest) else { return };
        let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value)) else { return };
        match self.parameters.iter_mut().find(|(known, _)| **known == *name) {
            Some((_, known)) => *known = value.into(),
            None => self.parameters.push((name.into(), value.into())),
        }
        // Others change with each transaction of some clients.
        if Reading::depends_on(name) {
            self.reading = Reading::of(&self.parameters);
        }
    }

    /// CopyInResponse: the server ignores each Sync that was sent before the end of the data.
    pub(super) fn copy_begins(&mut self) {
        let mut ended = false;
        let mut first = true;
        self.owed.retain(|owed| {
            ended |= owed.kind == Kind::CopyEnd;
            let ignored = !first && !ended && owed.kind == Kind::Sync;
            self.early_sync |= ignored;
            first = false;
            !ignored
        });
        self.in_copy = !ended;
        self.copied_in = true;
        // What was a Sync of the segment's is none any more.
        self.segment |= self.head_kind() == Some(Kind::Execute) && !self.owed.iter().any(|o| o.kind == Kind::Sync);
    }
}
