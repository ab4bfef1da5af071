//! What is counted of a server's answers: commands by their tags, transactions, errors by class.

use crate::tenancy::Usage;

/// Of one step over a server's bytes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    pub reads: u32,
    pub writes: u32,
    pub ddl: u32,
    pub other: u32,
    pub rows: u64,
    pub transactions: u32,
    pub errors: u32,
    /// Commands of a Query beyond its first.
    pub more: u32,
    /// By [`class`].
    pub classes: [u32; 5],
}

impl Tally {
    /// CommandComplete; `copied_in`: the rows of a COPY came from the client.
    pub(super) fn complete(&mut self, tag: &[u8], copied_in: bool) {
        let tag = tag.strip_suffix(b"\0").unwrap_or(tag);
        let word = tag.split(|&byte| byte == b' ').next().unwrap_or_default();
        let (count, rows) = match word {
            b"SELECT" | b"FETCH" => (&mut self.reads, true),
            b"COPY" if !copied_in => (&mut self.reads, true),
            b"INSERT" | b"UPDATE" | b"DELETE" | b"MERGE" | b"COPY" => (&mut self.writes, true),
            b"TRUNCATE" => (&mut self.writes, false),
            b"CREATE" | b"ALTER" | b"DROP" | b"COMMENT" | b"GRANT" | b"REVOKE" | b"REFRESH" | b"REINDEX"
            | b"REASSIGN" | b"SECURITY" | b"IMPORT" => (&mut self.ddl, false),
            _ => (&mut self.other, false),
        };
        *count += 1;
        if rows {
            // `INSERT 0 5`, `SELECT 5`; `SELECT` alone is how old servers end CREATE TABLE AS.
            let last = tag.rsplit(|&byte| byte == b' ').next().unwrap_or_default();
            self.rows = self.rows.saturating_add(number(last));
        }
    }

    /// A command has ended, well or not.
    pub fn ended_some(&self) -> bool {
        self.reads + self.writes + self.ddl + self.other + self.errors > 0
    }

    pub(super) fn error(&mut self, sqlstate: Option<&[u8]>) {
        self.errors += 1;
        self.classes[class(sqlstate)] += 1;
    }

    pub fn add_to(&self, usage: &mut Usage) {
        let add = |to: &mut u64, count: u32| *to = to.saturating_add(u64::from(count));
        add(&mut usage.reads, self.reads);
        add(&mut usage.writes, self.writes);
        add(&mut usage.ddl, self.ddl);
        add(&mut usage.other, self.other);
        add(&mut usage.transactions, self.transactions);
        usage.rows = usage.rows.saturating_add(self.rows);
        if self.errors > 0 {
            let [statement, constraint, transaction, resources, other] = self.classes;
            add(&mut usage.errors_statement, statement);
            add(&mut usage.errors_constraint, constraint);
            add(&mut usage.errors_transaction, transaction);
            add(&mut usage.errors_resources, resources);
            add(&mut usage.errors_other, other);
        }
    }
}

/// 0 where it is none.
fn number(text: &[u8]) -> u64 {
    let digit = |sum: u64, byte: &u8| match byte {
        b'0'..=b'9' => sum.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    };
    text.iter().try_fold(0, digit).unwrap_or(0)
}

/// Place in [`Tally::classes`]; PostgreSQL's appendix of error codes lists the classes.
fn class(sqlstate: Option<&[u8]>) -> usize {
    match sqlstate.and_then(|code| code.get(..2)) {
        Some(
            b"03" | b"0A" | b"0B" | b"20" | b"21" | b"22" | b"24" | b"26" | b"34" | b"38" | b"39" | b"42" | b"P0",
        ) => 0,
        Some(b"23" | b"27" | b"44") => 1,
        Some(b"25" | b"2D" | b"3B" | b"40" | b"55") => 2,
        Some(b"53" | b"54" | b"57") => 3,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(tags: &[&str], copied_in: bool) -> [u64; 5] {
        let mut tally = Tally::default();
        for tag in tags {
            tally.complete(format!("{tag}\0").as_bytes(), copied_in);
        }
        [tally.reads.into(), tally.writes.into(), tally.ddl.into(), tally.other.into(), tally.rows]
    }

    #[test]
    fn commands_are_told_apart_by_their_tags_and_rows_are_their_last_number() {
        assert_eq!(tally(&["SELECT 3", "FETCH 4", "SELECT"], false), [3, 0, 0, 0, 7]);
        assert_eq!(
            tally(&["INSERT 0 5", "UPDATE 1", "DELETE 0", "MERGE 2", "TRUNCATE TABLE"], false),
            [0, 5, 0, 0, 8]
        );
        assert_eq!(tally(&["COPY 7"], false), [1, 0, 0, 0, 7]);
        assert_eq!(tally(&["COPY 7"], true), [0, 1, 0, 0, 7]);
        assert_eq!(
            tally(&["CREATE TABLE", "DROP ROLE", "GRANT", "REFRESH MATERIALIZED VIEW"], false),
            [0, 0, 4, 0, 0]
        );
        assert_eq!(tally(&["BEGIN", "COMMIT", "SET", "EXPLAIN", "CALL", "MOVE 3", ""], false), [0, 0, 0, 7, 0]);
        assert_eq!(tally(&["SELECT 99999999999999999999", "SELECT x"], false), [2, 0, 0, 0, 0]);
    }

    #[test]
    fn errors_are_counted_by_class() {
        let mut tally = Tally::default();
        for code in ["42P01", "22012", "23505", "40001", "55P03", "57014", "53300", "XX000", "", "4"] {
            tally.error(Some(code.as_bytes()));
        }
        tally.error(None);
        assert_eq!((tally.errors, tally.classes), (11, [2, 1, 2, 2, 4]));
        let mut usage = Usage::default();
        tally.add_to(&mut usage);
        assert_eq!(usage.errors(), 11);
    }
}
