//! What an error of the server's means: who hears it and in whose words, what was skipped with it, and what is not known
//! before it could have come.

use std::collections::VecDeque;

use super::back::{Back, Told};
use super::frame::{Out, put};
use super::front::{Front, Shared};
use super::names::{Named, Unnamed};
use super::replies::{Kind, Local, Owed, field, is_fatal, is_stale, renamed};
use super::statements::OURS;

/// Names that depend on messages under way, each with the client's request it is in: an error in a request skips the rest.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    request: u64,
    /// Of each Parse, in order.
    pub begun: VecDeque<(u64, Box<[u8]>)>,
    /// What each Close or DEALLOCATE takes away, likewise.
    pub gone: VecDeque<(u64, Vec<Named>)>,
}

impl Doubts {
    pub fn request(&self) -> u64 {
        self.request
    }

    pub fn next_request(&mut self) {
        self.request += 1;
    }
}

impl Back {
    pub(super) fn owe_named(&mut self, kind: Kind, name: &[u8]) {
        self.owe(kind);
        if !self.skipping {
            self.doubts.begun.push_back((self.doubts.request, name.into()));
        }
    }

    /// `gone` comes back should the server skip what takes it away.
    pub(super) fn owe_gone(&mut self, local: Local, gone: Vec<Named>) {
        self.doubts.gone.push_back((self.doubts.request, gone));
        self.owe(Kind::Local(local));
    }

    /// What is owed last gives the unnamed statement or takes it away; `before` comes back should the server skip that.
    pub(super) fn replaces_unnamed(&mut self, before: Option<Box<Unnamed>>) {
        if let Some(last) = self.owed.back_mut().filter(|_| !self.skipping) {
            last.unnamed = Some(before);
        }
    }

    pub(super) fn name_in_doubt(&self, name: &[u8]) -> bool {
        let Doubts { request, begun, gone } = &self.doubts;
        let mut begun = begun.iter().take_while(|(of, _)| of != request);
        let mut gone = gone.iter().take_while(|(of, _)| of != request).flat_map(|(_, gone)| gone);
        begun.any(|(_, begun)| **begun == *name) || gone.any(|(gone, _)| **gone == *name)
    }

    pub(super) fn any_in_doubt(&self) -> bool {
        let Doubts { request, begun, gone } = &self.doubts;
        begun.front().is_some_and(|(of, _)| of != request) || gone.front().is_some_and(|(of, _)| of != request)
    }

    /// The server ignores what was sent after the failed message, up to the next Sync.
    fn skip(&mut self, front: &mut Option<&mut Front>) {
        let sync = self.owed.iter().position(|owed| owed.kind == Kind::Sync);
        self.skipping = sync.is_none();
        let mut skipped: Vec<Owed> = self.owed.drain(..sync.unwrap_or(self.owed.len())).collect();
        let gives = |owed: &Owed| matches!(owed.kind, Kind::ParseNamed(_) | Kind::Local(Local::Parsed));
        let takes = |owed: &Owed| matches!(owed.kind, Kind::Local(local) if local.takes_away());
        let mut begun: Vec<_> =
            self.doubts.begun.drain(..skipped.iter().filter(|owed| gives(owed)).count()).collect();
        let mut gone: Vec<_> = self.doubts.gone.drain(..skipped.iter().filter(|owed| takes(owed)).count()).collect();
        let refused = skipped.iter().filter(|owed| owed.kind == Kind::Local(Local::Refused)).count();
        self.refusals.drain(..refused);
        // The last first: a name may have been taken away and given anew.
        for (at, owed) in skipped.iter_mut().enumerate().rev() {
            match owed.kind {
                Kind::Parse | Kind::OurParse(0) => self.unnamed = None,
                Kind::ParseNamed(id) | Kind::OurParse(id) => self.unprepare(id),
                _ => {}
            }
            let Some(front) = front else { continue };
            if let (Some(before), Some(rare)) = (owed.unnamed.take(), &mut front.rare) {
                // One that has failed, and was not skipped, has taken the one before it away.
                rare.unnamed = before.filter(|_| at > 0);
            }
            if gives(owed)
                && let Some((_, name)) = begun.pop()
            {
                front.forget(&name);
            } else if takes(owed)
                && let Some((_, gone)) = gone.pop()
            {
                front.restore(gone);
            }
        }
        self.still_discarding();
    }

    /// Answers whether it goes on to the client as it is.
    pub(super) fn error(
        &mut self,
        body: &[u8],
        keep: bool,
        front: &mut Option<&mut Front>,
        shared: &mut Shared,
        told: &mut Told,
        out: &mut Out,
    ) -> bool {
        if let (Some(Kind::Bind(id) | Kind::Describe(id)), Some(front)) = (self.head_kind(), front.as_deref())
            && is_stale(body)
            && let Some((_, statement)) = front.named(id)
        {
            // Where the client must prepare its text anew, as it would without a router, it must not get this one again.
            shared.book.retire(statement);
            if let Some(again) = self.again(id, front) {
                told.again = again;
                return false;
            }
        }
        self.repeat.end();
        self.failed = true;
        let code = field(body, b'C');
        told.read_only |= code == Some(b"25006");
        let kind = self.head_kind();
        if kind != Some(Kind::OurQuery) {
            told.tally.error(code);
            self.worked = true;
            self.copied_in = false;
        }
        let Some(kind) = kind else {
            // Out of turn: the connection ends, as by `pg_terminate_backend`.
            told.fatal = Some(body.to_vec());
            return false;
        };
        if is_fatal(body) {
            told.fatal = Some(body.to_vec());
            return keep;
        }
        let renamed = match kind {
            Kind::OurQuery => {
                told.ours_failed = Some(body.to_vec());
                return false;
            }
            Kind::Query | Kind::Call | Kind::Sync => return keep,
            Kind::OurParse(_) | Kind::OurClose => {
                // The client's own next message is what fails for it.
                self.skip(front);
                return front.is_some();
            }
            Kind::ParseTwice => self.twice.take().map(|twice| renamed(body, &twice.servers, &twice.own)),
            Kind::Bind(id) | Kind::Describe(id) if code == Some(b"26000") => {
                self.unprepare(id);
                match front.as_deref().and_then(|front| front.named(id)) {
                    Some((own, statement)) => Some(renamed(body, &statement.name, own)),
                    None => Some(renamed(body, &[OURS, OURS].concat(), OURS)),
                }
            }
            _ => None,
        };
        self.skip(front);
        match renamed {
            Some(body) if keep => {
                out.make(|out| put(out, b'E', |out| out.extend_from_slice(&body)));
                false
            }
            _ => keep,
        }
    }
}
