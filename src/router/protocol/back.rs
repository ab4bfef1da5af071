//! The server's side of a session: which replies are owed, to whom, and what the connection has become by them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::fail::Doubts;
use super::frame::{BadLength, HEAD, INSPECT_MAX, Out, head};
use super::front::{Front, Shared};
use super::reading::Reading;
use super::repeat::Repeat;
pub use super::replies::field;
use super::replies::{Kind, Local, Owed};
use super::settings::{Settings, Value};
use super::sql::Effect;
use super::statements::Statement;
use super::tally::Tally;

/// Statements a server connection keeps; the longest unused one goes.
const PREPARED_MAX: usize = 512;

#[derive(Debug)]
pub struct Back {
    /// Bytes of the current message that are still to come, and whether they go to the client.
    remaining: usize,
    swallow: bool,
    pub(super) owed: VecDeque<Owed>,
    pub(super) doubts: Doubts,
    pub(super) twice: Option<Twice>,
    /// Of the router's own, in the order of their [`Local::Refused`].
    pub(super) refusals: VecDeque<Vec<u8>>,
    /// Of the Query that runs: those that have ended.
    commands: u32,
    /// What takes the place of the server's report should it cancel what runs now: its time is up.
    pub too_long: Option<Vec<u8>>,
    /// After an error the server ignores everything up to the next Sync.
    pub(super) skipping: bool,
    /// Messages of the extended protocol since the last Sync.
    pub(super) segment: bool,
    /// The server has been sent some of them.
    pub(super) sent: bool,
    pub(super) repeat: Repeat,
    pub(super) in_copy: bool,
    /// Of the command under way: its rows come from the client.
    pub(super) copied_in: bool,
    /// A command of the client's has ended since no transaction was open.
    pub(super) worked: bool,
    /// A Sync was sent before the COPY had begun: the server has ignored it, unless the COPY was interrupted before that.
    pub(super) early_sync: bool,
    /// DISCARD ALL or DEALLOCATE ALL is under way: what a name means is known when it has succeeded or failed.
    pub(super) discarding: bool,
    /// The server was asked to say so before the next Sync.
    pub(super) hurried: bool,
    pub(super) flush_wanted: bool,
    /// Of the last ReadyForQuery: `I`, `T` or `E`.
    pub(super) status: u8,
    /// The last command tag was ROLLBACK.
    rolls_back: bool,
    pub(super) failed: bool,
    prepared: HashMap<u64, Prepared>,
    turn: u64,
    /// To be closed with the next message.
    pub(super) evicted: Vec<Box<[u8]>>,
    pub(super) unnamed: Option<(u64, u32)>,
    /// The client that had it before.
    pub last_front: u64,
    /// `None`: nobody knows.
    pub settings: Option<Arc<Settings>>,
    /// As last reported by ParameterStatus.
    pub parameters: Vec<(Box<str>, Box<str>)>,
    pub(super) reading: Reading,
}

#[derive(Debug)]
struct Prepared {
    used: u64,
    name: Box<[u8]>,
    /// The client's request its Parse belongs to, until that has succeeded.
    under_way: Option<u64>,
}

/// A Parse of a name that is taken: the name the client gave, and the one the server will complain of.
#[derive(Debug)]
pub(super) struct Twice {
    pub own: Box<[u8]>,
    pub servers: Box<[u8]>,
}

fn forgets_names(effect: &Effect) -> bool {
    matches!(effect, Effect::DiscardAll | Effect::DeallocateAll)
}

/// What a step over the server's bytes came upon.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub consumed: usize,
    /// The server connection reports that it ends: the body of its ErrorResponse.
    pub fatal: Option<Vec<u8>>,
    /// One of the router's own queries failed: the body of the ErrorResponse.
    pub ours_failed: Option<Vec<u8>>,
    pub tally: Tally,
    /// The server refused to write: it may be a primary no more.
    pub read_only: bool,
    /// To be sent to the server at once.
    pub again: Vec<u8>,
}

/// The server says what it cannot say here. Neither side can be trusted with the other any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Desync {
    #[error(transparent)]
    Length(#[from] BadLength),
    #[error("the server sent an unexpected message of type {0:?}")]
    Unexpected(char),
    #[error("nobody knows how many replies a COPY that was interrupted leaves")]
    Interrupted,
}

