//! Clients: taken over from their login, greeted, served, let go.

use std::time::{Duration, Instant};

use mio::Interest;

use super::outside::{CancelRequest, ServerId};
use super::socket::{Got, Socket};
use super::state::{ClientRecord, Duty, Slot, Stage};
use super::team::{CLIENT_BITS, NUMBER_MAX};
use super::{BUFFER, READS_MAX, Worker};
use crate::manifest::Pooling;
use crate::router::handover::Client;
use crate::router::protocol::error::{Report, SqlState};
use crate::router::protocol::frame::put;
use crate::router::protocol::front::{Broken, Front, Step, Stop};

pub(super) const BOTH: Interest = Interest::READABLE.add(Interest::WRITABLE);
/// A client that closed its side may still read the last answer; longer than this nobody waits for it.
const ENDED_GRACE: Duration = Duration::from_millis(500);

impl Worker {
    pub(super) fn adopt(&mut self, client: Client) {
        let Client { stream, tls, received, unsent, session } = client;
        let tenant = self.tenant_for(&session.entry);
        let pool = self.pool_for(tenant, &session.role, session.replication.as_deref(), &session.proof);
        let startup = self.shared.shelf.startup(&session.settings);
        let own_server = session.pooling == Pooling::Session || session.replication.is_some();
        let mut secret = vec![0; if session.minor >= 2 { 32 } else { 4 }].into_boxed_slice();
        self.outside.random(&mut secret);
        let tls = tls.map(|tls| Box::new(rustls::Connection::Server(*tls)));
        let record = ClientRecord {
            socket: Socket::new(stream, tls),
            input: received,
            front: Front::new(session.id, own_server, startup),
            stage: Stage::Greeting,
            server: None,
            waiting: None,
            told_to_wait: false,
            fed: false,
            preparing: false,
            ended: None,
            pool,
            entry: session.entry,
            role: session.role,
            peer: session.peer,
            number: 0,
            secret,
            admitted: false,
            held_up: false,
            held_since: None,
            leave: 0,
            proof: session.proof,
            ends: session.lasts.and_then(|lasts| self.ends(lasts)),
        };
        let Some(key) = self.seat(record) else { return };
        let number = self.team.next_number();
        self.halls.numbers.insert(number, key);
        self.halls.clients[key].number = number;
        if !self.end_if_over(key) {
            self.come_in(key, unsent);
        }
    }

    /// Gives a client its place here and its socket to epoll.
    pub(super) fn seat(&mut self, record: ClientRecord) -> Option<usize> {
        let pool = record.pool;
        let key = self.halls.clients.insert(record);
        let client = &mut self.halls.clients[key];
        let registered = self.poll.registry().register(client.socket.source(), Slot::Client(key).token(), BOTH);
        if let Err(error) = registered {
            tracing::error!(%error, "epoll takes no more connections");
        } else {
            self.halls.pools[pool].clients += 1;
            return Some(key);
        }
        self.halls.clients.remove(key);
        None
    }

    /// Ends the login: parameters, cancel key, ReadyForQuery. `unsent` is what is still owed of it.
    pub(super) fn greet(&mut self, key: usize, unsent: &[u8]) {
        let client = &self.halls.clients[key];
        let greeting = self.halls.pools[client.pool].greetings.get(&client.front.settings.id).cloned();
        if let Some(greeting) = greeting {
            return self.send_greeting(key, unsent, &greeting);
        }
        // Only a server connection knows what the session's parameters are, or that one of them is refused.
        if !unsent.is_empty() {
            self.write_client(key, unsent);
        }
        if self.halls.clients.get(key).is_some_and(|client| client.stage == Stage::Greeting) && self.acquire(key) {
            self.greet_from_server(key);
        }
    }

    /// With a server connection: its parameters under the client's settings.
    pub(super) fn greet_from_server(&mut self, key: usize) {
        let Some(server) = self.halls.clients[key].server else { return };
        if !self.begin(key, server) {
            return;
        }
        let mut greeting = Vec::new();
        self.halls.servers[server].back.put_parameters(&mut greeting);
        let client = &self.halls.clients[key];
        let (settings, pool) = (client.front.settings.id, client.pool);
        let greetings = &mut self.halls.pools[pool].greetings;
        if greetings.len() >= 256 {
            greetings.clear();
        }
        greetings.insert(settings, greeting.as_slice().into());
        self.send_greeting(key, &[], &greeting);
        self.server_rests(server);
    }

