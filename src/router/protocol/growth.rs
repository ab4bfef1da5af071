//! Whether a text makes its database larger, told from its words. Where they leave doubt it does. What a function does that
//! a SELECT calls nobody can tell: for that there is a harder stop above the ceiling.

use super::sql::{Token, Words, is};

/// What a database that is full, or too full, still lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord)]
pub enum Storage {
    #[default]
    Open,
    /// Reads, and what makes room.
    ReadOnly,
    /// Only what makes room.
    Shut,
}

/// In the order of what is refused first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Growth {
    /// DELETE, TRUNCATE, DROP, VACUUM, and what a transaction around them needs.
    Frees,
    Reads,
    Grows,
}

impl Storage {
    pub fn allows(self, growth: Growth) -> bool {
        match self {
            Storage::Open => true,
            Storage::ReadOnly => growth < Growth::Grows,
            Storage::Shut => growth == Growth::Frees,
        }
    }
}

/// The worst of all statements of a text.
pub fn growth(text: &[u8]) -> Growth {
    let mut words = Words { text, at: 0 };
    let mut worst = Growth::Frees;
    loop {
        worst = match words.next() {
            Token::End => return worst,
            Token::Separator => worst,
            Token::Other => worst.max(rest(Growth::Reads, &mut words)),
            Token::Word(first) => {
                let begins = beginning(first);
                worst.max(rest(begins, &mut words))
            }
        };
    }
}

fn beginning(first: &[u8]) -> Growth {
    const FREES: [&[u8]; 18] = [
        b"delete",
        b"truncate",
        b"drop",
        b"vacuum",
        b"begin",
        b"start",
        b"commit",
        b"end",
        b"rollback",
        b"abort",
        b"savepoint",
        b"release",
        b"set",
        b"show",
        b"reset",
        b"discard",
        b"deallocate",
        b"close",
    ];
    const READS: [&[u8]; 13] = [
        b"select", b"table", b"values", b"with", b"explain", b"declare", b"fetch", b"move", b"copy", b"prepare",
        b"lock", b"analyze", b"listen",
    ];
    let one_of = |list: &[&[u8]]| list.iter().any(|word| is(first, word));
    match first {
        _ if one_of(&FREES) => Growth::Frees,
        _ if one_of(&READS) => Growth::Reads,
        _ if is(first, b"unlisten") || is(first, b"notify") || is(first, b"checkpoint") => Growth::Reads,
        _ => Growth::Grows,
    }
}

/// To the end of the statement: a SELECT INTO grows, as does a WITH that inserts, a COPY that does not say TO.
fn rest(begins: Growth, words: &mut Words<'_>) -> Growth {
    let first = words.text[..words.at].trim_ascii_end().to_ascii_lowercase();
    let copies = first.ends_with(b"copy");
    let (mut grows, mut to, mut before) = (begins == Growth::Grows, false, Before::Else);
    let (mut after_to, explains) = (false, first.ends_with(b"explain"));
    loop {
        match words.next() {
            Token::End | Token::Separator => break,
            Token::Other => (before, after_to) = (Before::Else, false),
            Token::Word(word) => {
                // `FOR UPDATE` and `FOR NO KEY UPDATE` lock, `ON UPDATE` stands in no statement that only reads.
                let update = is(word, b"update") && before != Before::Locks;
                grows |= update || [&b"insert"[..], b"merge", b"into"].iter().any(|grower| is(word, grower));
                // Only where the rows go out; `to` alone may stand in an interval.
                to |= after_to && is(word, b"stdout");
                after_to = is(word, b"to");
                grows |= explains && [&b"create"[..], b"execute", b"refresh"].iter().any(|grower| is(word, grower));
                before = match () {
                    () if is(word, b"for") => Before::Locks,
                    () if before == Before::Locks && (is(word, b"no") || is(word, b"key")) => Before::Locks,
                    () => Before::Else,
                };
            }
        }
    }
    match begins {
        Growth::Frees => Growth::Frees,
        _ if grows || copies && !to => Growth::Grows,
        reads => reads,
    }
}

#[derive(PartialEq, Eq)]
enum Before {
    Locks,
    Else,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_tell_what_grows() {
        for (growth_of, texts) in [
            (
                Growth::Frees,
                vec![
                    "",
                    ";",
                    "-- nothing",
                    "delete from t",
                    "DELETE FROM t WHERE a = 'insert'",
                    "truncate t, u",
                    "drop table t",
                    "VACUUM FULL",
                    "begin; delete from t; commit",
                    "set work_mem = '1MB'",
                    "/* insert */ drop index i",
                ],
            ),
            (
                Growth::Reads,
                vec![
                    "select 1",
                    "(select 1)",
                    "table t",
                    "select * from t for update",
                    "select * from t for no key update of t",
                    "with x as (select 1) select * from x",
                    "with x as (delete from t returning *) select * from x",
                    "copy t to stdout",
                    "copy (select 1) to stdout",
                    "explain select 1",
                    "select 'insert into t'",
                    "select \"into\" from t",
                    "delete from t; select 1",
                    "declare c cursor for select 1",
                    "fetch all in c",
                ],
            ),
            (
                Growth::Grows,
                vec![
                    "insert into t values (1)",
                    "UPDATE t SET a = 1",
                    "merge into t using u on true when matched then delete",
                    "copy t from stdin",
                    "create table t (a int)",
                    "alter table t add b int",
                    "select 1 into t",
                    "with x as (insert into t values (1) returning *) select * from x",
                    "with x as (update t set a = 1 returning *) select * from x",
                    "explain analyze insert into t values (1)",
                    "select 1; insert into t values (1)",
                    "do $$begin end$$",
                    "call p()",
                    "execute p",
                    "prepare p as insert into t values (1)",
                    "refresh materialized view v",
                    "reindex table t",
                    "nonsense",
                    "copy (insert into g values (1) returning 1) to stdout",
                    "copy g from stdin where (interval '1' year to month) is null",
                    "explain analyze create table h as select 1",
                    "explain analyze execute p",
                ],
            ),
        ] {
            for text in texts {
                assert_eq!(growth(text.as_bytes()), growth_of, "{text}");
            }
        }
    }
}
