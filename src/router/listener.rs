//! Accepts clients, logs them in, and hands them over; bounded in number and in time.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
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
    let logins = Arc::new(Logins {
        doors,
        begun: Instant::now(),
        ids: AtomicU64::new(1),
        tasks: TaskTracker::new(),
        room: Arc::new(Semaphore::new(LOGINS_MAX)),
        waiting: Semaphore::new(WAITING_MAX),
    });
    stop.run_until_cancelled(accept_all(&listener, &logins)).await;
    logins.tasks.close();
    logins.tasks.wait().await;
}

async fn accept_all(listener: &TcpListener, logins: &Arc<Logins>) {
    let (mut failing, mut accepted) = (false, 0);
    // The semaphore is never closed, so this goes on.
    while let Ok(room) = Arc::clone(&logins.room).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, peer)) => {
                failing = false;
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
    waiting: Semaphore,
}

impl Logins {
    /// A login that needs nothing but what is there already is over when this returns; others get a task of their own.
    async fn begin(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr, room: OwnedSemaphorePermit) {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let mut login = Box::pin(Arc::clone(self).login(stream, peer, id, room));
        if poll_fn(|context| Poll::Ready(login.as_mut().poll(context))).await.is_pending() {
            self.tasks.spawn(login);
        }
    }

    async fn login(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, id: u64, room: OwnedSemaphorePermit) {
        if let Err(error) = stream.set_nodelay(true) {
            return debug!(connection = id, %peer, %error, "the client went away");
        }
        let mut login = Login::new(&self.doors, Wire::new(stream), id, peer);
        let end = timeout(LOGIN_MAX, login.run()).await;
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