    fn send_greeting(&mut self, key: usize, unsent: &[u8], greeting: &[u8]) {
        let client = &mut self.halls.clients[key];
        client.stage = Stage::Open;
        let process = u32::from(self.timing.replica) << CLIENT_BITS | client.number;
        let mut bytes = Vec::with_capacity(unsent.len() + greeting.len() + 64);
        bytes.extend_from_slice(unsent);
        bytes.extend_from_slice(greeting);
        put(&mut bytes, b'K', |out| {
            out.extend_from_slice(&process.to_be_bytes());
            out.extend_from_slice(&client.secret);
        });
        put(&mut bytes, b'Z', |out| out.push(b'I'));
        self.write_client(key, &bytes);
        if self.draining.is_some() {
            return self.client_leaves(key, &shutting_down());
        }
        self.client_readable(key);
    }

    pub(super) fn client_readable(&mut self, key: usize) {
        let mut full = false;
        for _ in 0..READS_MAX {
            let Some(client) = self.halls.clients.get_mut(key) else { return };
            match client.stage {
                Stage::Open => {}
                // At the door; nobody needs the slot it waits for.
                Stage::Greeting if client.held_up && client.socket.hung_up() => return self.client_gone(key),
                // Its goodbye is not written yet, or it is not yet greeted.
                Stage::Greeting | Stage::Leaving | Stage::Gone => return,
            }
            if !client.socket.readable || !self.client_may_read(key) {
                return;
            }
            if self.buffer.is_empty() {
                // In use by whoever called; this one's turn comes next.
                break;
            }
            let mut buffer = std::mem::take(&mut self.buffer);
            let client = &mut self.halls.clients[key];
            match client.socket.read(&mut buffer) {
                Ok(Got::Bytes(n)) => {
                    full = n == BUFFER;
                    self.halls.tenant_of_pool(self.halls_pool(key)).counts.bytes_in += n as u64;
                    let client = &mut self.halls.clients[key];
                    if client.input.is_empty() {
                        let used = self.feed(key, &buffer[..n]);
                        if let Some(client) = self.halls.clients.get_mut(key) {
                            client.input.extend_from_slice(&buffer[used..n]);
                        }
                    } else {
                        client.input.extend_from_slice(&buffer[..n]);
                        self.advance(key);
                    }
                }
                Ok(Got::Nothing) => {}
                Ok(Got::End) => {
                    client.ended = Some(self.now);
                    self.client_ended(key);
                }
                Err(_) => self.client_gone(key),
            }
            self.buffer = buffer;
            if full {
                break;
            }
        }
        if self.halls.clients.get(key).is_some_and(|client| client.socket.readable && client.stage == Stage::Open) {
            self.turns.add(Slot::Client(key));
        }
    }

    fn halls_pool(&self, key: usize) -> usize {
        self.halls.clients[key].pool
    }

    /// What it sends next can be used, or at least kept.
    fn client_may_read(&self, key: usize) -> bool {
        let client = &self.halls.clients[key];
        let server_takes = client.server.is_none_or(|server| !self.halls.servers[server].socket.blocked());
        let idle = client.waiting.is_none() && !client.preparing && !client.held_up && client.ended.is_none();
        idle && server_takes && !client.socket.blocked() && client.input.len() < BUFFER
    }

    /// Goes on with what was received and could not be used before.
    pub(super) fn advance(&mut self, key: usize) {
        let Some(client) = self.halls.clients.get_mut(key) else { return };
        if !client.input.is_empty() {
            let input = std::mem::take(&mut client.input);
            let used = self.feed(key, &input);
            let Some(client) = self.halls.clients.get_mut(key) else { return };
            if used < input.len() {
                client.input = input;
                client.input.drain(..used);
            }
            if client.ended.is_some() {
                return self.client_ended(key);
            }
        } else if client.ended.is_some() {
            return self.client_ended(key);
        }
        if self.halls.clients.get(key).is_some_and(|client| client.socket.readable && client.stage == Stage::Open) {
            self.turns.add(Slot::Client(key));
        }
    }

