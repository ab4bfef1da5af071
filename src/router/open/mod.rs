//! Opens server connections: finds the address, connects, encrypts, logs in, and hands over what is ready.
//!
//! Failures that pass by themselves (a server that wakes, restarts or moves) are retried here, inside the time the client
//! may wait; at most a few connects to an instance are under way, and one while it does not answer.
//! With several endpoints the writable one is kept to.
//! Read: gate (who may connect now), dial (the way there), ask (a question of ours), this file (retries and failover).

mod ask;
mod dial;
mod gate;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{debug, info, warn};

use self::dial::{Dialer, Stream};
use self::gate::{Gate, Leave};
use super::handover::{OpenError, Proof, Server};
use super::protocol::scram::end_point;
use super::protocol::server_login::{Ask, LoggedIn, ServerLogin, Step, cancel_request};
use super::table::{Encryption, Entry};
use crate::tenancy::Address;

/// Between attempts; doubles up to the second. A promotion is noticed within two seconds.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));
/// Gates are made again at no cost, so those nobody uses go when there are this many.
const GATES_MAX: usize = 4096;

#[derive(Debug, Clone)]
pub struct OpenConfig {
    /// For names and TCP of one attempt.
    pub connect: Duration,
    /// For one attempt as a whole, TLS and login included.
    pub login: Duration,
    /// How long the endpoint that was writable last is tried alone, and how long the others are waited for once one answered.
    pub head_start: Duration,
    /// For a cancel request, until the server has closed the connection.
    pub cancel: Duration,
    /// Connects to one instance under way at a time.
    pub in_flight: usize,
    /// Passwords hashed at a time.
    pub hashing: usize,
}

impl Default for OpenConfig {
    fn default() -> OpenConfig {
        OpenConfig {
            connect: Duration::from_secs(5),
            login: Duration::from_secs(15),
            head_start: Duration::from_millis(300),
            cancel: Duration::from_secs(10),
            in_flight: 8,
            hashing: 2,
        }
    }
}

/// What a worker asks for.
#[derive(Debug, Clone)]
pub struct Request {
    pub entry: Arc<Entry>,
    /// The name Postgres knows.
    pub role: Arc<str>,
    pub proof: Proof,
    /// Startup parameters beside user and database: none for a pool, `replication` for such a session.
    pub settings: Vec<(String, String)>,
    /// How long the client may wait, a sleeping instance's waking included.
    pub budget: Duration,
}

pub struct Opener {
    config: OpenConfig,
    dialer: Dialer,
    hashing: Arc<Semaphore>,
    gates: Mutex<HashMap<Arc<str>, Arc<Gate>>>,
}

/// A login done, still on the async side.
pub(super) struct Reached {
    pub stream: Stream,
    pub login: LoggedIn,
    pub address: Address,
}

impl Reached {
    fn is_standby(&self) -> bool {
        // Reported since Postgres 14; the oldest we serve is 15.
        self.login.parameters.iter().any(|(name, value)| name == "in_hot_standby" && value == "on")
    }
}

impl Opener {
    pub fn new(config: OpenConfig) -> Opener {
        let (dialer, hashing) = (Dialer::new(config.connect), Arc::new(Semaphore::new(config.hashing)));
        Opener { config, dialer, hashing, gates: Mutex::default() }
    }

    /// A server connection that is ready for its first query. Dropping the future gives up the attempt.
    pub async fn open(&self, request: &Request) -> Result<Server, OpenError> {
        let Reached { stream, login, address } = self.reach(request).await?;
        let (stream, tls) = stream.into_std().map_err(|error| unreachable(&address, &error))?;
        let LoggedIn { parameters, process, secret, received } = login;
        let database = Arc::clone(&request.entry.database);
        Ok(Server { stream, tls, address, database, parameters, process, secret, received })
    }

    /// The server at `address` has died or turned read-only: the next connection looks for the writable one again.
    pub fn suspect(&self, instance: &Arc<str>, address: &Address) {
        self.gate(instance).forget(address);
    }

    /// Sends a CancelRequest. Returns once the server has closed the connection: nothing it does to the session can come
    /// later than that. An error says that this is not known.
    pub async fn cancel(
        &self,
        address: &Address,
        encryption: Encryption,
        (process, secret): (u32, &[u8]),
    ) -> Result<(), OpenError> {
        let cancelled = async {
            let mut stream = self.dialer.connect(address, encryption).await?;
            stream.write_all(&cancel_request(process, secret)).await.map_err(|error| unreachable(address, &error))?;
            let mut rest = Vec::new();
            // The server answers nothing; whatever else it is that answers is not listened to for long.
            while rest.len() < 1024 && stream.read(&mut rest).await.is_ok_and(|read| read > 0) {}
            Ok(())
        };
        let late = || unreachable(address, &std::io::ErrorKind::TimedOut.into());
        timeout(self.config.cancel, cancelled).await.unwrap_or_else(|_| Err(late()))
    }

