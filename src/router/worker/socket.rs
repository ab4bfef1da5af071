//! One non-blocking connection, encrypted or not, with what could not be written yet.

use std::io::{self, ErrorKind, IoSlice, Read as _, Write as _};

use mio::net::TcpStream;
use rustls::Connection;

/// What is left of a write waits in a buffer of this size at most; the writer stops reading its own source before that.
const SLICES_MAX: usize = 16;

#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    tls: Option<Box<Connection>>,
    /// Plain text that waits for room.
    unsent: Vec<u8>,
    /// An edge was seen and nothing has said since that there is no more.
    pub readable: bool,
    /// The end of what it says is there already, perhaps behind bytes that were not read yet.
    ended: bool,
}

/// What a read came to.
pub(super) enum Got {
    Bytes(usize),
    Nothing,
    End,
}

impl Socket {
    pub fn new(stream: std::net::TcpStream, tls: Option<Box<Connection>>) -> Socket {
        Socket { stream: TcpStream::from_std(stream), tls, unsent: Vec::new(), readable: true, ended: false }
    }

    pub fn source(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// An edge: there is something to read, the end perhaps.
    pub fn see(&mut self, ended: bool) {
        self.readable = true;
        self.ended |= ended;
    }

    /// Nothing more will come, though what came before may not be read yet.
    pub fn hung_up(&self) -> bool {
        self.ended
    }

    pub fn blocked(&self) -> bool {
        !self.unsent.is_empty() || self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// At most one read of the socket. [`Socket::readable`] is false afterwards where the next one would find nothing.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<Got> {
        let Some(tls) = &mut self.tls else {
            let got = retry(|| self.stream.read(buffer));
            return Ok(match got {
                Ok(0) => {
                    self.readable = false;
                    Got::End
                }
                Ok(n) => {
                    // A short read has emptied the socket; the next byte makes a new edge, but an end that is there does not.
                    self.readable = n == buffer.len() || self.ended;
                    Got::Bytes(n)
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.readable = false;
                    Got::Nothing
                }
                Err(error) => return Err(error),
            });
        };
        loop {
            match tls.reader().read(buffer) {
                Ok(0) => return Ok(Got::End),
                Ok(n) => return Ok(Got::Bytes(n)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // Closed without goodbye: for Postgres' protocol an end like any other.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(Got::End),
                Err(error) => return Err(error),
            }
            match retry(|| tls.read_tls(&mut self.stream)) {
                Ok(0) => {
                    self.readable = false;
                    return Ok(Got::End);
                }
                Ok(_) => tls
                    .process_new_packets()
                    .map(drop)
                    .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.readable = false;
                    return Ok(Got::Nothing);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// All of it is taken; what the socket does not take now waits until [`Socket::flush`].
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.tls.is_some() {
            self.write_tls(bytes)?;
            return self.flush();
        }
        let done = if self.unsent.is_empty() { write_now(|| self.stream.write(bytes))? } else { 0 };
        self.unsent.extend_from_slice(&bytes[done..]);
        Ok(())
    }

    /// Several pieces at once, in one system call where that is enough.
    pub fn write_all(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<()> {
        if self.tls.is_some() {
            for piece in pieces {
                self.write_tls(piece)?;
            }
            return self.flush();
        }
        let mut done = 0;
        if self.unsent.is_empty() {
            done = write_now(|| self.stream.write_vectored(&pieces[..pieces.len().min(SLICES_MAX)]))?;
        }
        for piece in pieces {
            let skip = done.min(piece.len());
            done -= skip;
            self.unsent.extend_from_slice(&piece[skip..]);
        }
        // More pieces than one call takes: the socket may well have room for them.
        if pieces.len() > SLICES_MAX { self.flush() } else { Ok(()) }
    }

    fn write_tls(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        if !self.unsent.is_empty() {
            self.unsent.extend_from_slice(bytes);
            return Ok(());
        }
        let done = tls.writer().write(bytes)?;
        self.unsent.extend_from_slice(&bytes[done..]);
        Ok(())
    }

    pub fn flush(&mut self) -> io::Result<()> {
        loop {
            if let Some(tls) = &mut self.tls {
                while tls.wants_write() {
                    match retry(|| tls.write_tls(&mut self.stream)) {
                        Ok(_) => {}
                        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                        Err(error) => return Err(error),
                    }
                }
                if self.unsent.is_empty() {
                    return Ok(());
                }
                let done = tls.writer().write(&self.unsent)?;
                self.unsent.drain(..done);
            } else {
                if self.unsent.is_empty() {
                    return Ok(());
                }
                let done = write_now(|| self.stream.write(&self.unsent))?;
                self.unsent.drain(..done);
                if !self.unsent.is_empty() {
                    return Ok(());
                }
            }
            if self.unsent.is_empty() {
                // An idle connection holds no buffer.
                self.unsent = Vec::new();
            }
        }
    }

    /// Says goodbye where TLS wants it; the socket itself closes when it is dropped.
    pub fn close(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = tls.write_tls(&mut self.stream);
        }
    }
}

/// How much the socket takes now; 0 where it has no room.
fn write_now(write: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    match retry(write) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        done => done,
    }
}

fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}
