//! A question of our own over a connection that has just been opened.

use super::Reached;
use crate::postgres;
use crate::router::handover::OpenError;
use crate::router::protocol::server_login::refused;

/// Columns as text; `None` is NULL.
type Row = Vec<Option<String>>;

impl Reached {
    /// The rows of a simple query's answer. After an error the connection is good for nothing.
    pub async fn ask(&mut self, sql: &str, bytes_max: usize) -> Result<Vec<Row>, OpenError> {
        let lost = |error: std::io::Error| cut_off(&error.to_string());
        let length = u32::try_from(sql.len() + 5).expect("our own query is short");
        let query = [b"Q", &length.to_be_bytes()[..], sql.as_bytes(), &[0]].concat();
        self.stream.write_all(&query).await.map_err(lost)?;
        let mut answer = std::mem::take(&mut self.login.received);
        let mut at = 0;
        loop {
            while let Some((tag, _, next)) = message(&answer, at) {
                at = next;
                if tag == b'Z' {
                    self.login.received = answer.split_off(at);
                    return rows(&answer);
                }
            }
            if answer.len() > bytes_max {
                return Err(cut_off("it sent more than was asked for"));
            }
            if self.stream.read(&mut answer).await.map_err(lost)? == 0 {
                return Err(cut_off("it closed the connection"));
            }
        }
    }

    /// Of its write-ahead log: one higher with each promotion. `None` where it does not say.
    pub async fn timeline(&mut self) -> Option<u32> {
        let rows = self.ask(postgres::TIMELINE, 4096).await.ok()?;
        postgres::timeline_from(rows.first()?.first()?.as_deref()?)
    }
}

/// The message that begins at `at`, if it is whole: its tag, its body, and where the next one begins.
fn message(bytes: &[u8], at: usize) -> Option<(u8, &[u8], usize)> {
    let (&[tag, a, b, c, d], rest) = bytes.get(at..)?.split_first_chunk()?;
    let length = (u32::from_be_bytes([a, b, c, d]) as usize).saturating_sub(4);
    Some((tag, rest.get(..length)?, at + 5 + length))
}

fn rows(answer: &[u8]) -> Result<Vec<Row>, OpenError> {
    let (mut rows, mut at) = (Vec::new(), 0);
    while let Some((tag, body, next)) = message(answer, at) {
        match tag {
            b'D' => rows.push(columns(body).ok_or_else(|| cut_off("a row is cut"))?),
            b'E' => return Err(refused(body.to_vec())),
            _ => {}
        }
        at = next;
    }
    Ok(rows)
}

fn columns(row: &[u8]) -> Option<Vec<Option<String>>> {
    let (count, mut rest) = row.split_first_chunk()?;
    let mut columns = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, after) = rest.split_first_chunk()?;
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            columns.push(None);
            rest = after;
            continue;
        };
        let (value, after) = after.split_at_checked(length)?;
        columns.push(Some(String::from_utf8_lossy(value).into_owned()));
        rest = after;
    }
    Some(columns)
}

fn cut_off(what: &str) -> OpenError {
    OpenError::Unreachable { detail: what.to_owned() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_answer_makes_us_panic(bytes: Vec<u8>, body: Vec<u8>) {
            let length = u32::try_from(body.len() + 4).expect("short").to_be_bytes();
            let _ = rows(&bytes);
            let _ = rows(&[b"D", &length[..], &body].concat());
        }
    }
}
