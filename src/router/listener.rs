//! Accepts clients, logs them in, and hands them over; bounded in number and in time.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures_util::future::BoxFuture;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use super::credentials::Credentials;
use super::handover::Client;
use super::identify::Rules;
use super::login::{End, Login, Tokens, Wrong};
use super::protocol::error::Report;
use super::protocol::startup::Cancel;
use super::table::Table;
use super::throttle::Throttle;
use super::tls::Tls;
use super::wire::Wire;

/// From the connection to the right password.
const LOGIN_MAX: Duration = Duration::from_secs(10);
/// At most about 4 KiB each while they wait for a packet; others wait in the kernel.
const LOGINS_MAX: usize = 8192;
/// Wrong logins that wait for their answer; more are answered at once.
const WAITING_MAX: usize = 1024;
const BACKLOG: u32 = 4096;
/// Out of descriptors: the next try comes after this.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
/// For a refusal to leave.
const LAST_WORDS_MAX: Duration = Duration::from_secs(1);
/// What a refused client may still be sending.
const LINGER_BYTES_MAX: usize = 512 * 1024;
/// A client that vanished without a word is noticed within a minute. Bytes it does not acknowledge wait as long as the kernel
/// sends them again (a quarter of an hour): a shorter TCP_USER_TIMEOUT would also cut off a client that is alive and reads
/// slowly or pauses.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(30), Duration::from_secs(10), 3);
/// Connections taken before others of the runtime have a turn.
const ACCEPTS_A_TURN: usize = 32;

/// All that a login needs of the rest of the router.
pub struct Doors {
    pub table: watch::Receiver<Arc<Table>>,
    pub rules: watch::Receiver<Arc<Rules>>,
    pub credentials: Credentials,
    pub tls: Option<Arc<Tls>>,
    pub tokens: Option<Arc<dyn Tokens>>,
    pub handshakes: Handshakes,
    pub throttle: Mutex<Throttle>,
    /// The connection closes when it is done: that is all a client hears of its cancel request.
    pub on_cancel: Box<dyn Fn(Cancel, SocketAddr) -> BoxFuture<'static, ()> + Send + Sync>,
    /// A session begins here. Called on the async side, so it must not block.
    pub on_client: Arc<dyn Fn(Client) + Send + Sync>,
}

/// TLS handshakes at a time, so that of many at once the first are done first.
pub struct Handshakes(Semaphore);

impl Handshakes {
    /// Four a core.
    pub fn new(cores: usize) -> Handshakes {
        Handshakes(Semaphore::new(4 * cores.max(1)))
    }

    /// A turn is waited for a second at most, and kept only while the client answers promptly: slow clients can neither
    /// use all turns up nor keep others out.
    pub async fn run<T>(&self, handshake: impl Future<Output = T> + Send) -> T {
        let turn = timeout(Duration::from_secs(1), self.0.acquire()).await;
        let mut handshake = pin!(handshake);
        if let Ok(done) = timeout(Duration::from_millis(20), handshake.as_mut()).await {
            return done;
        }
        drop(turn);
        handshake.await
    }
}

/// A listening socket for [`serve`], with room for a storm of connects.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { tokio::net::TcpSocket::new_v4() } else { tokio::net::TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts from what [`bind`] made until `stop`; logins begun by then have their time, at most [`LOGIN_MAX`] and the delay of
/// a wrong answer.
pub async fn serve(listener: TcpListener, doors: Arc<Doors>, stop: CancellationToken) {
    serve_at_most(LOGINS_MAX, listener, doors, stop).await;
}

async fn serve_at_most(logins: usize, listener: TcpListener, doors: Arc<Doors>, stop: CancellationToken) {
    let logins = Arc::new(Logins {
        doors,
        begun: Instant::now(),
        ids: AtomicU64::new(1),
        tasks: TaskTracker::new(),
        room: Arc::new(Semaphore::new(logins)),
        silent: Mutex::default(),
        waiting: Semaphore::new(WAITING_MAX),
    });
    stop.run_until_cancelled(accept_all(&listener, &logins)).await;
    logins.tasks.close();
    logins.tasks.wait().await;
}

