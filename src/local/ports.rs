//! Free ports of this machine. A port is kept for the life of a service, so it comes from below the range that the
//! kernel lends to outgoing connections, where another program could take it while we are down.

use std::collections::BTreeSet;
use std::net::TcpListener;

use aws_lc_rs::rand;

use super::error::Error;

const FROM: u16 = 20_000;
const TO: u16 = 30_000;
/// A machine on which that many draws find no free port has none to spare.
const TRIES_MAX: usize = 1_000;

/// `count` different ports that are free now and not in `avoid`.
pub fn find(count: usize, avoid: &BTreeSet<u16>) -> Result<Vec<u16>, Error> {
    let mut found = BTreeSet::new();
    for _ in 0..TRIES_MAX.max(count * 4) {
        if found.len() >= count {
            break;
        }
        let mut bytes = [0; 2];
        rand::fill(&mut bytes).map_err(|_| Error::NoChance)?;
        let port = FROM + u16::from_le_bytes(bytes) % (TO - FROM);
        if !avoid.contains(&port) && is_free(port) {
            found.insert(port);
        }
    }
    if found.len() < count { Err(Error::NoPort { from: FROM, to: TO }) } else { Ok(found.into_iter().collect()) }
}

pub fn find_two() -> Result<[u16; 2], Error> {
    let found = find(2, &BTreeSet::new())?;
    Ok([found[0], found[1]])
}

pub fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_different_and_outside_the_kernels_own_range() {
        let avoid = BTreeSet::from([FROM]);
        let found = find(40, &avoid).expect("a machine with ports");
        let different: BTreeSet<u16> = found.iter().copied().collect();
        assert_eq!(different.len(), 40);
        assert!(found.iter().all(|port| (FROM..TO).contains(port) && *port != FROM));
    }

    #[test]
    fn a_port_in_use_is_not_free() {
        let taken = TcpListener::bind(("127.0.0.1", 0)).expect("bound");
        assert!(!is_free(taken.local_addr().expect("bound").port()));
    }
}
