//! The names a client has given to its statements; servers know others. A name that was taken away comes back should the
//! server have skipped the message that took it.

use std::collections::HashMap;
use std::sync::Arc;

use super::back::Back;
use super::frame::{HEAD, Out, put, split_nul};
use super::front::{Broken, Front};
use super::message::kind_and_name;
use super::replies::Local;
use super::sql::Effect;
use super::statements::{OURS, Statement};

/// Names a client may hold, and the bytes of their texts.
const NAMES_MAX: usize = 16 * 1024;
const NAMES_BYTES_MAX: usize = 16 * 1024 * 1024;

pub(super) type Named = (Box<[u8]>, Arc<Statement>);

#[derive(Debug, Default)]
pub(super) struct Rare {
    names: HashMap<Box<[u8]>, Arc<Statement>>,
    bytes: usize,
    pub unnamed: Option<Box<Unnamed>>,
    /// Open portals whose statements have an effect.
    pub portals: HashMap<Box<[u8]>, Vec<Effect>>,
}

#[derive(Debug, Default)]
pub(super) struct Unnamed {
    /// Its Parse message.
    pub message: Vec<u8>,
    pub effects: Vec<Effect>,
    pub bound: bool,
}

impl Rare {
    pub fn get(&self, name: &[u8]) -> Option<&Arc<Statement>> {
        self.names.get(name)
    }

    /// What falls due when the portal is executed.
    pub fn effects_of_portal(&self, portal: &[u8]) -> &[Effect] {
        self.portals.get(portal).map_or(&[], Vec::as_slice)
    }

    /// Of a prepared statement; the unnamed one has an empty name.
    pub fn text_of(&self, name: &[u8]) -> Option<&[u8]> {
        if name.is_empty() {
            let (_, body) = split_nul(self.unnamed.as_ref()?.message.get(HEAD..)?)?;
            return split_nul(body).map(|(text, _)| text);
        }
        self.get(name).map(|statement| statement.text())
    }

    /// Whether one more with a text of so many bytes may come.
    pub fn has_room(&self, name: &[u8], bytes: usize) -> bool {
        self.names.len() < NAMES_MAX && self.bytes + bytes + name.len() <= NAMES_BYTES_MAX
    }

    pub fn give(&mut self, (name, statement): Named) {
        self.bytes += statement.bytes() + name.len();
        self.names.insert(name, statement);
    }
}

impl Front {
    /// The statement with this id, and what this client calls it.
    pub(super) fn named(&self, id: u64) -> Option<(&[u8], &Arc<Statement>)> {
        let names = &self.rare.as_ref()?.names;
        names.iter().find(|(_, statement)| statement.id == id).map(|(name, statement)| (&**name, statement))
    }

    pub(super) fn forget(&mut self, name: &[u8]) -> Option<Named> {
        let rare = self.rare.as_mut()?;
        let (name, statement) = rare.names.remove_entry(name)?;
        rare.bytes -= statement.bytes() + name.len();
        Some((name, statement))
    }

    pub(super) fn close_without_server(&mut self, body: &[u8], to_client: &mut Out) -> Result<bool, Broken> {
        let (kind, name) = kind_and_name(body)?;
        if kind == b'S' && name.is_empty() {
            self.forget_unnamed();
        } else if kind == b'S' {
            self.forget(name);
        }
        // No portal outlives its transaction, so closing one that is not there is all there is to do.
        to_client.make(|out| put(out, b'3', |_| {}));
        Ok(true)
    }

    pub(super) fn forget_unnamed(&mut self) {
        if let Some(rare) = &mut self.rare {
            rare.unnamed = None;
        }
    }

    /// The next message replaces the unnamed statement. Yields the one it replaces where an error of what was sent before could
    /// have the server skip that message.
    pub(super) fn replace_unnamed(&mut self, back: &Back) -> Option<Box<Unnamed>> {
        if back.segment && !back.skipping { self.rare.as_mut()?.unnamed.take() } else { None }
    }

    pub(super) fn forget_all(&mut self) -> Vec<Named> {
        let Some(rare) = &mut self.rare else { return Vec::new() };
        rare.bytes = 0;
        rare.unnamed = None;
        std::mem::take(&mut rare.names).into_iter().collect()
    }

    /// They were not taken away after all.
    pub(super) fn restore(&mut self, names: Vec<Named>) {
        let rare = self.rare.get_or_insert_default();
        names.into_iter().for_each(|named| rare.give(named));
    }

    /// The reply to a statement that concerns only names the router keeps, and those that are gone then.
    pub(super) fn answers(&mut self, effect: &Effect) -> Option<(Local, Vec<Named>)> {
        match effect {
            // What PREPARE has made is no name that is known here.
            Effect::Deallocate { name } => Some((Local::Deallocated, vec![self.forget(name)?])),
            _ if self.pin.is_some() => None,
            Effect::DeallocateAll => Some((Local::DeallocatedAll, self.forget_all())),
            Effect::DiscardAll => Some((Local::Discarded, self.forget_all())),
            _ => None,
        }
    }

    /// What the name means is known when the server has answered an earlier request.
    pub(super) fn in_doubt(&self, name: &[u8], back: &Back) -> bool {
        if self.session || back.skipping || !back.owes() {
            return false;
        }
        let known = self.rare.as_ref().and_then(|rare| rare.get(name));
        known.is_some_and(|statement| back.statement_in_doubt(statement.id)) || back.name_in_doubt(name)
    }
}

/// A name of the client's that no statement of its has, as it may go to a server: another client's has such a name there.
pub(super) fn estranged(name: &[u8]) -> Option<Vec<u8>> {
    name.starts_with(OURS).then(|| [OURS, name].concat())
}
