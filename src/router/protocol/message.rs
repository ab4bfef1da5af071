//! One message of the client's, as far as it is there.

use super::frame::{BadLength, HEAD, INSPECT_MAX, split_nul};

/// The client breaks the protocol, or a bound. It ends the session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error(transparent)]
    Length(#[from] BadLength),
    #[error("invalid frontend message type {0}")]
    Tag(u8),
    #[error("invalid message format")]
    Format,
    #[error("the session holds too many prepared statements")]
    Statements,
}

pub(super) enum Passed {
    /// More bytes are needed to decide.
    Short,
    /// Replies must come first.
    Later,
    /// It goes on as it is.
    Whole,
    /// Something else was sent for the first `taken` bytes of it.
    Instead { taken: usize },
}

/// Portal and statement.
pub(super) type Names<'a> = (&'a [u8], &'a [u8]);

pub(super) struct Message<'a> {
    pub(super) at: usize,
    pub(super) total: usize,
    pub(super) input: &'a [u8],
}

impl<'a> Message<'a> {
    /// Whole, head included. Only where [`Message::body`] has answered something.
    pub(super) fn bytes(&self) -> &'a [u8] {
        &self.input[self.at..self.at + self.total]
    }

    pub(super) fn body(&self) -> Option<&'a [u8]> {
        self.input.get(self.at + HEAD..self.at + self.total)
    }

    /// As much of the body as is there.
    pub(super) fn start(&self) -> &'a [u8] {
        &self.input[self.at + HEAD..(self.at + self.total).min(self.input.len())]
    }

    /// Of a message that is never longer than a name or two.
    pub(super) fn small_body(&self) -> Result<Option<&'a [u8]>, Broken> {
        if self.total > INSPECT_MAX { Err(Broken::Format) } else { Ok(self.body()) }
    }

    /// Both names a Bind begins with, without the rest of it.
    pub(super) fn two_names(&self) -> Result<Option<Names<'a>>, Broken> {
        let there = self.start();
        let names = split_nul(there).and_then(|(portal, rest)| Some((portal, split_nul(rest)?.0)));
        match names {
            Some(names) => Ok(Some(names)),
            None if there.len() + HEAD >= self.total.min(INSPECT_MAX) => Err(Broken::Format),
            None => Ok(None),
        }
    }
}

/// Of Describe and Close.
pub(super) fn kind_and_name(body: &[u8]) -> Result<(u8, &[u8]), Broken> {
    let (&kind, rest) = body.split_first().ok_or(Broken::Format)?;
    let (name, _) = split_nul(rest).ok_or(Broken::Format)?;
    Ok((kind, name))
}

pub(super) fn length(total: usize) -> [u8; 4] {
    u32::try_from(total - 1).unwrap_or(u32::MAX).to_be_bytes()
}
