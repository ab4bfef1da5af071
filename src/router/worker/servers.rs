//! Server connections: their replies, their return to the pool, their end.

use super::clients::shutting_down;
use super::outside::ServerId;
use super::socket::Got;
use super::state::{Duty, Slot, Stage};
use super::{BUFFER, READS_MAX, Worker};
use crate::router::protocol::back::field;
use crate::router::protocol::error::{Report, Severity, SqlState};

impl Worker {
    pub(super) fn server_readable(&mut self, key: usize) {
        let mut full = false;
        for _ in 0..READS_MAX {
            let Some(server) = self.halls.servers.get_mut(key) else { return };
            if server.duty == Duty::Gone || !server.socket.readable {
                return;
            }
            // Its client must take the last replies first.
            if server.client.is_some_and(|client| self.halls.clients[client].socket.blocked()) {
                return;
            }
            if self.buffer.is_empty() {
                // In use by whoever called; this one's turn comes next.
                break;
            }
            let mut buffer = std::mem::take(&mut self.buffer);
            match server.socket.read(&mut buffer) {
                Ok(Got::Bytes(n)) => {
                    full = n == BUFFER;
                    self.server_said(key, &buffer[..n]);
                }
                Ok(Got::Nothing) => {}
                Ok(Got::End) | Err(_) => self.server_lost(key),
            }
            self.buffer = buffer;
            if full {
                break;
            }
        }
        if self.halls.servers.get(key).is_some_and(|server| server.socket.readable && server.duty != Duty::Gone) {
            self.turns.add(Slot::Server(key));
        }
    }

    /// Bytes from the server, after those that are kept because they were too few.
    pub(super) fn server_said(&mut self, key: usize, bytes: &[u8]) {
        let server = &mut self.halls.servers[key];
        if server.input.is_empty() {
            let used = self.server_feed(key, bytes);
            if let Some(server) = self.halls.servers.get_mut(key) {
                server.input.extend_from_slice(&bytes[used..]);
            }
        } else {
            let mut input = std::mem::take(&mut server.input);
            input.extend_from_slice(bytes);
            let used = self.server_feed(key, &input);
            if let Some(server) = self.halls.servers.get_mut(key)
                && used < input.len()
            {
                input.drain(..used);
                server.input = input;
            }
        }
    }

    fn server_feed(&mut self, key: usize, bytes: &[u8]) -> usize {
        let server = &mut self.halls.servers[key];
        let (pool, client) = (server.pool, server.client);
        self.to_client.clear();
        self.prepare_too_long(key);
        let server = &mut self.halls.servers[key];
        let front = client.map(|client| &mut self.halls.clients[client].front);
        let told = match server.back.take(front, &mut self.shared, bytes, &mut self.to_client) {
            Ok(told) => told,
            Err(desync) => {
                tracing::error!(%desync, "a server connection is out of step and is closed");
                self.server_lost(key);
                return bytes.len();
            }
        };
        self.answered(key, &told.tally);
        self.time_statements(key, pool, &told.tally);
        if let Some(client) = client
            && !self.to_client.is_empty()
        {
            let counts = &mut self.halls.tenant_of_pool(pool).counts;
            let size = self.to_client.slices(bytes).map(|piece| piece.len() as u64).sum::<u64>();
            counts.bytes_out += size;
            self.charge_egress(pool, size);
            let socket = &mut self.halls.clients[client].socket;
            let written = match self.to_client.joined(bytes) {
                Some(piece) => socket.write(piece),
                None => socket.write_all(&self.to_client.io_slices(bytes)),
            };
            if written.is_err() {
                self.client_gone(client);
            }
        }
        if !told.again.is_empty() {
            self.to_server.clear();
            self.to_server.make(|out| out.extend_from_slice(&told.again));
            self.write_server(key, &[]);
        }
        if told.read_only {
            self.doubt(key);
        }
        if let Some(body) = told.fatal {
            self.server_died(key, &body);
            return bytes.len();
        }
        if let Some(body) = told.ours_failed {
            self.ours_failed(key, &body);
        }
        let Some(server) = self.halls.servers.get_mut(key).filter(|server| server.duty != Duty::Gone) else {
            return bytes.len();
        };
        server.streamed = if server.back.at_rest() { 0 } else { server.streamed.saturating_add(bytes.len()) };
        if server.back.at_rest() {
            if told.consumed == bytes.len() {
                self.server_rests(key);
            }
        } else if let Some(client) = server.client
            && !self.halls.clients[client].input.is_empty()
        {
            // It may have waited for replies to be fewer.
            self.advance(client);
        } else if matches!(server.duty, Duty::Cleaning { .. }) {
            self.clean(key);
        }
        told.consumed
    }

