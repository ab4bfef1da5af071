//! The client's side of a session, as long as it has a server connection and between two of them: which of its messages
//! go on as they are, which are rewritten, which the router answers itself.

use std::sync::Arc;

use super::back::Back;
use super::frame::{HEAD, INSPECT_MAX, Out, head, put, split_nul};
use super::leave::{Leave, Weighed};
pub use super::message::Broken;
use super::message::{Message, Passed, kind_and_name, length};
use super::names::{Rare, estranged};
use super::replies::{Kind, Local};
use super::settings::{Settings, Shelf};
use super::sql::{self, Effect};
use super::statements::{Book, Statement};

/// An unnamed statement up to this size is kept although it was bound, should it be bound again on another server.
const UNNAMED_KEPT: usize = 1024;
/// Replies owed before no more is taken from the client.
pub const OWED_MAX: usize = 4096;

/// Shared by all sessions of a worker.
#[derive(Debug, Default)]
pub struct Shared {
    pub book: Book,
    pub shelf: Shelf,
}

#[derive(Debug)]
pub struct Front {
    pub id: u64,
    /// The client keeps its server connection, and its names are its own business.
    pub session: bool,
    /// Why the client keeps its server connection although it pools transactions.
    pub pin: Option<&'static str>,
    /// Executes of this transaction that were let through above the ceiling.
    pub(super) unpaid: u8,
    /// Bytes of the current message that are still to come.
    remaining: usize,
    /// They go nowhere.
    pub(super) swallow: bool,
    pub settings: Arc<Settings>,
    pub startup: Arc<Settings>,
    /// Those to go back to should the transaction roll back; `None` where it set nothing.
    pub(super) before: Option<Arc<Settings>>,
    unnamed_turn: u32,
    /// The router has answered an error in a server's place: the rest up to the next Sync, or one Query, is ignored.
    pub(super) refused: bool,
    /// What few clients need.
    pub(super) rare: Option<Box<Rare>>,
}

/// Why a step over the client's bytes ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// All that can be used is used; more must come from the client.
    Input,
    /// The next message begins a transaction: it needs a server connection, and leave to begin.
    Begin,
    /// Enough is under way; go on when replies have come.
    Full,
    /// The next message is a query too many, or one that there is no room for.
    Queries,
    Storage,
    /// The client says goodbye.
    Terminate,
}

/// What a name stands for at the server.
enum Meant {
    Shared(Arc<Statement>),
    /// Nothing, and under this name it is nothing for sure.
    Nothing(Vec<u8>),
}

