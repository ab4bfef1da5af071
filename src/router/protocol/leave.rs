//! What a client may start before anybody has to be asked, and how a message is refused in its turn while the session goes on.

use super::back::Back;
use super::frame::{INSPECT_MAX, Out, put, split_nul};
use super::front::{Broken, Front, Stop};
use super::growth::{Storage, growth};
use super::message::Message;
use super::replies::{Kind, Local};
use super::sql::Effect;

/// Of a session's Executes in a transaction, above the ceiling: one of them may be the COMMIT.
const UNPAID_MAX: u8 = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leave {
    /// A transaction may begin.
    pub begin: bool,
    /// Queries that may start.
    pub queries: u64,
    pub storage: Storage,
}

impl Leave {
    pub const ALL: Leave = Leave { begin: true, queries: u64::MAX, storage: Storage::Open };
}

impl Front {
    /// A report for the message that comes next in place of what it asks for; that message is skipped, and after one of the
    /// extended protocol all up to the next Sync, as Postgres does it. What the same request did before is undone, unless
    /// a transaction block holds it.
    pub fn refuse_next(&mut self, back: &mut Back, report: Vec<u8>, to_server: &mut Out) {
        if back.owes() {
            // What the server owes before it must not wait for the Sync.
            to_server.make(|out| put(out, b'H', |_| {}));
        }
        back.owe_refusal(report);
        self.refuse();
    }

    /// A message after a refusal, up to the Sync or the one Query that was refused. `None`: it goes the usual way.
    pub(super) fn after_refusal(&mut self, back: &mut Back, tag: u8, out: &mut Out) -> Option<Stop> {
        match tag {
            b'X' => return Some(Stop::Terminate),
            b'S' if back.sent_since_sync() => {
                if !back.in_transaction() {
                    out.make(|out| back.put_our_query("ROLLBACK", out));
                }
                self.refused = false;
                return None;
            }
            b'S' => {
                self.refused = false;
                back.owe(Kind::Local(Local::Ready));
            }
            b'Q' | b'F' if !back.sent_since_sync() => {
                self.refused = false;
                back.owe(Kind::Local(Local::Ready));
            }
            _ => {}
        }
        self.swallow = true;
        Some(Stop::Input)
    }

    /// What the message costs, or what keeps it from starting.
    pub(super) fn weigh(
        &mut self,
        back: &Back,
        leave: Leave,
        charged: u64,
        tag: u8,
        message: &Message<'_>,
    ) -> Result<Weighed, Broken> {
        if back.skipping_to_sync() {
            return Ok(Weighed::Free);
        }
        if leave.storage != Storage::Open {
            let long = message.total > INSPECT_MAX && matches!(tag, b'Q' | b'P');
            if !long && message.body().is_none() && message.total <= INSPECT_MAX {
                return Ok(Weighed::Over(Stop::Input));
            }
            // Nobody reads a longer text to its end.
            if long || !self.may_run(back, leave.storage, tag, message)? {
                return Ok(Weighed::Over(Stop::Storage));
            }
        }
        let query = matches!(tag, b'Q' | b'E' | b'F');
        if !query || self.ends_transaction(tag, message) {
            return Ok(Weighed::Free);
        }
        if charged < leave.queries || !back.in_transaction() {
            self.unpaid = 0;
        }
        // What a session prepared nobody has read: it may be the COMMIT.
        let unknown_end = self.session && tag == b'E' && back.in_transaction() && self.unpaid < UNPAID_MAX;
        self.unpaid += u8::from(unknown_end && charged >= leave.queries);
        Ok(if charged < leave.queries || unknown_end { Weighed::Charged } else { Weighed::Over(Stop::Queries) })
    }

    /// COMMIT, ROLLBACK and their like are always let through, and cost nothing.
    fn ends_transaction(&self, tag: u8, message: &Message<'_>) -> bool {
        match tag {
            b'Q' => {
                let Some(body) = message.body().filter(|_| message.total <= INSPECT_MAX) else { return false };
                let text = body.trim_ascii_start();
                let first = text.split(|byte| !byte.is_ascii_alphabetic()).next().unwrap_or_default();
                let ends = [&b"commit"[..], b"rollback", b"end", b"abort"];
                let mut rest = text[first.len()..].trim_ascii_start();
                // A text of several statements is charged.
                rest = rest.strip_suffix(b"\0").unwrap_or(rest).trim_ascii_end();
                let several = rest.iter().position(|byte| *byte == b';').is_some_and(|at| at + 1 < rest.len());
                !several && ends.iter().any(|word| first.eq_ignore_ascii_case(word))
            }
            b'E' => {
                let Some(rare) = self.rare.as_ref().filter(|rare| !rare.portals.is_empty()) else { return false };
                let portal = split_nul(message.start()).map_or(&[][..], |(portal, _)| portal);
                rare.effects_of_portal(portal).contains(&Effect::EndsTransaction)
            }
            _ => false,
        }
    }

    fn may_run(&self, back: &Back, storage: Storage, tag: u8, message: &Message<'_>) -> Result<bool, Broken> {
        let text = |bytes: &[u8]| {
            let text = split_nul(bytes).map_or(bytes, |(text, _)| text);
            // Where it is not known which quote ends a string, any word may be a statement's.
            !self.may_mislead(back, text) && storage.allows(growth(text))
        };
        Ok(match tag {
            b'Q' => text(message.start()),
            b'P' => split_nul(message.start()).is_none_or(|(_, rest)| text(rest)),
            // Prepared before there was no room.
            b'B' => match message.two_names()? {
                Some((_, name)) => {
                    let known = self.rare.as_ref().and_then(|rare| rare.text_of(name));
                    // A name that SQL's PREPARE has made; of a session's names nobody knows any.
                    known.map_or(self.session, text)
                }
                None => true,
            },
            // A function's number does not tell what it writes.
            b'F' => false,
            _ => true,
        })
    }
}

impl Back {
    pub(super) fn owe_refusal(&mut self, report: Vec<u8>) {
        self.repeat.end();
        self.owe(Kind::Local(Local::Refused));
        if !self.skipping {
            self.refusals.push_back(report);
        }
    }

    /// The server has got something that the next Sync ends.
    pub(super) fn sent_since_sync(&self) -> bool {
        self.segment
    }

    /// The server has failed something and ignores all up to the next Sync.
    pub(super) fn skipping_to_sync(&self) -> bool {
        self.skipping
    }
}

/// What starting a message costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weighed {
    Free,
    Charged,
    Over(Stop),
}
