//! The socket of a client that is logging in: bytes in and out, in plain or inside TLS.
//!
//! It is tried before it is waited for: most logins without a password never wait, because a client's first packet is there
//! when its connection is.

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;

use rustls::ServerConnection;
use socket2::{SockRef, Socket};
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::tls::Handshake;

const READ_BYTES: usize = 1024;

pub struct Wire {
    stream: TcpStream,
    pub tls: Option<Box<ServerConnection>>,
}

impl Wire {
    pub fn new(stream: TcpStream) -> Wire {
        Wire { stream, tls: None }
    }

    /// Appends what comes next to `buffer`, a kilobyte or a record; 0 at the end. Not cancel safe.
    pub async fn read(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            let start = buffer.len();
            buffer.resize(start + READ_BYTES, 0);
            let read = reads(&self.stream, |mut socket| socket.read(&mut buffer[start..])).await;
            buffer.truncate(start + read.as_ref().map_or(0, |&bytes| bytes));
            return read;
        };
        loop {
            let state = tls.process_new_packets().map_err(io::Error::other)?;
            let bytes = state.plaintext_bytes_to_read();
            if bytes > 0 {
                let start = buffer.len();
                buffer.resize(start + bytes, 0);
                tls.reader().read_exact(&mut buffer[start..])?;
                return Ok(bytes);
            }
            if state.peer_has_closed() || reads(&self.stream, |mut socket| tls.read_tls(&mut socket)).await? == 0 {
                return Ok(0);
            }
        }
    }

    /// All of it. Not cancel safe.
    pub async fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            tls.writer().write_all(bytes)?;
            return flush(&self.stream, tls).await;
        }
        while !bytes.is_empty() {
            let written = writes(&self.stream, |mut socket| socket.write(bytes)).await?;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// `first`: what the client has already sent of it. Yields what SCRAM binds to. Not cancel safe.
    pub async fn secure(&mut self, mut handshake: Handshake, mut first: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let tls = &mut handshake.connection;
        loop {
            if !first.is_empty() {
                tls.read_tls(&mut first)?;
            } else if reads(&self.stream, |mut socket| tls.read_tls(&mut socket)).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let processed = tls.process_new_packets();
            // An alert tells the client why; whether it gets through changes nothing.
            let flushed = flush(&self.stream, tls).await;
            processed.map_err(io::Error::other)?;
            flushed?;
            if !tls.is_handshaking() && first.is_empty() {
                break;
            }
        }
        let (tls, end_point) = handshake.done();
        self.tls = Some(Box::new(tls));
        Ok(end_point)
    }

    /// Says goodbye. What the client has sent since is read once, as in [`Wire::linger`].
    pub fn close(&mut self) {
        let mut socket = &*SockRef::from(&self.stream);
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = tls.write_tls(&mut socket);
        }
        let _ = socket.shutdown(Shutdown::Write);
        let _ = socket.read(&mut [0; READ_BYTES]);
    }

    /// Passes over what the client still sends, until it closes: a socket that is closed with bytes unread cuts our last
    /// words off.
    pub async fn linger(&mut self, bytes_max: usize) {
        let mut passed = 0;
        while passed < bytes_max {
            match reads(&self.stream, |mut socket| socket.read(&mut [0; 4096])).await {
                Ok(0) | Err(_) => return,
                Ok(bytes) => passed += bytes,
            }
        }
    }

    /// The socket, unknown to the runtime again, and its TLS.
    pub fn into_parts(self) -> io::Result<(std::net::TcpStream, Option<Box<ServerConnection>>)> {
        Ok((self.stream.into_std()?, self.tls))
    }
}

async fn reads<T>(stream: &TcpStream, mut read: impl FnMut(&Socket) -> io::Result<T>) -> io::Result<T> {
    let socket = SockRef::from(stream);
    match read(&socket) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            stream.async_io(Interest::READABLE, || read(&socket)).await
        }
        result => result,
    }
}

async fn writes<T>(stream: &TcpStream, mut write: impl FnMut(&Socket) -> io::Result<T>) -> io::Result<T> {
    let socket = SockRef::from(stream);
    match write(&socket) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            stream.async_io(Interest::WRITABLE, || write(&socket)).await
        }
        result => result,
    }
}

async fn flush(stream: &TcpStream, tls: &mut ServerConnection) -> io::Result<()> {
    while tls.wants_write() {
        writes(stream, |mut socket| tls.write_tls(&mut socket)).await?;
    }
    Ok(())
}
