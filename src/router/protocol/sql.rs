//! What a statement does to its session, told from its words. Not a parser: strings, quoted names and comments are
//! skipped, the rest is words. Where the words leave doubt, the answer is [`Effect::Pin`].

use super::reading::is_plain;

/// What outlives the transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// `SET name …`; the statement as written, which does it again elsewhere.
    Set {
        name: Box<str>,
        statement: Box<str>,
    },
    Reset {
        name: Box<str>,
    },
    ResetAll,
    DiscardAll,
    Deallocate {
        name: Box<[u8]>,
    },
    DeallocateAll,
    /// Ends with its transaction; it answers `SET` like one that does not.
    SetLocal,
    /// COMMIT, ROLLBACK and their like: never kept from running.
    EndsTransaction,
    /// Reads what `nextval` left in the session.
    Sequences,
    /// State that cannot be carried to another server connection; for logs and metrics, why.
    Pin(&'static str),
}

/// Of a whole text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Effects {
    /// In order; empty for nearly every text.
    pub list: Vec<Effect>,
    /// There is one statement, or none.
    pub single: bool,
}

pub fn effects(text: &[u8]) -> Effects {
    let mut list = Vec::new();
    let mut words = Words { text, at: 0 };
    let mut statements = 0_usize;
    loop {
        let start = words.at;
        match words.next() {
            Token::End => return Effects { list, single: statements <= 1 },
            Token::Separator => {}
            Token::Other => {
                statements += 1;
                statement(b"", start, &mut words, &mut list);
            }
            Token::Word(first) => {
                statements += 1;
                statement(first, start, &mut words, &mut list);
            }
        }
    }
}

/// Of one whole statement, a batch of one: `SELECT 1`, `; SELECT 1;`. Nothing but blanks and comments is none.
fn statement(first: &[u8], start: usize, words: &mut Words<'_>, found: &mut Vec<Effect>) {
    let text = words.text;
    if first.len() <= 10 {
        let mut buffer = [0; 10];
        let upper = &mut buffer[..first.len()];
        upper.copy_from_slice(first);
        upper.make_ascii_uppercase();
        match &*upper {
            b"SET" => return set(start, words, found),
            b"RESET" => return reset(words, found),
            b"DISCARD" => {
                match words.word_upper().as_slice() {
                    b"ALL" => found.push(Effect::DiscardAll),
                    b"TEMP" | b"TEMPORARY" | b"SEQUENCES" | b"PLANS" => {}
                    _ => found.push(Effect::Pin("an unknown DISCARD")),
                }
                return words.skip_statement();
            }
            b"DEALLOCATE" => return deallocate(words, found),
            b"PREPARE" => {
                if words.word_upper() != b"TRANSACTION" {
                    found.push(Effect::Pin("PREPARE"));
                }
                return words.skip_statement();
            }
            b"LISTEN" => {
                found.push(Effect::Pin("LISTEN"));
                return words.skip_statement();
            }
            b"COMMIT" | b"ROLLBACK" | b"END" | b"ABORT" => found.push(Effect::EndsTransaction),
            b"LOAD" => found.push(Effect::Pin("LOAD")),
            b"DO" => found.push(Effect::Pin("DO")),
            b"DECLARE" => found.extend(with_hold(text, words.at).then_some(Effect::Pin("a cursor WITH HOLD"))),
            b"CREATE" => found.extend(temporary(text, words.at).then_some(Effect::Pin("a temporary table"))),
            _ => {}
        }
    }
    // Any other statement: its words decide.
    let mut into = false;
    loop {
        match words.next() {
            Token::End | Token::Separator => return,
            Token::Other => into = false,
            Token::Word(word) => {
                if into && (is(word, b"temp") || is(word, b"temporary")) {
                    found.push(Effect::Pin("a temporary table"));
                }
                into = is(word, b"into");
                if let Some(effect) = telling(word) {
                    found.push(effect);
                }
            }
        }
    }
}