impl Back {
    /// At rest after its first ReadyForQuery, with the server's defaults.
    pub fn new(none: Arc<Settings>, parameters: &[(String, String)]) -> Back {
        Back {
            remaining: 0,
            swallow: false,
            owed: VecDeque::new(),
            doubts: Doubts::default(),
            refusals: VecDeque::new(),
            commands: 0,
            too_long: None,
            twice: None,
            skipping: false,
            segment: false,
            sent: false,
            repeat: Repeat::default(),
            in_copy: false,
            copied_in: false,
            worked: false,
            discarding: false,
            hurried: false,
            early_sync: false,
            flush_wanted: false,
            status: b'I',
            rolls_back: false,
            failed: false,
            prepared: HashMap::new(),
            turn: 0,
            evicted: Vec::new(),
            unnamed: None,
            last_front: 0,
            settings: Some(none),
            reading: Reading::of(parameters),
            parameters: parameters.iter().map(|(a, b)| (a.as_str().into(), b.as_str().into())).collect(),
        }
    }

    /// No transaction is open, nothing is owed, nothing unfinished: the one state in which it may change hands.
    pub fn at_rest(&self) -> bool {
        self.owed.is_empty() && self.status == b'I' && !self.segment && !self.skipping && self.remaining == 0
    }

    pub fn owes(&self) -> bool {
        !self.owed.is_empty()
    }

    /// A ReadyForQuery is among what is owed: the client has ended its request.
    pub fn owes_ready(&self) -> bool {
        self.owed.iter().any(|owed| matches!(owed.kind, Kind::Query | Kind::Call | Kind::Sync | Kind::OurSync))
    }

    /// Of the one request that is under way the server has only a part.
    pub fn has_a_part(&self) -> bool {
        self.in_copy || self.wants_sync() && !self.owes_ready()
    }

    /// The server waits for the data of a COPY.
    pub fn copies_in(&self) -> bool {
        self.in_copy
    }

    pub fn in_transaction(&self) -> bool {
        self.status != b'I'
    }

    /// Only a Sync is missing for it to come to rest.
    pub fn wants_sync(&self) -> bool {
        self.segment || self.skipping
    }

    pub(super) fn owe(&mut self, kind: Kind) {
        match kind {
            Kind::Parse
            | Kind::ParseNamed(_)
            | Kind::ParseTwice
            | Kind::Bind(_)
            | Kind::Describe(_)
            | Kind::DescribePortal
            | Kind::Execute
            | Kind::Close => {
                self.segment = true;
                self.sent = true;
            }
            Kind::Local(Local::Parsed | Local::Closed) => self.segment = true,
            Kind::Sync | Kind::Query | Kind::Call | Kind::Local(_) => self.doubts.next_request(),
            _ => {}
        }
        if !self.skipping || kind == Kind::Sync {
            self.owed.push_back(Owed::plain(kind));
        }
    }

    /// A Sync is on its way to the server.
    pub(super) fn synced(&mut self) {
        self.owe(Kind::Sync);
        self.skipping = false;
        self.segment = false;
        self.sent = false;
    }

    pub(super) fn owed_with(&mut self, kind: Kind, effects: Vec<Effect>) {
        self.owe(kind);
        if !effects.is_empty()
            && !self.skipping
            && let Some(last) = self.owed.back_mut()
        {
            self.discarding |= effects.iter().any(forgets_names);
            last.effects = effects.into();
        }
    }

    pub(super) fn owe_twice(&mut self, name: &[u8], servers: &[u8]) {
        self.owe(Kind::ParseTwice);
        self.twice = Some(Twice { own: name.into(), servers: servers.into() });
    }

    pub(super) fn still_discarding(&mut self) {
        self.discarding &= self.owed.iter().any(|owed| owed.effects.iter().any(forgets_names));
        self.hurried &= self.discarding;
    }

    /// Notes that the statement is used; answers whether the server must be told its text first.
    pub(super) fn prepare(&mut self, statement: &Statement) -> bool {
        self.turn += 1;
        let used = self.turn;
        if let Some(known) = self.prepared.get_mut(&statement.id) {
            known.used = used;
            return false;
        }
        if self.prepared.len() >= PREPARED_MAX
            && let Some((&id, _)) = self.prepared.iter().min_by_key(|(_, prepared)| prepared.used)
            && let Some(oldest) = self.prepared.remove(&id)
        {
            self.evicted.push(oldest.name);
        }
        let (name, under_way) = (statement.name.clone(), Some(self.doubts.request()));
        self.prepared.insert(statement.id, Prepared { used, name, under_way });
        // The Parse that is sent now must not be sent again: its name would be taken.
        self.repeat.end();
        true
    }