    pub(super) async fn reach(&self, request: &Request) -> Result<Reached, OpenError> {
        let entry = &request.entry;
        let (gate, deadline) = (self.gate(&entry.instance), Instant::now() + request.budget);
        let mut leave = gate.enter(&entry.tenant, deadline).await?;
        let mut pause = PAUSE.0;
        loop {
            let attempt = timeout_at(deadline, self.round(request, &gate)).await;
            let error = match attempt {
                Ok(Err(Failure { error, again: true })) => error,
                Ok(answered) => {
                    if gate.answered() {
                        info!(instance = %entry.instance, "the instance answers again");
                    }
                    return answered.map_err(|failure| failure.error);
                }
                Err(_late) => OpenError::Unreachable { detail: format!("no answer within {:?}", request.budget) },
            };
            if gate.failed(&error) {
                warn!(instance = %entry.instance, ?error, "the instance does not answer");
            }
            if Instant::now() + pause >= deadline {
                gate.gave_up();
                return Err(error);
            }
            // The one that tries alone keeps its turn while it pauses, so that those who wait do not try at once.
            if matches!(leave, Leave::Among(..)) {
                drop(leave);
                leave = gate.enter(&entry.tenant, deadline).await?;
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    /// One attempt at every endpoint that may be the writable one. The one that was it last is taken as soon as it answers;
    /// otherwise the others are waited for a little, because an old primary may have come back beside its successor.
    async fn round(&self, request: &Request, gate: &Gate) -> Result<Reached, Failure> {
        let mut others: Vec<&Address> = request.entry.endpoints.iter().collect();
        if let [only] = others[..] {
            return self.attempt(request, only).await;
        }
        let mut tries = FuturesUnordered::new();
        if let Some(at) = gate.writable().and_then(|last| others.iter().position(|other| **other == last)) {
            tries.push(self.attempt_at(request, others.remove(at)));
        }
        let head_start = self.config.head_start;
        let mut wait_until = Instant::now() + head_start;
        let last = gate.writable();
        let (mut refusal, mut details, mut writable) = (None, Vec::new(), Vec::new());
        loop {
            if tries.is_empty() {
                tries.extend(others.drain(..).map(|other| self.attempt_at(request, other)));
            }
            match timeout_at(wait_until, tries.next()).await {
                Ok(None) => break,
                Err(_late) if others.is_empty() && !(details.is_empty() && writable.is_empty()) => break,
                Err(_late) => {
                    tries.extend(others.drain(..).map(|other| self.attempt_at(request, other)));
                    wait_until = Instant::now() + self.config.login;
                }
                Ok(Some((address, Ok(reached)))) => {
                    if reached.is_standby() {
                        details.push(format!("{address} is a standby"));
                        reached.stream.end().await;
                    } else if last.as_ref() == Some(address) {
                        return Ok(reached);
                    } else {
                        writable.push(reached);
                        tries.extend(others.drain(..).map(|other| self.attempt_at(request, other)));
                    }
                }
                Ok(Some((address, Err(failure)))) => {
                    details.push(format!("{address}: {}", brief(&failure.error)));
                    if !failure.again {
                        refusal = Some(failure);
                    }
                }
            }
            if others.is_empty() && !(details.is_empty() && writable.is_empty()) {
                wait_until = wait_until.min(Instant::now() + head_start);
            }
        }
        if let Some(reached) = newest(&request.entry.instance, writable, head_start).await {
            gate.keep_to(&reached.address);
            return Ok(reached);
        }
        let none = || OpenError::Unreachable { detail: format!("no endpoint is writable: {}", details.join("; ")) };
        Err(refusal.unwrap_or_else(|| none().into()))
    }

    async fn attempt_at<'a>(
        &self,
        request: &Request,
        address: &'a Address,
    ) -> (&'a Address, Result<Reached, Failure>) {
        (address, self.attempt(request, address).await)
    }

    async fn attempt(&self, request: &Request, address: &Address) -> Result<Reached, Failure> {
        let heard = AtomicBool::new(false);
        let logged_in = timeout(self.config.login, self.log_in(request, address, &heard)).await;
        logged_in.map_or_else(
            |_late| {
                let detail = format!("{address}: no login within {:?}", self.config.login);
                // One that has answered is there: what holds it concerns this database or role alone.
                Err(Failure { error: OpenError::Unreachable { detail }, again: !heard.load(Relaxed) })
            },
            |outcome| outcome.map_err(Failure::from),
        )
    }

    async fn log_in(&self, request: &Request, address: &Address, heard: &AtomicBool) -> Result<Reached, OpenError> {
        let lost = |error: std::io::Error| unreachable(address, &error);
        let started = Instant::now();
        let mut stream = self.dialer.connect(address, request.entry.encryption).await?;
        let ask = Ask {
            database: &request.entry.database,
            role: &request.role,
            settings: &request.settings,
            proof: &request.proof,
            nonce: nonce(),
            end_point: stream.certificate().and_then(end_point),
            loopback: stream.is_loopback(),
        };
        let (hello, mut login) = ServerLogin::start(ask);
        stream.write_all(&hello).await.map_err(lost)?;
        let mut buffer = Vec::with_capacity(4096);
        loop {
            match login.step()? {
                Step::Read => {
                    buffer.clear();
                    if stream.read(&mut buffer).await.map_err(lost)? == 0 {
                        return Err(lost(std::io::ErrorKind::UnexpectedEof.into()));
                    }
                    heard.store(true, Relaxed);
                    login.feed(&buffer);
                }
                Step::Send(bytes) => stream.write_all(&bytes).await.map_err(lost)?,
                Step::Hash(challenge) if challenge.is_costly() => {
                    let _turn = self.hashing.acquire().await;
                    let hashed = tokio::task::spawn_blocking(move || challenge.answer()).await;
                    let hashed = hashed.map_err(|error| lost(error.into()))?;
                    stream.write_all(&login.answer(hashed)).await.map_err(lost)?;
                }
                Step::Hash(challenge) => {
                    stream.write_all(&login.answer(challenge.answer())).await.map_err(lost)?;
                }
                Step::Done(login) => {
                    let (tenant, took) = (&request.entry.tenant, started.elapsed());
                    debug!(%tenant, role = %request.role, %address, process = login.process, ?took, "server opened");
                    return Ok(Reached { stream, login, address: address.clone() });
                }
            }
        }
    }

    fn gate(&self, instance: &Arc<str>) -> Arc<Gate> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        if gates.len() >= GATES_MAX && !gates.contains_key(instance) {
            gates.retain(|_, gate| Arc::strong_count(gate) > 1);
        }
        Arc::clone(gates.entry(Arc::clone(instance)).or_insert_with(|| Arc::new(Gate::new(self.config.in_flight))))
    }
}

/// Of several that take writes the one that was promoted last. One that does not say so in time is none.
async fn newest(instance: &str, mut writable: Vec<Reached>, patience: Duration) -> Option<Reached> {
    if writable.len() < 2 {
        return writable.pop();
    }
    let mut best: Option<(u32, Reached)> = None;
    for mut reached in writable {
        let Ok(Some(timeline)) = timeout(patience, reached.timeline()).await else { continue };
        let lost = match &best {
            Some((other, _)) if *other >= timeline => Some((timeline, reached)),
            _ => best.replace((timeline, reached)),
        };
        let (Some((other, lost)), Some((timeline, kept))) = (lost, &best) else { continue };
        if other < *timeline {
            let (address, kept) = (&lost.address, &kept.address);
            warn!(instance, %address, %kept, "two endpoints take writes; stop the one that was the primary before");
        }
        lost.stream.end().await;
    }
    best.map(|(_, reached)| reached)
}

/// Why an attempt came to nothing, and whether another may do better: the instance is starting, stopping, asleep or on its
/// way elsewhere.
struct Failure {
    error: OpenError,
    again: bool,
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Failure {
        let again = match &error {
            OpenError::Unreachable { .. } => true,
            OpenError::Refused { code, .. } => matches!(code, b"57P01" | b"57P02" | b"57P03"),
            OpenError::Unproven { .. } => false,
        };
        Failure { error, again }
    }
}

fn brief(error: &OpenError) -> String {
    match error {
        OpenError::Refused { code, .. } => format!("refused with {}", String::from_utf8_lossy(code)),
        OpenError::Unreachable { detail } | OpenError::Unproven { detail } => detail.clone(),
    }
}

fn unreachable(address: &Address, error: &std::io::Error) -> OpenError {
    OpenError::Unreachable { detail: format!("{address}: {error}") }
}

/// 18 random bytes as 24 characters of base64.
fn nonce() -> String {
    let mut bytes = [0; 18];
    SystemRandom::new().fill(&mut bytes).expect("the system has random bytes");
    STANDARD.encode(bytes)
}

#[cfg(test)]
pub(super) mod tests;
#[cfg(test)]
pub(super) use tests::entry as test_entry;
