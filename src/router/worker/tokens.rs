//! Sessions end with the token that began them: a JWT when it expires, an API key when it is revoked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Worker;
use super::state::{ClientRecord, Ends, Stage};
use crate::router::handover::Lasts;
use crate::router::protocol::error::{Report, SqlState};
use crate::router::tokens::ApiKeys;

/// For what runs when a token expires.
const GRACE: Duration = Duration::from_secs(60);
/// Between looks at all clients.
const LOOK: Duration = Duration::from_secs(1);

impl Worker {
    /// From now on. `None` where that is later than any clock.
    pub(super) fn ends(&self, lasts: Lasts) -> Option<Ends> {
        match lasts {
            Lasts::WhileKey(key) => Some(Ends::WithKey(key)),
            Lasts::For(left) => self.now.checked_add(left).map(Ends::At),
        }
    }

    /// Of a client that has just come: the key that began its session may have been revoked since. Answers whether it was.
    pub(super) fn end_if_over(&mut self, key: usize) -> bool {
        match self.halls.clients[key].ends {
            Some(Ends::At(at)) => {
                self.expiry = Some(self.expiry.map_or(at, |next| next.min(at)));
                false
            }
            Some(Ends::WithKey(_))
                if self.keys.as_ref().is_some_and(|keys| lacks_key(&self.halls.clients[key], keys)) =>
            {
                self.client_leaves(key, &revoked());
                true
            }
            _ => false,
        }
    }

    /// Some may have been revoked: their sessions end at once, as those of a tenant that is suspended.
    pub(super) fn keys_change(&mut self, keys: Arc<ApiKeys>) {
        let clients = self.halls.clients.iter();
        let over: Vec<usize> = clients.filter(|(_, client)| lacks_key(client, &keys)).map(|(key, _)| key).collect();
        for key in over {
            self.client_leaves(key, &revoked());
        }
        self.keys = Some(keys);
    }

    /// Sessions at rest end with their token, the others when they come to rest, or after [`GRACE`].
    pub(super) fn end_expired(&mut self) {
        let (now, mut next, mut over) = (self.now, None::<Instant>, Vec::new());
        for (key, client) in &self.halls.clients {
            let Some(Ends::At(at)) = client.ends.filter(|_| is_here(client)) else { continue };
            let works = client.server.is_some_and(|server| !self.halls.servers[server].back.at_rest());
            if at <= now && (!works || now.duration_since(at) >= GRACE) {
                over.push(key);
            } else {
                next = Some(next.map_or(at, |next| next.min(at)));
            }
        }
        self.expiry = next.map(|at| at.max(now + LOOK));
        for key in over {
            self.client_leaves(key, &expired());
        }
    }
}

fn is_here(client: &ClientRecord) -> bool {
    !matches!(client.stage, Stage::Gone | Stage::Leaving)
}

fn lacks_key(client: &ClientRecord, keys: &ApiKeys) -> bool {
    matches!(client.ends, Some(Ends::WithKey(key)) if !keys.contains_key(&key)) && is_here(client)
}

/// Pools know this code, and connect again.
fn expired() -> Report<'static> {
    Report::fatal(SqlState::ADMIN_SHUTDOWN, "the token that began this session has expired")
        .hint("Connect again with a new token.")
}

fn revoked() -> Report<'static> {
    Report::fatal(SqlState::INVALID_AUTHORIZATION, "the API key that began this session was revoked")
        .hint("Connect again with another key: o7s key create.")
}