impl Meant {
    /// The statement's id (0 is none) and its name there.
    fn servers(&self) -> (u64, &[u8]) {
        match self {
            Meant::Shared(statement) => (statement.id, &statement.name),
            Meant::Nothing(name) => (0, name),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Bytes of the input that are dealt with.
    pub consumed: usize,
    pub stop: Stop,
    /// Queries that were started: one for each Query, Execute and FunctionCall.
    pub queries: u32,
    /// Of those, the ones that are charged.
    pub charged: u64,
}

impl Front {
    pub fn new(id: u64, session: bool, startup: Arc<Settings>) -> Front {
        Front {
            id,
            session,
            pin: None,
            unpaid: 0,
            remaining: 0,
            swallow: false,
            settings: startup.clone(),
            startup,
            before: None,
            unnamed_turn: 0,
            refused: false,
            rare: None,
        }
    }

    /// The router has sent an ErrorResponse for what the client asked and no server connection has seen.
    pub fn refuse(&mut self) {
        self.refused = true;
    }

    /// The client has begun a message and not ended it.
    pub fn inside_a_message(&self) -> bool {
        self.remaining > 0
    }

    /// It keeps its server connection between transactions.
    pub fn keeps_server(&self) -> bool {
        self.session || self.pin.is_some()
    }

    /// Lets go of what an idle session has no need for.
    pub fn rest(&mut self) {
        if let Some(rare) = &mut self.rare {
            if rare.unnamed.as_ref().is_some_and(|unnamed| unnamed.bound && unnamed.message.len() > UNNAMED_KEPT) {
                rare.unnamed = None;
            }
            rare.portals.clear();
        }
    }

    /// Passes on what is left of the current message; answers how many bytes it took.
    fn pass_rest(&mut self, at: usize, input: &[u8], out: &mut Out) -> usize {
        let take = self.remaining.min(input.len() - at);
        if !self.swallow {
            out.pass(at..at + take);
        }
        self.remaining -= take;
        at + take
    }

    /// Without a server connection: answers what needs none, up to the first message that does.
    pub fn without_server(&mut self, input: &[u8], to_client: &mut Out) -> Result<Step, Broken> {
        let mut at = 0;
        let step = |consumed, stop| Ok(Step { consumed, stop, queries: 0, charged: 0 });
        loop {
            if self.remaining > 0 {
                self.swallow = true;
                at = self.pass_rest(at, input, to_client);
                if self.remaining > 0 {
                    return step(at, Stop::Input);
                }
            }
            let Some(head) = head(&input[at..])? else { return step(at, Stop::Input) };
            match head.tag {
                b'S' => {
                    self.refused = false;
                    to_client.make(|out| put(out, b'Z', |out| out.push(b'I')));
                    at += HEAD;
                    self.remaining = head.total - HEAD;
                }
                b'Q' | b'F' if self.refused => {
                    self.refused = false;
                    to_client.make(|out| put(out, b'Z', |out| out.push(b'I')));
                    at += HEAD;
                    self.remaining = head.total - HEAD;
                }
                b'P' | b'B' | b'D' | b'E' | b'C' if self.refused => {
                    at += HEAD;
                    self.remaining = head.total - HEAD;
                }
                // The tail of a COPY that has failed, or a Flush with nothing to flush.
                b'd' | b'c' | b'f' | b'H' => {
                    at += HEAD;
                    self.remaining = head.total - HEAD;
                }
                b'X' => return step(at, Stop::Terminate),
                b'C' | b'Q' if head.total <= INSPECT_MAX && !self.session => {
                    let Some(message) = input.get(at..at + head.total) else { return step(at, Stop::Input) };
                    let answered = match head.tag {
                        b'C' => self.close_without_server(&message[HEAD..], to_client)?,
                        _ => self.query_without_server(&message[HEAD..], to_client)?,
                    };
                    if !answered {
                        return step(at, Stop::Begin);
                    }
                    at += head.total;
                }
                // A server connection is not taken for a message that is not there yet, unless it is a long one.
                b'Q' | b'P' | b'B' | b'D' | b'E' | b'C' | b'F' if input.len() - at < head.total.min(INSPECT_MAX) => {
                    return step(at, Stop::Input);
                }
                b'Q' | b'P' | b'B' | b'D' | b'E' | b'C' | b'F' => return step(at, Stop::Begin),
                tag => return Err(Broken::Tag(tag)),
            }
        }
    }

    fn query_without_server(&mut self, body: &[u8], to_client: &mut Out) -> Result<bool, Broken> {
        let (text, _) = split_nul(body).ok_or(Broken::Format)?;
        // Only these two words are answered here; do not read every query twice.
        if !text.first().is_some_and(|byte| matches!(byte | 0x20, b'd' | b' ' | b'\n' | b'/' | b'-')) {
            return Ok(false);
        }
        let effects = sql::effects(text);
        let local = match effects.list.as_slice() {
            [effect] if effects.single => self.answers(effect),
            _ => None,
        };
        let Some((local, _gone)) = local else { return Ok(false) };
        if local == Local::Discarded {
            self.settings = self.startup.clone();
        }
        to_client.make(|out| local.put(out, b'I'));
        Ok(true)
    }

    /// With a server connection: what goes to it, in order, as far as `leave` goes.
    #[expect(clippy::too_many_lines, reason = "one loop over the messages, with a line for each kind")]
    pub fn with_server(
        &mut self,
        back: &mut Back,
        leave: Leave,
        shared: &mut Shared,
        input: &[u8],
        to_server: &mut Out,
    ) -> Result<Step, Broken> {
        let mut at = 0;
        let (mut queries, mut charged) = (0, 0);
        let mut kept_from = to_server.bytes();
        let stop = loop {
            if self.remaining > 0 {
                at = self.pass_rest(at, input, to_server);
                if self.remaining > 0 {
                    break Stop::Input;
                }
            }
            let Some(head) = head(&input[at..])? else { break Stop::Input };
            if self.refused
                && let Some(stop) = self.after_refusal(back, head.tag, to_server)
            {
                if stop == Stop::Terminate {
                    break stop;
                }
                at += HEAD;
                self.remaining = head.total - HEAD;
                continue;
            }
            if back.at_rest() && !leave.begin && !matches!(head.tag, b'X' | b'S' | b'H' | b'd' | b'c' | b'f') {
                break Stop::Begin;
            }
            if back.must_answer_first(head.tag, to_server) {
                break Stop::Full;
            }
            if matches!(head.tag, b'B' | b'D') && !self.session && back.begins_a_request() {
                kept_from = to_server.bytes();
                back.begin_to_keep();
            }
            self.swallow = false;
            let message = Message { at, total: head.total, input };
            let weighed = self.weigh(back, leave, charged, head.tag, &message)?;
            if let Weighed::Over(stop) = weighed {
                break stop;
            }
            let passed = match head.tag {
                b'X' => break Stop::Terminate,
                b'Q' => self.query(back, &message, to_server)?,
                b'P' => self.parse(back, shared, &message, to_server)?,
                b'B' => self.bind(back, &message, to_server)?,
                b'D' => self.describe(back, &message, to_server)?,
                b'C' => self.close(back, &message)?,
                b'E' => self.execute(back, &message)?,
                b'S' => {
                    if !back.in_copy {
                        back.synced();
                    }
                    Passed::Whole
                }
                b'H' => {
                    back.flush_wanted = true;
                    Passed::Whole
                }
                b'd' => Passed::Whole,
                b'c' | b'f' => {
                    back.copy_ends();
                    Passed::Whole
                }
                b'F' => {
                    back.owe(Kind::Call);
                    Passed::Whole
                }
                tag => return Err(Broken::Tag(tag)),
            };
            let taken = match passed {
                Passed::Short => break Stop::Input,
                Passed::Later => break Stop::Full,
                Passed::Whole => {
                    to_server.pass(at..at + HEAD);
                    HEAD
                }
                Passed::Instead { taken } => taken,
            };
            queries += u32::from(matches!(head.tag, b'Q' | b'E' | b'F'));
            charged += u64::from(weighed == Weighed::Charged);
            at += taken;
            self.remaining = head.total - taken;
        };
        back.keep(to_server, kept_from, input);
        Ok(Step { consumed: at, stop, queries, charged })
    }

    fn query(&mut self, back: &mut Back, message: &Message<'_>, out: &mut Out) -> Result<Passed, Broken> {
        back.unnamed = None;
        if self.session {
            back.owe(Kind::Query);
            return Ok(Passed::Whole);
        }
        if message.total > INSPECT_MAX {
            self.pin = self.pin.or(Some("a query too long to look through"));
            back.owe(Kind::Query);
            return Ok(Passed::Whole);
        }
        let Some(body) = message.body() else { return Ok(Passed::Short) };
        let (text, after) = split_nul(body).ok_or(Broken::Format)?;
        if !after.is_empty() {
            return Err(Broken::Format);
        }
        self.doubt(back, text);
        let effects = sql::effects(text);
        let takes_away = matches!(effects.list.as_slice(), [Effect::Deallocate { .. } | Effect::DeallocateAll]);
        if takes_away && back.any_in_doubt() {
            return Ok(Passed::Later);
        }
        let before = self.replace_unnamed(back);
        if !back.skipping {
            self.forget_unnamed();
        }
        if let ([effect], true, true) = (effects.list.as_slice(), effects.single, back.status != b'E')
            && !matches!(effect, Effect::DiscardAll)
            && !back.skipping
            && let Some((local, gone)) = self.answers(effect)
        {
            back.owe_gone(local, gone);
            back.replaces_unnamed(before);
            self.swallow = true;
            return Ok(Passed::Instead { taken: HEAD });
        }
        self.before_effects(&effects.list, back, out);
        let ends = effects.list == [Effect::EndsTransaction];
        back.owed_with(Kind::Query, if ends { Vec::new() } else { effects.list });
        back.replaces_unnamed(before);
        Ok(Passed::Whole)
    }

    /// What must be so before a statement with these effects runs.
    fn before_effects(&mut self, effects: &[Effect], back: &mut Back, out: &mut Out) {
        for effect in effects {
            match effect {
                Effect::Pin(why) => self.pin = self.pin.or(Some(why)),
                Effect::Deallocate { .. } | Effect::DeallocateAll => self.pin = self.pin.or(Some("DEALLOCATE")),
                Effect::Sequences if self.pin.is_none() => {
                    self.pin = Some("currval or lastval");
                    // What another client left must not be read.
                    if back.at_rest() && back.last_front != self.id {
                        out.make(|out| put(out, b'Q', |out| out.extend_from_slice(b"DISCARD SEQUENCES\0")));
                        back.owe(Kind::OurQuery);
                    }
                }
                _ => {}
            }
        }
    }

    fn parse(
        &mut self,
        back: &mut Back,
        shared: &mut Shared,
        message: &Message<'_>,
        out: &mut Out,
    ) -> Result<Passed, Broken> {
        if self.session || message.total > INSPECT_MAX {
            if !self.session {
                self.pin = self.pin.or(Some("a statement too long to look through"));
            }
            back.owe(Kind::Parse);
            return Ok(Passed::Whole);
        }
        let Some(body) = message.body() else { return Ok(Passed::Short) };
        let (name, rest) = split_nul(body).ok_or(Broken::Format)?;
        let (text, _) = split_nul(rest).ok_or(Broken::Format)?;
        if back.skipping {
            return Ok(Passed::Whole);
        }
        self.doubt(back, text);
        if name.is_empty() {
            self.unnamed_turn = self.unnamed_turn.wrapping_add(1);
            back.unnamed = Some((self.id, self.unnamed_turn));
            let effects = sql::effects(text).list;
            let before = self.replace_unnamed(back);
            let unnamed = self.rare.get_or_insert_default().unnamed.get_or_insert_default();
            unnamed.message.clear();
            unnamed.message.extend_from_slice(message.bytes());
            unnamed.effects = effects;
            unnamed.bound = false;
            back.owe(Kind::Parse);
            back.replaces_unnamed(before);
            return Ok(Passed::Whole);
        }
        if self.in_doubt(name, back) {
            return Ok(Passed::Later);
        }
        let rare = self.rare.get_or_insert_default();
        if let Some(statement) = rare.get(name) {
            // Postgres shall say that the name is taken, in its own words and with its consequences.
            let statement = statement.clone();
            if back.prepare(&statement) {
                out.make(|out| statement.put_parse(out));
                back.owe(Kind::OurParse(statement.id));
            }
            out.make(|out| statement.put_parse(out));
            back.owe_twice(name, &statement.name);
        } else {
            if !rare.has_room(name, rest.len()) {
                return Err(Broken::Statements);
            }
            let Some(statement) = shared.book.intern(self.settings.id, rest) else {
                self.pin = self.pin.or(Some("no room for another prepared statement"));
                back.owe(Kind::Parse);
                return Ok(Passed::Whole);
            };
            rare.give((name.into(), statement.clone()));
            if back.prepare(&statement) {
                out.make(|out| statement.put_parse(out));
                back.owe_named(Kind::ParseNamed(statement.id), name);
            } else {
                back.owe_named(Kind::Local(Local::Parsed), name);
            }
        }
        self.swallow = true;
        Ok(Passed::Instead { taken: HEAD })
    }

    /// Sees to it that the server connection has the statement behind `name`; answers what it calls it, where that is not
    /// the client's name.
    fn resolve(&mut self, name: &[u8], back: &mut Back, out: &mut Out) -> Option<Meant> {
        if self.session || back.skipping {
            return None;
        }
        if name.is_empty() {
            if back.unnamed != Some((self.id, self.unnamed_turn)) {
                match self.rare.as_ref().and_then(|rare| rare.unnamed.as_ref()) {
                    Some(unnamed) => {
                        out.make(|out| out.extend_from_slice(&unnamed.message));
                        back.owe(Kind::OurParse(0));
                        back.unnamed = Some((self.id, self.unnamed_turn));
                    }
                    // Nothing of this client's: Postgres shall say so, and not find another client's.
                    None => {
                        out.make(|out| put(out, b'C', |out| out.extend_from_slice(b"S\0")));
                        back.owe(Kind::OurClose);
                        back.unnamed = None;
                    }
                }
            }
            return None;
        }
        let Some(statement) = self.rare.as_ref().and_then(|rare| rare.get(name)).cloned() else {
            return estranged(name).map(Meant::Nothing);
        };
        if back.prepare(&statement) {
            out.make(|out| statement.put_parse(out));
            back.owe(Kind::OurParse(statement.id));
        }
        Some(Meant::Shared(statement))
    }

    fn bind(&mut self, back: &mut Back, message: &Message<'_>, out: &mut Out) -> Result<Passed, Broken> {
        let Some((portal, name)) = message.two_names()? else { return Ok(Passed::Short) };
        if self.session {
            back.owe(Kind::Bind(0));
            return Ok(Passed::Whole);
        }
        if self.in_doubt(name, back) {
            return Ok(Passed::Later);
        }
        self.effects_of(name, portal, back, out);
        let Some(meant) = self.resolve(name, back, out) else {
            back.owe(Kind::Bind(0));
            return Ok(Passed::Whole);
        };
        let (id, servers) = meant.servers();
        let taken = HEAD + portal.len() + 1 + name.len() + 1;
        let total = message.total - name.len() + servers.len();
        out.make(|out| {
            out.push(b'B');
            out.extend_from_slice(&length(total));
            out.extend_from_slice(portal);
            out.push(0);
            out.extend_from_slice(servers);
            out.push(0);
        });
        back.owe(Kind::Bind(id));
        Ok(Passed::Instead { taken })
    }

    /// The effects of the statement behind `name` fall due when `portal` is executed.
    fn effects_of(&mut self, name: &[u8], portal: &[u8], back: &mut Back, out: &mut Out) {
        let Some(rare) = &mut self.rare else { return };
        let effects = if name.is_empty() {
            let Some(unnamed) = &mut rare.unnamed else { return };
            unnamed.bound = true;
            &unnamed.effects
        } else {
            let Some(statement) = rare.get(name) else { return };
            &statement.effects
        };
        if effects.is_empty() {
            if !rare.portals.is_empty() {
                rare.portals.remove(portal);
            }
            return;
        }
        let effects = effects.clone();
        rare.portals.insert(portal.into(), effects.clone());
        self.before_effects(&effects, back, out);
    }

    fn describe(&mut self, back: &mut Back, message: &Message<'_>, out: &mut Out) -> Result<Passed, Broken> {
        let Some(body) = message.small_body()? else { return Ok(Passed::Short) };
        let (kind, name) = kind_and_name(body)?;
        if kind != b'S' {
            back.owe(Kind::DescribePortal);
            return Ok(Passed::Whole);
        }
        if self.in_doubt(name, back) {
            return Ok(Passed::Later);
        }
        let meant = self.resolve(name, back, out);
        let (id, servers) = meant.as_ref().map_or((0, name), Meant::servers);
        back.owe(Kind::Describe(id));
        if meant.is_none() {
            return Ok(Passed::Whole);
        }
        out.make(|out| {
            put(out, b'D', |out| {
                out.push(b'S');
                out.extend_from_slice(servers);
                out.push(0);
            });
        });
        Ok(Passed::Instead { taken: message.total })
    }

    fn close(&mut self, back: &mut Back, message: &Message<'_>) -> Result<Passed, Broken> {
        let Some(body) = message.small_body()? else { return Ok(Passed::Short) };
        let (kind, name) = kind_and_name(body)?;
        if kind == b'S' && !name.is_empty() && !self.session && !back.skipping {
            if self.in_doubt(name, back) {
                return Ok(Passed::Later);
            }
            let gone = self.forget(name);
            if gone.is_some() || estranged(name).is_some() {
                back.owe_gone(Local::Closed, gone.into_iter().collect());
                return Ok(Passed::Instead { taken: message.total });
            }
        }
        let unnamed = kind == b'S' && name.is_empty() && !back.skipping;
        let before = if unnamed { self.replace_unnamed(back) } else { None };
        back.owe(Kind::Close);
        if unnamed {
            self.forget_unnamed();
            back.unnamed = None;
            back.replaces_unnamed(before);
        }
        Ok(Passed::Whole)
    }

    fn execute(&mut self, back: &mut Back, message: &Message<'_>) -> Result<Passed, Broken> {
        let effects = match &mut self.rare {
            Some(rare) if !rare.portals.is_empty() => {
                let Some(body) = message.small_body()? else { return Ok(Passed::Short) };
                let (portal, _) = split_nul(body).ok_or(Broken::Format)?;
                rare.portals.remove(portal).unwrap_or_default()
            }
            _ => Vec::new(),
        };
        back.owed_with(Kind::Execute, effects);
        Ok(Passed::Whole)
    }
}