    pub(super) fn unprepare(&mut self, id: u64) {
        self.prepared.remove(&id);
    }

    pub(super) fn statement_in_doubt(&self, id: u64) -> bool {
        let under_way = self.prepared.get(&id).and_then(|prepared| prepared.under_way);
        under_way.is_some_and(|request| request != self.doubts.request())
    }

    /// ParseComplete.
    fn parsed(&mut self, id: u64) {
        self.pop();
        if let Some(prepared) = self.prepared.get_mut(&id) {
            prepared.under_way = None;
        }
    }

    /// The client is gone in the middle: what it has set may stay or be rolled back.
    pub fn lose_account(&mut self) {
        if !self.at_rest() {
            self.settings = None;
        }
    }

    /// DISCARD ALL has run.
    pub fn forget_all(&mut self, none: Arc<Settings>) {
        self.forget_names();
        self.settings = Some(none);
    }

    fn forget_names(&mut self) {
        self.prepared.clear();
        self.evicted.clear();
        self.unnamed = None;
    }

    pub(super) fn head_kind(&self) -> Option<Kind> {
        self.owed.front().map(|owed| owed.kind)
    }

    fn pop(&mut self) -> Option<Owed> {
        self.owed.pop_front()
    }

    /// Gives the replies that are due from the router itself.
    fn give_locals(&mut self, out: &mut Out) {
        while let Some(kind @ (Kind::Local(_) | Kind::CopyEnd)) = self.head_kind() {
            self.pop();
            let Kind::Local(local) = kind else { continue };
            if local == Local::Parsed {
                self.doubts.begun.pop_front();
            } else if local.takes_away() {
                self.doubts.gone.pop_front();
            }
            if local == Local::Refused
                && let Some(mut report) = self.refusals.pop_front()
            {
                out.make(|out| out.append(&mut report));
            }
            let status = self.status;
            out.make(|out| local.put(out, status));
        }
    }

    /// After a step over the client's bytes: replies nobody but the router will ever give, and that are waited for.
    pub fn give_overdue(&mut self, out: &mut Out) {
        if matches!(self.head_kind(), Some(Kind::CopyEnd)) {
            self.give_locals(out);
        }
        let alone = self.owed.iter().all(|owed| matches!(owed.kind, Kind::Local(_)));
        let ready = |owed: &Owed| !matches!(owed.kind, Kind::Local(Local::Parsed | Local::Closed));
        if alone && (self.flush_wanted || self.owed.iter().any(ready)) {
            self.give_locals(out);
        }
        self.flush_wanted = false;
    }

    /// What goes to the client (none: it is gone, and all is swallowed), and what was learned from it.
    pub fn take(
        &mut self,
        mut front: Option<&mut Front>,
        shared: &mut Shared,
        input: &[u8],
        out: &mut Out,
    ) -> Result<Told, Desync> {
        let mut told = Told::default();
        let mut at = 0;
        loop {
            if self.remaining > 0 {
                let take = self.remaining.min(input.len() - at);
                if !self.swallow {
                    out.pass(at..at + take);
                }
                self.remaining -= take;
                at += take;
                if self.remaining > 0 {
                    break;
                }
            }
            if !self.owed.is_empty() {
                self.give_locals(out);
            }
            let Some(head) = head(&input[at..])? else { break };
            let ours = self.head_kind().is_some_and(Kind::is_ours);
            let mut keep = front.is_some() && !ours;
            match head.tag {
                // By far the most: rows, and the data of a COPY.
                b'D' | b'd' => {}
                b'C' | b'E' | b'S' | b'Z' | b'N' if head.total <= INSPECT_MAX => {
                    let Some(body) = input.get(at + HEAD..at + head.total) else { break };
                    keep = self.read(head.tag, body, keep, &mut front, shared, &mut told, out)?;
                }
                // Should an error follow, it counts for nothing, and may not come at all.
                b't' if head.total <= INSPECT_MAX && matches!(self.head_kind(), Some(Kind::Describe(1..))) => {
                    let Some(&next) = input.get(at + head.total) else { break };
                    keep &= next != b'E';
                }
                tag => keep = self.count(tag, keep, &mut told.tally)?,
            }
            self.swallow = !keep;
            self.remaining = head.total;
        }
        told.consumed = at;
        Ok(told)
    }