/// A function or schema that touches the session, by its name.
fn telling(word: &[u8]) -> Option<Effect> {
    // Lengths and first letters first: this runs for every word of every query.
    match (word.len(), word[0] | 0x20) {
        (10, b's') if is(word, b"set_config") => Some(Effect::Pin("set_config")),
        (7, b'c') if is(word, b"currval") => Some(Effect::Sequences),
        (7, b'l') if is(word, b"lastval") => Some(Effect::Sequences),
        (7.., b'p') if word[1] | 0x20 == b'g' && word[2] == b'_' => {
            let rest = &word[3..];
            let starts = |with: &[u8]| rest.len() >= with.len() && is(&rest[..with.len()], with);
            if starts(b"advisory_lock") || starts(b"try_advisory_lock") {
                Some(Effect::Pin("an advisory lock"))
            } else if starts(b"temp") {
                Some(Effect::Pin("a temporary table"))
            } else {
                None
            }
        }
        _ => None,
    }
}

fn set(start: usize, words: &mut Words<'_>, found: &mut Vec<Effect>) {
    let text = words.text;
    let mut name = words.name();
    if &*name == "session" {
        let next = words.peek_name();
        if matches!(&*next, "authorization" | "characteristics") {
            found.push(Effect::Pin("SET SESSION"));
            return words.skip_statement();
        }
        name = words.name();
    }
    match &*name {
        // Until the end of the transaction; outside of one, nothing.
        "local" | "transaction" => {
            found.push(Effect::SetLocal);
            return words.skip_statement();
        }
        "constraints" => return words.skip_statement(),
        "role" => {
            found.push(Effect::Pin("SET ROLE"));
            return words.skip_statement();
        }
        "time" => {
            words.name();
            name = "timezone".into();
        }
        "names" => name = "client_encoding".into(),
        // It changes what a quote means, and so what all that follows means.
        "" | "xml" | "session_authorization" | "standard_conforming_strings" => {
            found.push(Effect::Pin("an unusual SET"));
            return words.skip_statement();
        }
        _ => {}
    }
    let value_at = words.at;
    words.skip_statement();
    let end = words.at - usize::from(words.at > start && text.get(words.at - 1) == Some(&b';'));
    let value = std::str::from_utf8(&text[value_at..end]).unwrap_or("").trim();
    let to = || value.get(..2).filter(|to| to.eq_ignore_ascii_case("to")).map(|_| &value[2..]);
    let value = value.strip_prefix('=').or_else(to).unwrap_or(value).trim_start();
    let last = value.rsplit(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or("");
    let back = last.eq_ignore_ascii_case("default") && !value.ends_with(['\'', '"']);
    match std::str::from_utf8(&text[start..end]) {
        Ok(_) if back => found.push(Effect::Reset { name }),
        // It changes what a byte means.
        Ok(_) if &*name == "client_encoding" && !is_plain(value) => found.push(Effect::Pin("an encoding of halves")),
        Ok(statement) => found.push(Effect::Set { name, statement: statement.trim().into() }),
        Err(_) => found.push(Effect::Pin("an unusual SET")),
    }
}

fn reset(words: &mut Words<'_>, found: &mut Vec<Effect>) {
    let name = words.name();
    found.push(match &*name {
        "all" => Effect::ResetAll,
        "time" => Effect::Reset { name: "timezone".into() },
        "role" | "session" | "" => Effect::Pin("RESET ROLE"),
        _ => Effect::Reset { name },
    });
    words.skip_statement();
}

fn deallocate(words: &mut Words<'_>, found: &mut Vec<Effect>) {
    let mut name = words.quoted_name();
    if name.1.eq_ignore_ascii_case(b"prepare") && !name.0 {
        name = words.quoted_name();
    }
    let (quoted, name) = name;
    found.push(match () {
        () if name.is_empty() => Effect::Pin("DEALLOCATE"),
        () if !quoted && name.eq_ignore_ascii_case(b"all") => Effect::DeallocateAll,
        () if quoted => Effect::Deallocate { name: name.into() },
        () => Effect::Deallocate { name: name.to_ascii_lowercase().into() },
    });
    words.skip_statement();
}

fn with_hold(text: &[u8], at: usize) -> bool {
    let mut words = Words { text, at };
    let mut with = false;
    loop {
        match words.next() {
            Token::End | Token::Separator => return false,
            Token::Word(word) if with && is(word, b"hold") => return true,
            Token::Word(word) => with = is(word, b"with"),
            Token::Other => with = false,
        }
    }
}

/// `CREATE [OR REPLACE] [GLOBAL | LOCAL] TEMP…`
fn temporary(text: &[u8], at: usize) -> bool {
    let mut words = Words { text, at };
    for _ in 0..4 {
        match words.word_upper().as_slice() {
            b"TEMP" | b"TEMPORARY" => return true,
            b"OR" | b"REPLACE" | b"GLOBAL" | b"LOCAL" => {}
            _ => return false,
        }
    }
    false
}

/// `lower` is in lower case.
pub(super) fn is(word: &[u8], lower: &[u8]) -> bool {
    word.eq_ignore_ascii_case(lower)
}

pub(super) enum Token<'a> {
    End,
    /// `;`
    Separator,
    Word(&'a [u8]),
    /// A character, a string, a quoted name.
    Other,
}

pub(super) struct Words<'a> {
    pub text: &'a [u8],
    pub at: usize,
}

