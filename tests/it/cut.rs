//! A wire that is cut after so many messages, as when the process at its client's end is killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Passes Postgres sessions on to `port` until `left` statements have gone through, all sessions together; from then on
/// statements are swallowed and sessions end. The last statement is answered by the server, and nobody hears it.
pub struct Wire {
    pub port: u16,
    _sessions: JoinSet<()>,
}

impl Wire {
    pub async fn cut_after(statements: usize, port: u16) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let own = listener.local_addr().expect("bound").port();
        let left = Arc::new(AtomicUsize::new(statements));
        let mut sessions = JoinSet::new();
        sessions.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                open.spawn(pass(client, port, Arc::clone(&left)));
            }
        });
        Wire { port: own, _sessions: sessions }
    }
}

/// An error on either side ends the session, which is all that a cut wire means.
async fn pass(client: TcpStream, port: u16, left: Arc<AtomicUsize>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let up = async {
        let mut head = true;
        while let Some(message) = next(&mut from_client, head).await {
            // SSLRequest is followed by the real start of the session, which has no tag either.
            head = head && message.get(4..8) == Some(&80_877_103_u32.to_be_bytes()[..]);
            let statement = message[0] == b'Q' && !head;
            if statement && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_err()
            {
                return;
            }
            if to_server.write_all(&message).await.is_err() {
                return;
            }
            if statement && left.load(Ordering::SeqCst) == 0 {
                return;
            }
        }
    };
    tokio::select! {
        () = down(&mut from_server, &mut to_client) => return,
        () = up => {}
    }
    // The server finishes what it was told, as it does for a client that died; only then is the session's fate known.
    let _ = to_server.shutdown().await;
    let _ = tokio::io::copy(&mut from_server, &mut tokio::io::sink()).await;
}

async fn down(from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf) {
    let _ = tokio::io::copy(from, to).await;
}

/// One whole message; the first ones of a session have no tag.
async fn next(from: &mut OwnedReadHalf, head: bool) -> Option<Vec<u8>> {
    let mut message = vec![0; if head { 4 } else { 5 }];
    from.read_exact(&mut message).await.ok()?;
    let length = message.last_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes))? as usize;
    let start = message.len();
    message.resize(start + length.checked_sub(4)?, 0);
    from.read_exact(&mut message[start..]).await.ok()?;
    Some(message)
}