    /// A message whose body tells something; answers whether it goes on to the client.
    #[expect(clippy::too_many_arguments, reason = "one call, in the loop above")]
    fn read(
        &mut self,
        tag: u8,
        body: &[u8],
        keep: bool,
        front: &mut Option<&mut Front>,
        shared: &mut Shared,
        told: &mut Told,
        out: &mut Out,
    ) -> Result<bool, Desync> {
        match tag {
            b'C' => {
                self.complete(body, front.as_deref_mut(), shared, &mut told.tally);
                Ok(keep)
            }
            b'S' => {
                self.note_parameter(body);
                Ok(keep)
            }
            b'N' => Ok(keep),
            // One ReadyForQuery too many would be taken for the answer to somebody else's query.
            b'E' if self.early_sync && field(body, b'R') == Some(b"ProcessInterrupts") => Err(Desync::Interrupted),
            b'E' => {
                let keep = self.error(body, keep, front, shared, told, out);
                let cancelled = field(body, b'C') == Some(b"57014");
                Ok(match self.too_long.take_if(|_| keep && cancelled) {
                    Some(mut report) => {
                        out.make(|out| out.append(&mut report));
                        false
                    }
                    None => keep,
                })
            }
            _ => self.ready(body, keep, front.as_deref_mut(), &mut told.tally),
        }
    }

    /// CommandComplete.
    fn complete(&mut self, tag: &[u8], front: Option<&mut Front>, shared: &mut Shared, tally: &mut Tally) {
        self.rolls_back = tag == b"ROLLBACK\0";
        let Some(owed) = self.owed.front_mut() else { return };
        if owed.kind != Kind::OurQuery {
            tally.complete(tag, std::mem::take(&mut self.copied_in));
            self.worked = true;
        }
        if owed.kind == Kind::Query {
            tally.more += u32::from(self.commands > 0);
            self.commands += 1;
        }
        let is_execute = owed.kind == Kind::Execute;
        let effects = &mut owed.effects;
        let due = if effects.is_empty() {
            None
        } else {
            let answers = |effect: &Effect| match effect {
                Effect::Set { .. } | Effect::SetLocal => tag == b"SET\0",
                // `SET x TO DEFAULT` is one as well.
                Effect::Reset { .. } => tag == b"RESET\0" || tag == b"SET\0",
                Effect::ResetAll => tag == b"RESET\0",
                Effect::DiscardAll => tag == b"DISCARD ALL\0",
                Effect::DeallocateAll => tag == b"DEALLOCATE ALL\0",
                _ => false,
            };
            effects.retain(|effect| {
                let done = Effect::EndsTransaction;
                !matches!(effect, Effect::Pin(_) | Effect::Sequences | Effect::Deallocate { .. }) && *effect != done
            });
            effects.front().is_some_and(answers).then(|| effects.pop_front()).flatten()
        };
        match (due, front) {
            (Some(effect), Some(front)) => self.apply(effect, front, shared),
            // Of a client that is gone: it has changed what nobody keeps account of.
            (Some(effect), None) => {
                self.settings = None;
                if forgets_names(&effect) {
                    self.forget_names();
                }
            }
            (None, _) => {}
        }
        if is_execute {
            self.pop();
        }
        self.still_discarding();
    }