    /// Of several endpoints this one may not be the writable one any more: no connection to it is used again before that
    /// has been looked at.
    fn doubt(&mut self, key: usize) {
        let server = &self.halls.servers[key];
        let (pool, address) = (server.pool, server.address.clone());
        let entry = self.halls.tenant_of_pool(pool).entry.clone();
        if entry.endpoints.len() > 1 {
            self.outside.suspect(&entry.instance, &address);
            for (_, other) in &mut self.halls.servers {
                other.doubted |= other.pool == pool && other.address == address;
            }
            for idle in self.halls.pools[pool].idle.clone() {
                if self.is_stale(idle) {
                    self.close_server(idle);
                }
            }
        }
    }

    /// Nothing is owed, no transaction is open.
    pub(super) fn server_rests(&mut self, key: usize) {
        // A greeted client's first query may be on its way already.
        let Some(server) = self.halls.servers.get_mut(key).filter(|server| server.back.at_rest()) else { return };
        match (server.duty, server.client) {
            (Duty::Lent, Some(client)) => {
                let record = &mut self.halls.clients[client];
                if record.preparing {
                    let paused = self.halls.tenants[self.halls.pools[server.pool].tenant].held.contains(&client);
                    if paused {
                        return;
                    }
                    record.preparing = false;
                    server.back.settings = Some(record.front.settings.clone());
                    return if record.stage == Stage::Greeting {
                        self.greet_from_server(client);
                    } else {
                        self.advance(client);
                    };
                }
                if record.front.inside_a_message() {
                    return;
                }
                if record.front.keeps_server() {
                    server.soiled = true;
                    server.rests_since = self.now;
                    let stale = self.is_stale(key);
                    if stale {
                        return self.client_leaves(client, &moved());
                    }
                    if self.draining.is_some() {
                        return self.client_leaves(client, &shutting_down());
                    }
                } else {
                    record.server = None;
                    record.front.rest();
                    server.back.last_front = record.front.id;
                    server.client = None;
                    self.put_back(key);
                    if self.draining.is_some() {
                        return self.client_leaves(client, &shutting_down());
                    }
                }
                self.check_home(client);
                self.advance_if_open(client);
            }
            (Duty::Cleaning { .. }, None) => self.cleaned(key),
            _ => {}
        }
    }

    /// Not while its bytes are being read, which goes on by itself: it would seem to have said all it has to say.
    fn advance_if_open(&mut self, client: usize) {
        if self.halls.clients.get(client).is_some_and(|record| {
            record.stage == Stage::Open && !record.fed && (!record.input.is_empty() || record.ended.is_some())
        }) {
            self.advance(client);
        }
    }

    /// The client that had it is gone, or must do without it.
    pub(super) fn abandon(&mut self, key: usize, unfinished: bool) {
        let Some(server) = self.halls.servers.get_mut(key) else { return };
        server.client = None;
        if server.duty == Duty::Gone {
            return;
        }
        let replication = self.halls.pools[server.pool].replication.is_some();
        // Half a message of somebody else's can only be ended by closing.
        if unfinished || replication {
            return self.close_server(key);
        }
        server.duty = Duty::Cleaning { until: self.now + self.timing.cleaning };
        if !server.back.copies_in() {
            self.cancel_query(key);
        }
        self.keep_ticking();
        self.clean(key);
    }

