//! What the router itself has to say to a client: ErrorResponse and NoticeResponse, built field by field.

use std::borrow::Cow;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The connection ends.
    Fatal,
    /// The statement ends, the session stays.
    Error,
    Warning,
    Notice,
}

impl Severity {
    fn word(self) -> &'static str {
        match self {
            Severity::Fatal => "FATAL",
            Severity::Error => "ERROR",
            Severity::Warning => "WARNING",
            Severity::Notice => "NOTICE",
        }
    }

    fn tag(self) -> u8 {
        match self {
            Severity::Fatal | Severity::Error => b'E',
            Severity::Warning | Severity::Notice => b'N',
        }
    }
}

/// Five characters of `0-9A-Z`, as in appendix A of Postgres' manual.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SqlState(pub [u8; 5]);

impl SqlState {
    pub const PROTOCOL_VIOLATION: SqlState = SqlState(*b"08P01");
    pub const CONNECTION_FAILURE: SqlState = SqlState(*b"08006");
    pub const FEATURE_NOT_SUPPORTED: SqlState = SqlState(*b"0A000");
    pub const INVALID_PARAMETER_VALUE: SqlState = SqlState(*b"22023");
    pub const READ_ONLY_TRANSACTION: SqlState = SqlState(*b"25006");
    pub const IDLE_IN_TRANSACTION_TIMEOUT: SqlState = SqlState(*b"25P03");
    pub const INVALID_STATEMENT_NAME: SqlState = SqlState(*b"26000");
    pub const INVALID_AUTHORIZATION: SqlState = SqlState(*b"28000");
    pub const INVALID_PASSWORD: SqlState = SqlState(*b"28P01");
    pub const INVALID_DATABASE: SqlState = SqlState(*b"3D000");
    pub const SYNTAX_ERROR: SqlState = SqlState(*b"42601");
    pub const INSUFFICIENT_PRIVILEGE: SqlState = SqlState(*b"42501");
    pub const DUPLICATE_STATEMENT: SqlState = SqlState(*b"42P05");
    pub const DISK_FULL: SqlState = SqlState(*b"53100");
    pub const OUT_OF_MEMORY: SqlState = SqlState(*b"53200");
    pub const TOO_MANY_CONNECTIONS: SqlState = SqlState(*b"53300");
    pub const LIMIT_EXCEEDED: SqlState = SqlState(*b"53400");
    pub const QUERY_CANCELED: SqlState = SqlState(*b"57014");
    pub const ADMIN_SHUTDOWN: SqlState = SqlState(*b"57P01");
    pub const CANNOT_CONNECT_NOW: SqlState = SqlState(*b"57P03");
    pub const IDLE_SESSION_TIMEOUT: SqlState = SqlState(*b"57P05");
}

impl std::fmt::Display for SqlState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|&byte| std::fmt::Write::write_char(f, char::from(byte)))
    }
}

/// One message to a client. Texts are meant for the tenant to read; borrowed ones cost no allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report<'a> {
    pub severity: Severity,
    pub code: SqlState,
    pub message: Cow<'a, str>,
    pub detail: Option<Cow<'a, str>>,
    pub hint: Option<Cow<'a, str>>,
}

impl<'a> Report<'a> {
    pub fn new(severity: Severity, code: SqlState, message: impl Into<Cow<'a, str>>) -> Report<'a> {
        Report { severity, code, message: message.into(), detail: None, hint: None }
    }

    pub fn fatal(code: SqlState, message: impl Into<Cow<'a, str>>) -> Report<'a> {
        Report::new(Severity::Fatal, code, message)
    }

    pub fn error(code: SqlState, message: impl Into<Cow<'a, str>>) -> Report<'a> {
        Report::new(Severity::Error, code, message)
    }

    /// With the code of success, as Postgres sends its own notices.
    pub fn notice(message: impl Into<Cow<'a, str>>) -> Report<'a> {
        Report::new(Severity::Notice, SqlState(*b"00000"), message)
    }

    pub fn detail(self, detail: impl Into<Cow<'a, str>>) -> Report<'a> {
        Report { detail: Some(detail.into()), ..self }
    }

    pub fn hint(self, hint: impl Into<Cow<'a, str>>) -> Report<'a> {
        Report { hint: Some(hint.into()), ..self }
    }

    /// Appends the whole message, its type and length in front.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(self.severity.tag());
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        field(out, b'S', self.severity.word().as_bytes());
        field(out, b'V', self.severity.word().as_bytes());
        field(out, b'C', &self.code.0);
        field(out, b'M', self.message.as_bytes());
        for (tag, text) in [(b'D', &self.detail), (b'H', &self.hint)] {
            if let Some(text) = text {
                field(out, tag, text.as_bytes());
            }
        }
        out.push(0);
        let length = u32::try_from(out.len() - start).expect("our texts are shorter than 4 GiB");
        out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.message.len());
        self.write(&mut out);
        out
    }
}

/// A nul would end the field early and let a name in a message forge the fields after it.
fn field(out: &mut Vec<u8>, tag: u8, text: &[u8]) {
    out.push(tag);
    out.extend(text.iter().map(|&byte| if byte == 0 { b'?' } else { byte }));
    out.push(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_all_its_fields_in_postgres_order() {
        let report = Report::fatal(SqlState::INVALID_PASSWORD, "no").detail("why").hint("what next");
        let body: &[u8] = b"SFATAL\0VFATAL\0C28P01\0Mno\0Dwhy\0Hwhat next\0\0";
        let mut expected = vec![b'E', 0, 0, 0, 4 + body.len() as u8];
        expected.extend_from_slice(body);
        assert_eq!(report.to_bytes(), expected);
    }

    #[test]
    fn a_notice_is_another_message_with_the_code_of_success() {
        let bytes = Report::notice("still waiting").to_bytes();
        assert_eq!(bytes[0], b'N');
        assert_eq!(&bytes[5..], b"SNOTICE\0VNOTICE\0C00000\0Mstill waiting\0\0");
    }

    #[test]
    fn a_nul_in_a_name_cannot_forge_a_field() {
        let bytes = Report::error(SqlState::SYNTAX_ERROR, "a\0C00000").to_bytes();
        assert!(bytes.ends_with(b"Ma?C00000\0\0"), "{bytes:?}");
    }
}