    fn apply(&mut self, effect: Effect, front: &mut Front, shared: &mut Shared) {
        let none = shared.shelf.none();
        if front.before.is_none() && !matches!(effect, Effect::SetLocal | Effect::DeallocateAll) {
            front.before = Some(front.settings.clone());
        }
        let mut servers = |shelf: &mut super::settings::Shelf, name: &str, value: Option<Value>| {
            self.settings = self.settings.take().map(|settings| shelf.with(&settings, name, value));
        };
        match effect {
            Effect::Set { name, statement } => {
                let value = Value::Statement(statement);
                if !front.settings.has_room(&name, &value) {
                    front.pin = front.pin.or(Some("more settings than are carried"));
                    return;
                }
                servers(&mut shared.shelf, &name, Some(value.clone()));
                front.settings = shared.shelf.with(&front.settings, &name, Some(value));
            }
            Effect::Reset { name } => {
                servers(&mut shared.shelf, &name, None);
                // For this client the default is what it started with.
                let startup = front.startup.get(&name).cloned();
                front.settings = shared.shelf.with(&front.settings, &name, startup);
            }
            Effect::ResetAll => {
                self.settings = Some(none);
                front.settings = front.startup.clone();
            }
            Effect::DeallocateAll => {
                self.forget_names();
                front.forget_all();
            }
            Effect::DiscardAll => {
                self.forget_all(none);
                front.forget_all();
                front.settings = front.startup.clone();
                front.pin = None;
            }
            _ => {}
        }
    }

    /// ReadyForQuery.
    fn ready(
        &mut self,
        body: &[u8],
        keep: bool,
        front: Option<&mut Front>,
        tally: &mut Tally,
    ) -> Result<bool, Desync> {
        let (Some(Kind::Query | Kind::Call | Kind::Sync | Kind::OurQuery | Kind::OurSync), &[status]) =
            (self.head_kind(), body)
        else {
            return Err(Desync::Unexpected('Z'));
        };
        if status == b'I' && std::mem::take(&mut self.worked) {
            tally.transactions += 1;
        }
        self.pop();
        self.status = status;
        self.in_copy = false;
        self.early_sync = false;
        self.still_discarding();
        if let Some(front) = front {
            let rolled_back = self.failed || self.rolls_back;
            if status == b'I' {
                if let Some(before) = front.before.take()
                    && rolled_back
                {
                    front.settings = before;
                    // What it had before the client came to it may differ: RESETs are made up for afterwards.
                    self.settings = None;
                }
            } else if self.rolls_back && front.before.is_some() {
                // To a savepoint, and nobody knows whether the SET came before or after it.
                front.pin = front.pin.or(Some("SET and ROLLBACK TO in one transaction"));
            }
        } else if self.failed {
            self.settings = None;
        }
        self.failed = false;
        self.rolls_back = false;
        self.commands = 0;
        Ok(keep)
    }

    /// A message of which only the type counts; answers whether it goes on to the client.
    fn count(&mut self, tag: u8, keep: bool, tally: &mut Tally) -> Result<bool, Desync> {
        let unexpected = Err(Desync::Unexpected(char::from(tag)));
        match (tag, self.head_kind()) {
            // Of a name that was taken: the server had lost it, and nobody knew.
            (b'1', Some(Kind::Parse | Kind::ParseTwice)) => drop(self.pop()),
            (b'1', Some(Kind::OurParse(id))) => self.parsed(id),
            (b'1', Some(Kind::ParseNamed(id))) => {
                self.doubts.begun.pop_front();
                self.parsed(id);
            }
            (b'2', Some(Kind::Bind(_))) => {
                self.repeat.end();
                self.pop();
            }
            (b'3', Some(Kind::Close | Kind::OurClose)) => drop(self.pop()),
            (b'T' | b'n', Some(Kind::Describe(_))) => {
                self.repeat.end();
                self.pop();
            }
            (b'T' | b'n', Some(Kind::DescribePortal)) => drop(self.pop()),
            (b'I' | b's', Some(Kind::Execute)) => drop(self.pop()),
            (b'T' | b'I', Some(Kind::Query | Kind::OurQuery)) | (b't', Some(Kind::Describe(_))) => {}
            (b'V', Some(Kind::Call)) => {
                tally.other += 1;
                self.worked = true;
            }
            (b'G' | b'W', Some(Kind::Query | Kind::Execute)) => self.copy_begins(),
            (b'H', Some(Kind::Query | Kind::Execute)) | (b'c', Some(_)) => {}
            // Out of turn at any time; too long to be looked into.
            (b'A' | b'N' | b'S', _) => {}
            (b'C', Some(Kind::Query | Kind::OurQuery)) | (b'E', Some(Kind::Query | Kind::Call | Kind::Sync)) => {}
            _ => return unexpected,
        }
        Ok(keep)
    }
}

#[cfg(test)]
#[path = "back_tests.rs"]
mod tests;