impl<'a> Words<'a> {
    pub fn next(&mut self) -> Token<'a> {
        loop {
            let Some(&byte) = self.text.get(self.at) else { return Token::End };
            match byte {
                b' ' | b'\n' | b'\t' | b'\r' | b'\x0b' | b'\x0c' => self.at += 1,
                b';' => {
                    self.at += 1;
                    return Token::Separator;
                }
                b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.. => return self.word(),
                b'\'' => {
                    self.at += 1;
                    self.string(false);
                    return Token::Other;
                }
                b'"' => {
                    self.quoted();
                    return Token::Other;
                }
                b'-' if self.text.get(self.at + 1) == Some(&b'-') => {
                    let rest = &self.text[self.at..];
                    self.at += memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
                }
                b'/' if self.text.get(self.at + 1) == Some(&b'*') => self.comment(),
                b'$' => {
                    self.dollar();
                    return Token::Other;
                }
                b'0'..=b'9' => {
                    // Letters may follow, as in 1e5 and 0xff; they start no word.
                    self.at +=
                        self.text[self.at..].iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
                    return Token::Other;
                }
                _ => {
                    self.at += 1;
                    return Token::Other;
                }
            }
        }
    }

    fn word(&mut self) -> Token<'a> {
        let start = self.at;
        let rest = &self.text[start..];
        let part = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$' | 0x80..);
        let length = rest.iter().take_while(|b| part(b)).count();
        self.at += length;
        if self.text.get(self.at) == Some(&b'\'') && matches!(&rest[..length], b"e" | b"E") {
            self.at += 1;
            self.string(true);
            return Token::Other;
        }
        Token::Word(&rest[..length])
    }

    /// After its opening quote.
    fn string(&mut self, escapes: bool) {
        while let Some(&byte) = self.text.get(self.at) {
            self.at += 1;
            match byte {
                b'\\' if escapes => self.at += 1,
                b'\'' if self.text.get(self.at) == Some(&b'\'') => self.at += 1,
                b'\'' => match self.continued() {
                    Some(after) => self.at = after,
                    None => return,
                },
                _ => {}
            }
        }
        self.at = self.text.len();
    }

    /// A string goes on, in the same way, in one that is only blanks with a line's end and comments away.
    fn continued(&self) -> Option<usize> {
        let (mut at, mut line) = (self.at, false);
        loop {
            match self.text.get(at)? {
                b'\n' | b'\r' => line = true,
                b' ' | b'\t' | b'\x0b' | b'\x0c' => {}
                b'-' if self.text.get(at + 1) == Some(&b'-') => {
                    at += self.text[at..].iter().take_while(|&&byte| !matches!(byte, b'\n' | b'\r')).count();
                    continue;
                }
                b'\'' if line => return Some(at + 1),
                _ => return None,
            }
            at += 1;
        }
    }

    /// A quoted name, from its opening quote on; answers what is inside, with doubled quotes undone.
    fn quoted(&mut self) -> Vec<u8> {
        let mut inside = Vec::new();
        self.at += 1;
        while let Some(&byte) = self.text.get(self.at) {
            self.at += 1;
            if byte == b'"' {
                if self.text.get(self.at) != Some(&b'"') {
                    return inside;
                }
                self.at += 1;
            }
            inside.push(byte);
        }
        inside
    }

    /// Comments nest.
    fn comment(&mut self) {
        let mut depth = 0_usize;
        while let Some(&byte) = self.text.get(self.at) {
            match (byte, self.text.get(self.at + 1)) {
                (b'/', Some(b'*')) => {
                    depth += 1;
                    self.at += 2;
                }
                (b'*', Some(b'/')) => {
                    depth -= 1;
                    self.at += 2;
                    if depth == 0 {
                        return;
                    }
                }
                _ => self.at += 1,
            }
        }
    }

    /// `$1`, or `$tag$ … $tag$`.
    fn dollar(&mut self) {
        let rest = &self.text[self.at..];
        let name = rest[1..].iter().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | 0x80..)).count();
        if rest.get(name + 1) != Some(&b'$') || rest[1].is_ascii_digit() {
            self.at += 1 + name;
            return;
        }
        let tag = &rest[..name + 2];
        let body = &rest[tag.len()..];
        self.at += match memchr::memmem::find(body, tag) {
            Some(end) => tag.len() + end + tag.len(),
            None => rest.len(),
        };
    }

    /// Past the end of the statement, its `;` included.
    fn skip_statement(&mut self) {
        while let Token::Word(_) | Token::Other = self.next() {}
    }

    /// The next word in upper case; empty where none is next.
    fn word_upper(&mut self) -> Vec<u8> {
        let before = self.at;
        match self.next() {
            Token::Word(word) => word.to_ascii_uppercase(),
            _ => {
                self.at = before;
                Vec::new()
            }
        }
    }

    /// The next name as a setting is called: lower case, quoted or not, with its dots; empty where none is next.
    fn name(&mut self) -> Box<str> {
        let mut name = Vec::new();
        loop {
            let (_, part) = self.quoted_name();
            name.extend(part.to_ascii_lowercase());
            if self.text.get(self.at) != Some(&b'.') {
                break;
            }
            self.at += 1;
            name.push(b'.');
        }
        String::from_utf8(name).unwrap_or_default().into()
    }

    fn peek_name(&mut self) -> Box<str> {
        let before = self.at;
        let name = self.name();
        self.at = before;
        name
    }

    /// Whether it was quoted, and the name as written.
    fn quoted_name(&mut self) -> (bool, Vec<u8>) {
        let before = self.at;
        match self.next() {
            Token::Word(word) => (false, word.to_vec()),
            Token::Other => {
                // Blanks and comments came first; the quote is where the token began.
                let text = &self.text[before..self.at];
                match memchr::memchr(b'"', text) {
                    Some(quote) if self.text.get(self.at - 1) == Some(&b'"') => {
                        self.at = before + quote;
                        (true, self.quoted())
                    }
                    _ => {
                        self.at = before;
                        (false, Vec::new())
                    }
                }
            }
            _ => {
                self.at = before;
                (false, Vec::new())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, statement: &str) -> Effect {
        Effect::Set { name: name.into(), statement: statement.into() }
    }

    fn of(text: &str) -> Vec<Effect> {
        effects(text.as_bytes()).list
    }

    #[test]
    fn what_leaves_nothing_behind_has_no_effect() {
        for text in [
            "",
            " ; ",
            "SELECT 1",
            "UPDATE t SET a = 'SET x TO y; LISTEN z' WHERE b = $1",
            "SELECT 'set_config(', \"currval\", $$ LISTEN a $$, $x$ $$ lastval() $x$ -- pg_advisory_lock\n",
            "/* SET a TO b /* nested */ LISTEN c */ SELECT E'it\\'s; LISTEN x'",
            "SELECT E'a' -- goes on\n '\\'; LISTEN x --'",
            "SELECT pg_advisory_xact_lock(1), pg_advisory_unlock_all()",
            "BEGIN; SAVEPOINT a",
            "SET CONSTRAINTS ALL DEFERRED",
            "UNLISTEN *",
            "PREPARE TRANSACTION 'x'",
            "CREATE TABLE temp (a int)",
            "ALTER ROLE a SET search_path TO b",
            "DISCARD PLANS",
            "DECLARE c CURSOR FOR SELECT 1",
            "CLOSE ALL",
        ] {
            assert_eq!(of(text), [], "{text}");
        }
    }

    #[test]
    fn a_string_that_goes_on_hides_nothing_and_no_more_than_it_holds() {
        assert_eq!(of("select E'a'\n'\\''; set work_mem='7MB'; --'"), [set("work_mem", "set work_mem='7MB'")]);
        assert_eq!(of("select 'a' 'b'; set work_mem='7MB'"), [set("work_mem", "set work_mem='7MB'")]);
        assert_eq!(of("set standard_conforming_strings = off"), [Effect::Pin("an unusual SET")]);
        for text in ["SET NAMES 'SJIS'", "set client_encoding to gbk", "set names E'\\x41'"] {
            assert_eq!(of(text), [Effect::Pin("an encoding of halves")], "{text}");
        }
        for text in ["SET NAMES 'UTF8'", "set client_encoding to utf8", "SET client_encoding = 'ISO-8859-1'"] {
            assert!(matches!(of(text)[..], [Effect::Set { .. }]), "{text}");
        }
    }

    #[test]
    fn a_set_keeps_its_name_and_its_words() {
        assert_eq!(of("SET search_path TO a, b;"), [set("search_path", "SET search_path TO a, b")]);
        assert_eq!(of("set session Work_Mem = '1MB'"), [set("work_mem", "set session Work_Mem = '1MB'")]);
        assert_eq!(of("SET TIME ZONE 'UTC'"), [set("timezone", "SET TIME ZONE 'UTC'")]);
        assert_eq!(of("SET NAMES 'latin1'"), [set("client_encoding", "SET NAMES 'latin1'")]);
        assert_eq!(of("SET \"foo\".bar = 'x;y'"), [set("foo.bar", "SET \"foo\".bar = 'x;y'")]);
        assert_eq!(of("SET a = 'default'"), [set("a", "SET a = 'default'")]);
        let reset = |name: &str| Effect::Reset { name: name.into() };
        assert_eq!(of("SET a TO DEFAULT"), [reset("a")]);
        assert_eq!(of("SET TIME ZONE default;"), [reset("timezone")]);
        assert_eq!(of("RESET a; RESET ALL"), [reset("a"), Effect::ResetAll]);
        let local = "SET LOCAL a = 1; SET TRANSACTION ISOLATION LEVEL SERIALIZABLE";
        assert_eq!(of(local), [Effect::SetLocal, Effect::SetLocal]);
        let two = of("SET a = 1; SELECT 2; /* c */ SET b = 2");
        assert_eq!(two, [set("a", "SET a = 1"), set("b", "/* c */ SET b = 2")]);
    }

    #[test]
    fn what_cannot_be_carried_pins() {
        for text in [
            "LISTEN a",
            "select 1; listen a",
            "CREATE TEMP TABLE a (b int)",
            "create local temporary view a as select 1",
            "SELECT 1 INTO TEMP a",
            "SELECT * FROM pg_temp.a",
            "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
            "SELECT pg_catalog.set_config('a', 'b', false)",
            "SELECT pg_advisory_lock(1)",
            "SELECT pg_try_advisory_lock_shared(1)",
            "SET ROLE a",
            "SET SESSION AUTHORIZATION a",
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            "RESET SESSION AUTHORIZATION",
            "PREPARE a AS SELECT 1",
            "DO $$ BEGIN END $$",
            "LOAD 'auto_explain'",
        ] {
            assert!(matches!(of(text).as_slice(), [Effect::Pin(_)]), "{text}: {:?}", of(text));
        }
    }

    #[test]
    fn statements_are_counted() {
        for (text, single) in [("", true), (";;", true), ("SELECT 1;", true), ("/* a; */ DEALLOCATE a", true)] {
            assert_eq!(effects(text.as_bytes()).single, single, "{text}");
        }
        for text in ["SELECT 1; SELECT 2", "DEALLOCATE a;(SELECT 1)", "(SELECT 1);DEALLOCATE a"] {
            assert!(!effects(text.as_bytes()).single, "{text}");
        }
    }

    #[test]
    fn names_of_statements_are_folded_as_postgres_folds_them() {
        let dropped = |name: &[u8]| Effect::Deallocate { name: name.into() };
        assert_eq!(of("DEALLOCATE Foo"), [dropped(b"foo")]);
        assert_eq!(of("DEALLOCATE PREPARE \"Fo\"\"o\""), [dropped(b"Fo\"o")]);
        assert_eq!(of("deallocate all"), [Effect::DeallocateAll]);
        assert_eq!(of("DISCARD ALL"), [Effect::DiscardAll]);
        assert_eq!(of("SELECT currval('a')"), [Effect::Sequences]);
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_odd(text in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            effects(&text);
        }

        #[test]
        fn no_words_are_too_odd(text in "(SET|RESET|DEALLOCATE|\\$|\"|'|/\\*|--|;| |a|\\.|\\$a\\$|E'|\\\\){0,24}") {
            effects(text.as_bytes());
        }
    }
}
