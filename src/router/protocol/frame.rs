//! Heads of messages, and what a step over a buffer wants sent: pieces of the buffer itself, with what was made in between.

use std::io::IoSlice;
use std::ops::Range;

/// Tag and length.
pub const HEAD: usize = 5;
/// A message is read whole, where it must be, up to this size; anything longer is passed on as it comes.
pub const INSPECT_MAX: usize = 64 * 1024;

/// Pieces are copied together up to this size.
const JOINED_MAX: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub tag: u8,
    /// With tag and length.
    pub total: usize,
}

/// `None` while fewer than [`HEAD`] bytes are there; `Err` for a length no message has.
pub fn head(bytes: &[u8]) -> Result<Option<Head>, BadLength> {
    let &[tag, a, b, c, d, ..] = bytes else { return Ok(None) };
    let length = i32::from_be_bytes([a, b, c, d]);
    match usize::try_from(length) {
        Ok(length) if length >= 4 => Ok(Some(Head { tag, total: length + 1 })),
        _ => Err(BadLength { tag, length }),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid message length {length}")]
pub struct BadLength {
    pub tag: u8,
    pub length: i32,
}

/// The text before the next nul, and what follows the nul.
pub fn split_nul(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(0, bytes)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

/// Appends a whole message; `body` writes what follows the length.
pub fn put(out: &mut Vec<u8>, tag: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    let length = u32::try_from(out.len() - at).unwrap_or(u32::MAX);
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Input(Range<usize>),
    Made(Range<usize>),
}

/// Bytes to send: ranges of the input that was stepped over, which are not copied, and bytes made on the way.
#[derive(Debug, Default)]
pub struct Out {
    made: Vec<u8>,
    pieces: Vec<Piece>,
}

impl Out {
    pub fn clear(&mut self) {
        self.made.clear();
        self.pieces.clear();
    }

    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    pub fn bytes(&self) -> usize {
        self.pieces.iter().map(|(Piece::Input(range) | Piece::Made(range))| range.len()).sum()
    }

    /// Passes on `range` of the input.
    pub fn pass(&mut self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        match self.pieces.last_mut() {
            Some(Piece::Input(last)) if last.end == range.start => last.end = range.end,
            _ => self.pieces.push(Piece::Input(range)),
        }
    }

    pub fn make(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.made.len();
        write(&mut self.made);
        let end = self.made.len();
        match self.pieces.last_mut() {
            Some(Piece::Made(last)) => last.end = end,
            _ if start < end => self.pieces.push(Piece::Made(start..end)),
            _ => {}
        }
    }

    pub fn slices<'a>(&'a self, input: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.pieces.iter().map(|piece| match piece {
            Piece::Input(range) => &input[range.clone()],
            Piece::Made(range) => &self.made[range.clone()],
        })
    }

    pub fn io_slices<'a>(&'a self, input: &'a [u8]) -> Vec<IoSlice<'a>> {
        self.slices(input).map(IoSlice::new).collect()
    }

    /// All of it as one slice: where it is one, or so short that a copy costs less than a write of several pieces.
    pub fn joined<'a>(&'a mut self, input: &'a [u8]) -> Option<&'a [u8]> {
        if let [Piece::Input(range)] = self.pieces.as_slice() {
            return Some(&input[range.clone()]);
        }
        if self.slices(input).map(<[u8]>::len).sum::<usize>() > JOINED_MAX {
            return None;
        }
        let start = self.made.len();
        for piece in &self.pieces {
            match piece {
                Piece::Input(range) => self.made.extend_from_slice(&input[range.clone()]),
                Piece::Made(range) => self.made.extend_from_within(range.clone()),
            }
        }
        Some(&self.made[start..])
    }

    pub fn flat(&self, input: &[u8]) -> Vec<u8> {
        self.slices(input).flatten().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_58_a_length_below_four_is_no_message() {
        assert_eq!(head(b"Q\0\0\0"), Ok(None));
        assert_eq!(head(b"Q\0\0\0\x03"), Err(BadLength { tag: b'Q', length: 3 }));
        assert_eq!(head(b"Q\xff\xff\xff\xff"), Err(BadLength { tag: b'Q', length: -1 }));
        assert_eq!(head(b"S\0\0\0\x04"), Ok(Some(Head { tag: b'S', total: 5 })));
    }

    #[test]
    fn neighbouring_pieces_are_one() {
        let mut out = Out::default();
        out.pass(0..2);
        out.pass(2..4);
        assert_eq!(out.slices(b"abcdef").count(), 1);
        assert_eq!(out.joined(b"abcdef"), Some(&b"abcd"[..]));
        out.make(|made| made.extend_from_slice(b"XY"));
        out.make(|made| made.extend_from_slice(b"Z"));
        out.pass(5..6);
        assert_eq!(out.flat(b"abcdef"), b"abcdXYZf");
        assert_eq!(out.slices(b"abcdef").count(), 3);
        assert_eq!(out.joined(b"abcdef"), Some(&b"abcdXYZf"[..]));
        out.pass(0..JOINED_MAX);
        assert_eq!(out.joined(&[0; JOINED_MAX]), None);
    }
}
