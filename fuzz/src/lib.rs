//! What is fuzzed, each as a function of bytes that panics where a law is broken: `fuzz_targets/` hands them to libFuzzer,
//! and `tests/it/fuzz.rs` runs the same ones, bounded, in `make test`.
//! Read: session (after the login), server (a Postgres to try it on), login, files.

mod files;
mod login;
mod server;
mod session;

pub use files::{jwt, routes};
pub use login::{identify, scram, startup};
pub use session::{client, replies, session};

/// A target's name, and what it runs.
pub type Entry = (&'static str, fn(&[u8]));

pub const ENTRIES: [Entry; 8] = [
    ("startup", startup),
    ("client", client),
    ("replies", replies),
    ("session", session),
    ("scram", scram),
    ("jwt", jwt),
    ("routes", routes),
    ("identify", identify),
];

/// `bytes` cut into pieces, their lengths chosen by `seed`.
fn pieces(bytes: &[u8], seed: u8) -> Vec<&[u8]> {
    let (mut pieces, mut rest, mut state) = (Vec::new(), bytes, u32::from(seed));
    while pieces.is_empty() || !rest.is_empty() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let length = 1 + (state >> 8) as usize % (1 << (seed % 12));
        let (piece, after) = rest.split_at(length.min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// The first byte, and what follows it; 0 where there is none.
fn first(data: &[u8]) -> (u8, &[u8]) {
    data.split_first().map_or((0, data), |(&first, rest)| (first, rest))
}

/// A part with its length, two bytes, before it; all that is left where that is less.
fn part(data: &[u8]) -> (&[u8], &[u8]) {
    let Some((length, rest)) = data.split_first_chunk() else { return (data, &[]) };
    rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()))
}