    /// The next thing that must be said to bring it to rest; each waits for the answers to the one before, because only they
    /// tell whether a COPY has begun or a transaction is left open.
    fn clean(&mut self, key: usize) {
        let back = &mut self.halls.servers[key].back;
        if back.at_rest() {
            return self.cleaned(key);
        }
        let mut bytes = Vec::new();
        back.put_copy_fail(&mut bytes);
        if back.wants_sync() {
            back.put_sync(&mut bytes);
        }
        if !back.owes() && back.in_transaction() {
            back.put_our_query("ROLLBACK", &mut bytes);
        }
        if !bytes.is_empty() {
            self.to_server.clear();
            self.to_server.make(|out| out.append(&mut bytes));
            self.write_server(key, &[]);
        }
    }

    /// At rest without a client: made a stranger's again, if need be, and lent on.
    fn cleaned(&mut self, key: usize) {
        let none = self.shared.shelf.none();
        let server = &mut self.halls.servers[key];
        if server.cancels > 0 {
            return;
        }
        if server.soiled {
            server.soiled = false;
            let mut bytes = Vec::new();
            server.back.put_our_query("DISCARD ALL", &mut bytes);
            // What it answers counts only once it has come; should it fail, the connection is closed.
            server.back.forget_all(none);
            server.back.last_front = 0;
            self.to_server.clear();
            self.to_server.make(|out| out.append(&mut bytes));
            self.write_server(key, &[]);
            return;
        }
        self.put_back(key);
    }

    /// One of the router's own statements was refused.
    fn ours_failed(&mut self, key: usize, body: &[u8]) {
        let server = &self.halls.servers[key];
        let Some(client) = server.client else { return self.close_server(key) };
        let greeting = self.halls.clients[client].stage == Stage::Greeting;
        // At a greeting it was the client's own startup parameter; the server connection is as it was before.
        let mut report = Vec::new();
        write_as(&mut report, Severity::Fatal, body);
        if greeting {
            self.halls.clients[client].preparing = false;
            self.client_leaves_with(client, &report);
        } else {
            self.client_leaves_with(client, &report);
            self.close_server(key);
        }
    }

    /// All of `to_server` (its pieces are of `input`) to the server. That it is lost is found when it is read.
    pub(super) fn write_server(&mut self, key: usize, input: &[u8]) {
        let server = &mut self.halls.servers[key];
        let written = match self.to_server.joined(input) {
            Some(piece) => server.socket.write(piece),
            None => server.socket.write_all(&self.to_server.io_slices(input)),
        };
        if written.is_err() {
            // What it said last may be waiting to be read: that is the better reason.
            server.socket.readable = true;
            self.turns.add(Slot::Server(key));
        }
    }

    pub(super) fn server_writable(&mut self, key: usize) {
        let Some(server) = self.halls.servers.get_mut(key) else { return };
        if server.duty == Duty::Gone || !server.socket.blocked() {
            return;
        }
        if server.socket.flush().is_err() {
            return self.server_lost(key);
        }
        if let Some(client) = server.client.filter(|_| !server.socket.blocked()) {
            self.advance(client);
            self.readable(Slot::Client(client));
        }
    }

    /// Closed, without a word to its client.
    fn server_lost(&mut self, key: usize) {
        let Some(server) = self.halls.servers.get(key).filter(|server| server.duty != Duty::Gone) else { return };
        let client = server.client;
        let (instance, address) = (self.halls.pools[server.pool].tenant, server.address.clone());
        let instance = self.halls.tenants[instance].entry.instance.clone();
        self.outside.suspect(&instance, &address);
        let server = &self.halls.servers[key];
        let busy = server.back.owes() || server.back.in_transaction();
        if let Some(client) = client {
            let keeps = self.halls.clients[client].front.keeps_server();
            let lost = "the connection to the tenant's database was lost";
            let hint =
                "What ran has been rolled back, unless it had just been committed. Look before you run it again.";
            if self.halls.clients[client].stage == Stage::Open
                && busy
                && !keeps
                && !self.halls.servers[key].back.in_transaction()
            {
                let mut bytes = Vec::new();
                Report::error(SqlState::CONNECTION_FAILURE, lost).hint(hint).write(&mut bytes);
                return self.close_after_error(client, key, &bytes);
            }
            if busy || keeps {
                self.client_leaves(client, &Report::fatal(SqlState::CONNECTION_FAILURE, lost).hint(hint));
            } else if let Some(record) = self.halls.clients.get_mut(client) {
                record.server = None;
                record.preparing = false;
            }
        }
        self.close_server(key);
    }

