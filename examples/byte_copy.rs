//! The floor a proxy is measured against: accepts connections and copies bytes both ways to one address, with epoll and
//! nothing else. Usage: byte_copy LISTEN TARGET

use std::collections::HashMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const LISTENER: Token = Token(usize::MAX);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().ok_or("usage: byte_copy LISTEN TARGET");
    let (listen, target): (SocketAddr, SocketAddr) = (next()?.parse()?, next()?.parse()?);
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(listen)?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut streams: HashMap<usize, TcpStream> = HashMap::new();
    let (mut events, mut buffer, mut pairs) = (Events::with_capacity(1024), vec![0; 64 * 1024], 0);
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut client, _)) = listener.accept() {
                    client.set_nodelay(true)?;
                    // Blocking: a loopback connect is over at once, and the floor is not about connects.
                    let server = std::net::TcpStream::connect(target)?;
                    server.set_nodelay(true)?;
                    server.set_nonblocking(true)?;
                    let mut server = TcpStream::from_std(server);
                    for (stream, place) in [(&mut client, pairs * 2), (&mut server, pairs * 2 + 1)] {
                        poll.registry().register(stream, Token(place), Interest::READABLE)?;
                    }
                    streams.insert(pairs * 2, client);
                    streams.insert(pairs * 2 + 1, server);
                    pairs += 1;
                }
                continue;
            }
            let (from, to) = (event.token().0, event.token().0 ^ 1);
            if !copy(&mut streams, from, to, &mut buffer) {
                streams.remove(&from);
                streams.remove(&to);
            }
        }
    }
}

/// Everything that is there, from one side to the other; `false`: one of them has ended.
fn copy(streams: &mut HashMap<usize, TcpStream>, from: usize, to: usize, buffer: &mut [u8]) -> bool {
    loop {
        let Some(source) = streams.get_mut(&from) else { return false };
        let read = match source.read(buffer) {
            Ok(0) => return false,
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
            Err(_) => return false,
        };
        let Some(sink) = streams.get_mut(&to) else { return false };
        let mut sent = 0;
        while sent < read {
            match sink.write(&buffer[sent..read]) {
                Ok(written) => sent += written,
                // The floor waits where a proxy would turn to others; it is measured with readers that keep up.
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(_) => return false,
            }
        }
        if read < buffer.len() {
            return true;
        }
    }
}