async fn accept_all(listener: &TcpListener, logins: &Arc<Logins>) {
    let (mut failing, mut accepted) = (false, 0);
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                failing = false;
                // The semaphore is never closed.
                let Ok(room) = logins.room().await else { return };
                logins.begin(stream, peer, room).await;
                accepted += 1;
                if accepted % ACCEPTS_A_TURN == 0 {
                    tokio::task::yield_now().await;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {
                debug!(%error, "a client went away before it was accepted");
            }
            Err(error) => {
                // Comes back at once when descriptors are out: without a pause this loop would eat a core.
                if !std::mem::replace(&mut failing, true) {
                    warn!(%error, "connections cannot be accepted; trying on");
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

struct Logins {
    doors: Arc<Doors>,
    /// What the throttle's times are counted from.
    begun: Instant,
    ids: AtomicU64,
    tasks: TaskTracker,
    room: Arc<Semaphore>,
    /// Clients that have not said yet what they want, the longest connected first; those that wait for it have a task.
    silent: Mutex<BTreeMap<u64, Option<AbortHandle>>>,
    waiting: Semaphore,
}

impl Logins {
    /// For one login more. Where there is none, the client that has said nothing for the longest time makes room: clients
    /// that keep silent must not keep others out.
    async fn room(&self) -> Result<OwnedSemaphorePermit, tokio::sync::AcquireError> {
        if let Ok(room) = Arc::clone(&self.room).try_acquire_owned() {
            return Ok(room);
        }
        let longest = self.silent().pop_first();
        if let Some((id, Some(task))) = longest {
            debug!(connection = id, "said nothing, and makes room for another client");
            task.abort();
        }
        Arc::clone(&self.room).acquire_owned().await
    }

    fn silent(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Option<AbortHandle>>> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A login that needs nothing but what is there already is over when this returns; others get a task of their own.
    async fn begin(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr, room: OwnedSemaphorePermit) {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        self.silent().insert(id, None);
        let mut login = Box::pin(Arc::clone(self).login(stream, peer, id, room));
        if poll_fn(|context| Poll::Ready(login.as_mut().poll(context))).await.is_pending() {
            let task = self.tasks.spawn(login);
            // It may have spoken by now.
            if let Some(silent) = self.silent().get_mut(&id) {
                *silent = Some(task.abort_handle());
            }
        }
    }

    async fn login(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, id: u64, room: OwnedSemaphorePermit) {
        if let Err(error) = prepare(&stream) {
            self.silent().remove(&id);
            return debug!(connection = id, %peer, %error, "the client went away");
        }
        let mut login = Login::new(&self.doors, Wire::new(stream), id, peer);
        let end = timeout(LOGIN_MAX, login.run(|| drop(self.silent().remove(&id)))).await;
        self.silent().remove(&id);
        match end {
            Ok(End::LoggedIn(session, unsent)) => match login.into_client(*session, unsent) {
                Ok(client) => (self.doors.on_client)(client),
                Err(error) => debug!(connection = id, %peer, %error, "the client was lost"),
            },
            Ok(End::Cancel(cancel)) => {
                (self.doors.on_cancel)(cancel, peer).await;
                // libpq takes an end of TLS without goodbye for a cancel that failed.
                login.wire.close();
            }
            Ok(End::Refused(report)) => {
                debug!(connection = id, %peer, code = %report.code, reason = %report.message, "login refused");
                Box::pin(last_words(&mut login.wire, &report)).await;
            }
            Ok(End::Wrong(wrong)) => {
                drop(room);
                Box::pin(self.wrong(&wrong, id, peer)).await;
                Box::pin(last_words(&mut login.wire, &wrong.answer)).await;
            }
            Ok(End::Gone(error)) => debug!(connection = id, %peer, %error, "the client went away"),
            Err(_) => debug!(connection = id, %peer, "no login within {LOGIN_MAX:?}"),
        }
    }

    async fn wrong(&self, wrong: &Wrong, id: u64, peer: SocketAddr) {
        let Wrong { tenant, role, .. } = wrong;
        let now = self.begun.elapsed();
        let delay = {
            let mut throttle = self.doors.throttle.lock().unwrap_or_else(PoisonError::into_inner);
            throttle.wrong(now, tenant, role, peer.ip())
        };
        info!(connection = id, %peer, %tenant, %role, ?delay, "wrong login");
        if let Ok(_one_of_many) = self.waiting.try_acquire() {
            sleep(delay).await;
        }
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (time, interval, retries) = KEEPALIVE;
    let keepalive = TcpKeepalive::new().with_time(time).with_interval(interval).with_retries(retries);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// Why the connection ends. A client that does not read it is not waited for; one that is still sending, as a token that
/// is too long, hears it too.
async fn last_words(wire: &mut Wire, report: &Report<'_>) {
    let said = async {
        if wire.write(&report.to_bytes()).await.is_ok() {
            wire.close();
            wire.linger(LINGER_BYTES_MAX).await;
        }
    };
    let _ = timeout(LAST_WORDS_MAX, said).await;
}

#[cfg(test)]
#[path = "listener_tests.rs"]
mod tests;