    /// Its query failed with the server connection; the session goes on with the next one.
    fn close_after_error(&mut self, client: usize, server: usize, error: &[u8]) {
        let synced = self.halls.servers[server].back.owes_ready();
        self.close_server(server);
        let record = &mut self.halls.clients[client];
        record.preparing = false;
        let mut bytes = error.to_vec();
        if synced {
            crate::router::protocol::frame::put(&mut bytes, b'Z', |out| out.push(b'I'));
        } else {
            record.front.refuse();
        }
        self.write_client(client, &bytes);
        self.advance(client);
    }

    /// It said that it ends. Where a client has it, the client has heard it, and that is all it hears.
    fn server_died(&mut self, key: usize, body: &[u8]) {
        let server = &self.halls.servers[key];
        let code = field(body, b'C').map(|code| String::from_utf8_lossy(code).into_owned()).unwrap_or_default();
        tracing::debug!(code, "a server connection was ended by its server");
        if let Some(client) = server.client {
            let told = server.back.owes();
            if told {
                self.halls.clients[client].server = None;
                self.halls.servers[key].client = None;
                self.client_leaves_with(client, &[]);
            } else {
                let mut bytes = Vec::new();
                write_as(&mut bytes, Severity::Fatal, body);
                let keeps = self.halls.clients[client].front.keeps_server();
                if keeps || self.halls.servers[key].back.in_transaction() {
                    self.client_leaves_with(client, &bytes);
                } else {
                    self.halls.clients[client].server = None;
                }
            }
        }
        self.close_server(key);
    }

    /// Lets go of the connection and of its place in pool, tenant and instance.
    pub(super) fn close_server(&mut self, key: usize) {
        let Some(server) = self.halls.servers.get_mut(key) else { return };
        if server.duty == Duty::Gone {
            return;
        }
        server.socket.close();
        let _ = self.poll.registry().deregister(server.socket.source());
        self.credit(key, self.now);
        let server = &mut self.halls.servers[key];
        server.duty = Duty::Gone;
        let pool = server.pool;
        if let Some(client) = server.client.take()
            && let Some(client) = self.halls.clients.get_mut(client)
        {
            client.server = None;
        }
        self.doomed.push(Slot::Server(key));
        self.halls.pools[pool].idle.retain(|&idle| idle != key);
        self.halls.pools[pool].servers -= 1;
        self.place_freed(pool);
        self.unused.push(pool);
    }

    pub(super) fn cancelled(&mut self, id: ServerId) {
        let Some(server) = self.halls.servers.get_mut(id.key).filter(|server| server.serial == id.serial) else {
            return;
        };
        server.cancels = server.cancels.saturating_sub(1);
        if matches!(server.duty, Duty::Cleaning { .. }) && server.back.at_rest() {
            self.cleaned(id.key);
        }
    }
}

pub(super) fn moved() -> Report<'static> {
    Report::fatal(SqlState::ADMIN_SHUTDOWN, "the tenant's database has moved")
        .hint("This session kept a server connection of its own, which does not move along. Connect again.")
}

/// The server's own words at another severity.
pub(super) fn write_as(out: &mut Vec<u8>, severity: Severity, body: &[u8]) {
    let text = |wanted| field(body, wanted).map(|text| String::from_utf8_lossy(text));
    let code = field(body, b'C').and_then(|code| code.try_into().ok()).map_or(SqlState::CONNECTION_FAILURE, SqlState);
    let message = text(b'M').unwrap_or_else(|| "the server refuses without a reason".into());
    let mut report = Report::new(severity, code, message);
    report.detail = text(b'D');
    report.hint = text(b'H');
    report.write(out);
}