    /// The session machine over `bytes`; answers how many of them are dealt with.
    fn feed(&mut self, key: usize, bytes: &[u8]) -> usize {
        self.halls.clients[key].fed = true;
        let used = self.feed_on(key, bytes);
        self.halls.clients[key].fed = false;
        used
    }

    #[expect(clippy::too_many_lines, reason = "one loop: what a step ends with decides on the next")]
    fn feed_on(&mut self, key: usize, bytes: &[u8]) -> usize {
        let mut at = 0;
        let mut granted = false;
        loop {
            let client = &mut self.halls.clients[key];
            if client.stage != Stage::Open || client.waiting.is_some() || client.preparing || client.held_up {
                return at;
            }
            let rest = &bytes[at..];
            let Some(server) = client.server else {
                self.to_client.clear();
                let step = match client.front.without_server(rest, &mut self.to_client) {
                    Ok(step) => step,
                    Err(broken) => return self.client_broke(key, &broken, bytes.len()),
                };
                at += step.consumed;
                if !self.to_client.is_empty() {
                    let reply = self.to_client.flat(rest);
                    self.write_client(key, &reply);
                }
                let closed = step.stop == Stop::Begin && self.leave_of(key, false).queries == 0;
                match step.stop {
                    Stop::Begin if closed && self.over_ceiling(key, Stop::Queries) => continue,
                    Stop::Begin if !closed && self.begins(key) => continue,
                    Stop::Terminate => self.client_gone(key),
                    _ => {}
                }
                return at;
            };
            let record = &mut self.halls.servers[server];
            if record.socket.blocked() {
                return at;
            }
            let leave = self.leave_of(key, granted);
            let client = &mut self.halls.clients[key];
            let record = &mut self.halls.servers[server];
            self.to_server.clear();
            if granted {
                let back = &mut record.back;
                self.to_server.make(|out| back.put_evicted(out));
            }
            let step = client.front.with_server(&mut record.back, leave, &mut self.shared, rest, &mut self.to_server);
            granted = false;
            let step = match step {
                Ok(step) => step,
                Err(broken) => return self.client_broke(key, &broken, bytes.len()),
            };
            at += step.consumed;
            if step.queries > 0 {
                self.queries_start(key, server, &step);
            }
            if !self.to_server.is_empty() {
                self.ask_server(server, rest);
            }
            self.to_client.clear();
            self.halls.servers[server].back.give_overdue(&mut self.to_client);
            if !self.to_client.is_empty() {
                let reply = self.to_client.flat(&[]);
                self.write_client(key, &reply);
                if self.halls.servers[server].back.at_rest() {
                    self.server_rests(server);
                    continue;
                }
            }
            match step.stop {
                Stop::Begin if self.begin(key, server) => granted = true,
                // What was given makes room.
                Stop::Full if !self.to_client.is_empty() => {}
                Stop::Queries | Stop::Storage if self.over_ceiling(key, step.stop) => {}
                Stop::Terminate => {
                    // What it asked before is done, as Postgres would do it.
                    self.halls.clients[key].ended.get_or_insert(self.now);
                    self.client_ended(key);
                    return bytes.len();
                }
                _ => return at,
            }
        }
    }

    /// A client at rest has something to begin.
    fn begins(&mut self, key: usize) -> bool {
        self.give_notice(key);
        self.halls.clients.get(key).is_some_and(|client| client.stage == Stage::Open) && self.acquire(key)
    }

    /// The one place where queries start.
    fn queries_start(&mut self, key: usize, server: usize, step: &Step) {
        let pool = self.halls_pool(key);
        let tenant_key = self.halls.pools[pool].tenant;
        let tenant = &mut self.halls.tenants[tenant_key];
        tenant.counts.queries += u64::from(step.queries);
        self.halls.instances[tenant.instance].crowd.note(tenant_key, self.now);
        self.halls.servers[server].runs_since.get_or_insert(self.now);
        if self.has_statement_limit(pool) {
            self.keep_ticking();
        }
        self.charge(key, step.charged);
    }

