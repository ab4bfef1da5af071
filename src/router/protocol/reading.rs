//! Whether Postgres reads a text in the words that it seems to have here.

use super::back::Back;
use super::front::Front;

/// How the server reads a text, as it said last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Reading {
    /// A backslash hides the quote after it.
    backslashes: bool,
    /// The second byte of a character may be a backslash.
    halves: bool,
}

const BACKSLASHES: &str = "standard_conforming_strings";
const ENCODING: &str = "client_encoding";

impl Reading {
    pub fn depends_on(parameter: &str) -> bool {
        [BACKSLASHES, ENCODING].contains(&parameter)
    }

    /// From ParameterStatus.
    pub fn of<T: AsRef<str>>(parameters: &[(T, T)]) -> Reading {
        let told =
            |name: &str| parameters.iter().find(|(known, _)| known.as_ref() == name).map(|(_, value)| value.as_ref());
        Reading {
            backslashes: told(BACKSLASHES).is_some_and(|value| value != "on"),
            halves: told(ENCODING).is_some_and(|encoding| !is_plain(encoding)),
        }
    }

    /// A string in it may end elsewhere than it seems to.
    pub fn misleads(self, text: &[u8]) -> bool {
        self.backslashes && has_hidden_quote(text) || self.halves && !text.is_ascii()
    }
}

fn has_hidden_quote(text: &[u8]) -> bool {
    text.windows(2).any(|pair| pair == b"\\'")
}

/// No byte of a longer character of this encoding is ASCII. Postgres knows each by several names; of one that is not known
/// here nothing is believed.
pub(super) fn is_plain(encoding: &str) -> bool {
    let name: String = encoding.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    let families = ["utf8", "unicode", "sqlascii", "latin", "iso8859", "win125", "windows125", "koi8", "euc", "mule"];
    families.iter().any(|family| name.starts_with(family))
        || [
            "win",
            "windows866",
            "win866",
            "win874",
            "windows874",
            "abc",
            "alt",
            "tcvn",
            "tcvn5712",
            "vscii",
            "default",
        ]
        .contains(&&*name)
}

impl Front {
    /// What its session is left with by a text that nobody can read for sure must meet no other client.
    pub(super) fn doubt(&mut self, back: &Back, text: &[u8]) {
        if back.reading.misleads(text) {
            self.pin = self.pin.or(Some("a text whose quotes are in doubt"));
        }
    }

    /// The words of `text` may be others when it is read, because of what is under way.
    pub(super) fn may_mislead(&self, back: &Back, text: &[u8]) -> bool {
        let under_way = back.owes() && (has_hidden_quote(text) || self.keeps_server() && !text.is_ascii());
        under_way || back.reading.misleads(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bytes_that_may_be_half_of_something_mislead() {
        let under = |encoding: &str, conforming: &str| {
            Reading::of(&[("client_encoding", encoding), ("standard_conforming_strings", conforming)])
        };
        let (hidden, halves) = (&b"select '\\' ; drop table t; --'"[..], &b"select E'\x83\\'; drop table t; --'"[..]);
        assert!(!under("UTF8", "on").misleads(hidden) && under("UTF8", "off").misleads(hidden));
        assert!(!under("UTF8", "off").misleads(b"select 'it''s'"));
        for encoding in ["SJIS", "BIG5", "GBK", "UHC", "JOHAB", "GB18030", "SHIFT_JIS_2004"] {
            assert!(
                under(encoding, "on").misleads(halves) && !under(encoding, "on").misleads(b"select 1"),
                "{encoding}"
            );
        }
        for encoding in ["UTF8", "utf-8", "LATIN1", "EUC_JP", "EUC_JIS_2004", "WIN1252", "SQL_ASCII", "ISO_8859_5"] {
            assert!(!under(encoding, "on").misleads(halves), "{encoding}");
        }
        assert!(!Reading::of::<&str>(&[]).misleads(halves));
    }
}
