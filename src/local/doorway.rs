//! The public port of a service that may sleep: it stays open while the server behind it comes and goes.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use chrono::{DateTime, Utc};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Duration, sleep};

use super::cluster_error::ClusterError;

/// More clients than a server of ours takes.
const CONNECTIONS_MAX: usize = 1_000;
const BUFFER_BYTES: usize = 16 * 1024;
/// Out of file descriptors comes back at once: without a pause the loop would eat a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

pub struct Doorway {
    listener: TcpListener,
    /// Milliseconds of the Unix clock at which the service last sent anything.
    sent_ms: Arc<AtomicI64>,
}

impl Doorway {
    pub async fn open(port: u16) -> Result<Doorway, ClusterError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
        let listener = listener.map_err(|_| ClusterError::PortTaken { port })?;
        Ok(Doorway { listener, sent_ms: Arc::default() })
    }

    /// Until somebody connects, who is turned away.
    pub async fn knock(&self) {
        while self.listener.accept().await.is_err() {
            sleep(ACCEPT_PAUSE).await;
        }
    }

    pub fn sent_at(&self) -> Option<DateTime<Utc>> {
        let ms = self.sent_ms.load(Relaxed);
        DateTime::from_timestamp_millis(ms).filter(|_| ms > 0)
    }

    /// Joins clients to the server on `port`; never returns. Dropped, it cuts all of them off.
    pub async fn forward(&self, port: u16) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((client, _)) if connections.len() < CONNECTIONS_MAX => {
                        connections.spawn(join(client, port, Arc::clone(&self.sent_ms)));
                    }
                    Ok(_) => {}
                    Err(_) => sleep(ACCEPT_PAUSE).await,
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

/// Until both sides have said all, or one breaks.
async fn join(client: TcpStream, port: u16, sent_ms: Arc<AtomicI64>) {
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else { return };
    // Questions and answers are small and waited for.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let note = || sent_ms.store(Utc::now().timestamp_millis(), Relaxed);
    tokio::join!(pass_on(from_client, to_server, || {}), pass_on(from_server, to_client, note));
}

async fn pass_on(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, passed: impl Fn()) {
    let mut buffer = vec![0; BUFFER_BYTES];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
        passed();
    }
    // An error means that the other side has gone already.
    let _ = to.shutdown().await;
}