    fn client_broke(&mut self, key: usize, broken: &Broken, all: usize) -> usize {
        let code = match broken {
            Broken::Statements => SqlState::OUT_OF_MEMORY,
            Broken::Length(_) | Broken::Tag(_) | Broken::Format => SqlState::PROTOCOL_VIOLATION,
        };
        self.client_leaves(key, &Report::fatal(code, broken.to_string()));
        all
    }

    /// May begin a transaction on the server connection it has. Otherwise it is held, or its settings are on their way.
    pub(super) fn begin(&mut self, key: usize, server: usize) -> bool {
        let pool = self.halls_pool(key);
        let tenant = self.halls.tenant_of_pool(pool);
        if tenant.paused() {
            tenant.held.push(key);
            self.halls.clients[key].preparing = true;
            return false;
        }
        let client = &mut self.halls.clients[key];
        let record = &mut self.halls.servers[server];
        record.soiled |= client.front.keeps_server();
        let there = record.back.settings.as_ref();
        if there.is_some_and(|there| there.id == client.front.settings.id) {
            return true;
        }
        let text = client.front.settings.change_from(there.map(|there| &**there));
        let mut query = Vec::with_capacity(text.len() + 8);
        record.back.put_our_query(&text, &mut query);
        client.preparing = true;
        self.to_server.clear();
        self.to_server.make(|out| out.append(&mut query));
        self.write_server(server, &[]);
        false
    }

    /// Its side of the connection is closed; answers may still be on their way to it.
    pub(super) fn client_ended(&mut self, key: usize) {
        let client = &self.halls.clients[key];
        // A COPY whose data ends here is never answered.
        let answers =
            |server: usize| self.halls.servers[server].back.owes() && !self.halls.servers[server].back.copies_in();
        let owed = client.server.is_some_and(answers);
        if owed || client.waiting.is_some() || client.preparing || client.held_up {
            self.keep_ticking();
        } else {
            self.client_gone(key);
        }
    }

    /// Nobody reads the answers of a client that ended some time ago.
    pub(super) fn end_the_ended(&mut self) {
        let late = |since: Instant| self.now.duration_since(since) >= ENDED_GRACE;
        let gone: Vec<usize> = self
            .halls
            .clients
            .iter()
            .filter(|(_, client)| client.stage != Stage::Gone && client.ended.is_some_and(late))
            .map(|(key, _)| key)
            .collect();
        for key in gone {
            self.client_gone(key);
        }
    }

    pub(super) fn write_client(&mut self, key: usize, bytes: &[u8]) {
        let Some(client) = self.halls.clients.get_mut(key) else { return };
        if client.stage == Stage::Gone {
            return;
        }
        let pool = client.pool;
        let written = client.socket.write(bytes);
        self.halls.tenant_of_pool(pool).counts.bytes_out += bytes.len() as u64;
        self.charge_egress(pool, bytes.len() as u64);
        if written.is_err() {
            self.client_gone(key);
        }
    }

    pub(super) fn client_writable(&mut self, key: usize) {
        let Some(client) = self.halls.clients.get_mut(key) else { return };
        if client.stage == Stage::Gone || !client.socket.blocked() {
            return;
        }
        if client.socket.flush().is_err() {
            return self.client_gone(key);
        }
        if client.socket.blocked() {
            return;
        }
        if client.stage == Stage::Leaving {
            return self.client_gone(key);
        }
        // Whoever waited for room goes on.
        if let Some(server) = client.server {
            self.readable(Slot::Server(server));
        }
        self.readable(Slot::Client(key));
    }

    /// Tells it why, and lets it go. FATAL, whatever the report says.
    pub(super) fn client_leaves(&mut self, key: usize, report: &Report<'_>) {
        let mut bytes = Vec::new();
        report.write(&mut bytes);
        self.client_leaves_with(key, &bytes);
    }

    pub(super) fn client_leaves_with(&mut self, key: usize, bytes: &[u8]) {
        if self.halls.clients.get(key).is_none_or(|client| matches!(client.stage, Stage::Gone | Stage::Leaving)) {
            return;
        }
        self.write_client(key, bytes);
        let Some(client) = self.halls.clients.get_mut(key) else { return };
        if client.stage == Stage::Gone {
            return;
        }
        if client.socket.blocked() {
            client.stage = Stage::Leaving;
            self.unlink(key);
        } else {
            self.client_gone(key);
        }
    }

    pub(super) fn client_gone(&mut self, key: usize) {
        let Some(client) = self.halls.clients.get_mut(key) else { return };
        if client.stage == Stage::Gone {
            return;
        }
        client.socket.close();
        tracing::debug!(connection = client.front.id, peer = %client.peer, "a client has left");
        let _ = self.poll.registry().deregister(client.socket.source());
        let (pool, number) = (client.pool, client.number);
        client.stage = Stage::Gone;
        self.session_ends(key);
        self.halls.pools[pool].clients -= 1;
        if self.halls.numbers.get(&number) == Some(&key) {
            self.halls.numbers.remove(&number);
        }
        self.unlink(key);
        self.doomed.push(Slot::Client(key));
        self.unused.push(pool);
    }

    /// Takes it out of its queue and away from its server connection.
    fn unlink(&mut self, key: usize) {
        let client = &mut self.halls.clients[key];
        let pool = client.pool;
        if client.waiting.take().is_some() {
            self.halls.pools[pool].waiters.retain(|&waiter| waiter != key);
        }
        client.preparing = false;
        let unfinished = client.front.inside_a_message();
        let keeps = client.front.keeps_server();
        if let Some(server) = client.server.take() {
            self.halls.tenant_of_pool(pool).held.retain(|&held| held != key);
            let record = &mut self.halls.servers[server];
            record.soiled |= keeps;
            record.back.lose_account();
            self.abandon(server, unfinished);
        }
    }

    /// Somebody has sent a CancelRequest with a key of this worker.
    pub(super) fn cancel(&mut self, process: u32, secret: &[u8]) {
        let Some(&key) = self.halls.numbers.get(&(process & NUMBER_MAX)) else { return };
        let client = &self.halls.clients[key];
        if client.stage != Stage::Open
            || client.secret.len() != secret.len()
            || aws_lc_rs::constant_time::verify_slices_are_equal(&client.secret, secret).is_err()
        {
            return;
        }
        if client.waiting.is_some() {
            let report = Report::error(SqlState::QUERY_CANCELED, "canceling statement due to user request");
            return self.refuse(key, &report);
        }
        if client.held_up {
            return self.cancel_held(key);
        }
        if let Some(server) = client.server {
            self.cancel_query(server);
        }
    }

    /// If one runs there: whoever has the server connection at this moment asked for it.
    pub(super) fn cancel_query(&mut self, server: usize) {
        let pool = self.halls.servers[server].pool;
        let encryption = self.halls.tenant_of_pool(pool).entry.encryption;
        let record = &mut self.halls.servers[server];
        if record.back.owes() && record.cancels == 0 && record.duty != Duty::Gone {
            record.cancels += 1;
            let id = ServerId { worker: self.index, key: server, serial: record.serial };
            let (address, process, secret) = (record.address.clone(), record.process, record.secret.clone());
            self.outside.cancel(CancelRequest { server: id, address, encryption, process, secret });
        }
    }

    /// An answer in a server's place to what a waiting client asked; an open session goes on.
    pub(super) fn refuse(&mut self, key: usize, report: &Report<'_>) {
        let mut bytes = Vec::new();
        report.write(&mut bytes);
        self.refuse_with(key, &bytes);
    }

    pub(super) fn refuse_with(&mut self, key: usize, bytes: &[u8]) {
        let client = &mut self.halls.clients[key];
        if client.waiting.take().is_some() {
            let pool = client.pool;
            self.halls.pools[pool].waiters.retain(|&waiter| waiter != key);
        }
        let client = &mut self.halls.clients[key];
        if client.stage == Stage::Greeting {
            return self.client_leaves_with(key, bytes);
        }
        client.front.refuse();
        client.told_to_wait = false;
        self.write_client(key, bytes);
        self.advance(key);
    }
}

pub(super) fn shutting_down() -> Report<'static> {
    Report::fatal(SqlState::ADMIN_SHUTDOWN, "terminating connection due to administrator command")
        .hint("This router is going away; connect again and another one answers.")
}
