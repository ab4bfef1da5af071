//! A session's settings as far as the router knows them, and the statements that bring a server connection from one
//! client's to another's.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Value {
    /// From the startup message, as plain text.
    Startup(Box<str>),
    /// The client's own statement, which sets it again.
    Statement(Box<str>),
}

/// With each change all that is carried is copied; who has more set keeps its server connection.
const BYTES_MAX: usize = 8 * 1024;
/// Beside its name and its text, about.
const ENTRY: usize = 64;
/// Different settings, before those that nobody has any more are forgotten.
const SWEEP_MIN: usize = 256;

type Values = BTreeMap<Box<str>, Value>;

/// Interned by [`Shelf`]: equal settings are the same `Arc`, so comparing costs a pointer.
#[derive(Debug, PartialEq, Eq)]
pub struct Settings {
    /// Unique in its shelf; 0 is none at all.
    pub id: u64,
    values: Values,
}

/// All different settings of a worker's clients and servers.
#[derive(Debug)]
pub struct Shelf {
    next: u64,
    none: Arc<Settings>,
    known: HashMap<Values, Arc<Settings>>,
    sweep_at: usize,
}

impl Default for Shelf {
    fn default() -> Shelf {
        let none = Arc::new(Settings { id: 0, values: Values::new() });
        Shelf { next: 1, none, known: HashMap::new(), sweep_at: SWEEP_MIN }
    }
}

impl Shelf {
    pub fn none(&self) -> Arc<Settings> {
        self.none.clone()
    }

    /// Of a startup message; later ones of a name win.
    pub fn startup(&mut self, settings: &[(String, String)]) -> Arc<Settings> {
        let value = |(name, value): &(String, String)| {
            (name.to_ascii_lowercase().into_boxed_str(), Value::Startup(value.as_str().into()))
        };
        self.intern(settings.iter().map(value).collect())
    }

    /// `settings` with `name` set to `value`, or without it.
    pub fn with(&mut self, settings: &Settings, name: &str, value: Option<Value>) -> Arc<Settings> {
        let mut values = settings.values.clone();
        match value {
            Some(value) => drop(values.insert(name.into(), value)),
            None => drop(values.remove(name)),
        }
        self.intern(values)
    }

    fn intern(&mut self, values: Values) -> Arc<Settings> {
        if values.is_empty() {
            return self.none();
        }
        if let Some(known) = self.known.get(&values) {
            return known.clone();
        }
        if self.known.len() >= self.sweep_at {
            self.known.retain(|_, settings| Arc::strong_count(settings) > 1);
            self.sweep_at = (self.known.len() * 2).max(SWEEP_MIN);
        }
        let settings = Arc::new(Settings { id: self.next, values: values.clone() });
        self.next += 1;
        self.known.insert(values, settings.clone());
        settings
    }
}

impl Value {
    fn text(&self) -> &str {
        match self {
            Value::Startup(text) | Value::Statement(text) => text,
        }
    }
}

impl Settings {
    /// `name` may be set to `value` as well.
    pub fn has_room(&self, name: &str, value: &Value) -> bool {
        let others = self.values.iter().filter(|(have, _)| ***have != *name);
        let size = |name: &str, value: &Value| ENTRY + name.len() + value.text().len();
        others.map(|(name, value)| size(name, value)).sum::<usize>() + size(name, value) <= BYTES_MAX
    }

    pub fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// The text of a simple query that makes a session with the settings `from` (`None`: nobody knows) one with `self`.
    /// One implicit transaction: all of it, or none.
    pub fn change_from(&self, from: Option<&Settings>) -> String {
        let mut text = String::new();
        let none = Values::new();
        let had = from.map_or(&none, |from| &from.values);
        if from.is_none() {
            text.push_str("RESET SESSION AUTHORIZATION;RESET ALL;");
        }
        for name in had.keys().filter(|name| !self.values.contains_key(*name)) {
            text.push_str("RESET ");
            text.push_str(&quoted_name(name));
            text.push(';');
        }
        for (name, value) in self.values.iter().filter(|(name, value)| had.get(*name) != Some(value)) {
            match value {
                Value::Statement(statement) => text.push_str(statement),
                Value::Startup(value) => {
                    let (name, value) = (literal(name), literal(value));
                    text.push_str(&format!("SELECT pg_catalog.set_config({name},{value},false)"));
                }
            }
            text.push(';');
        }
        text
    }
}

/// `"foo"."bar"` for `foo.bar`.
fn quoted_name(name: &str) -> String {
    let parts: Vec<String> = name.split('.').map(|part| format!("\"{}\"", part.replace('"', "\"\""))).collect();
    parts.join(".")
}

/// Whatever `standard_conforming_strings` is.
fn literal(text: &str) -> String {
    format!(" E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn startup(shelf: &mut Shelf, settings: &[(&str, &str)]) -> Arc<Settings> {
        let owned: Vec<_> = settings.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        shelf.startup(&owned)
    }

    #[test]
    fn equal_settings_are_the_same() {
        let mut shelf = Shelf::default();
        let one = startup(&mut shelf, &[("TimeZone", "UTC"), ("a.b", "1")]);
        let two = startup(&mut shelf, &[("a.b", "0"), ("timezone", "UTC"), ("a.b", "1")]);
        assert!(Arc::ptr_eq(&one, &two));
        let changed = shelf.with(&one, "a.b", None);
        assert!(Arc::ptr_eq(&startup(&mut shelf, &[("timezone", "UTC")]), &changed));
        assert!(Arc::ptr_eq(&shelf.with(&changed, "timezone", None), &shelf.none()));
    }

    #[test]
    fn only_what_differs_is_changed() {
        let mut shelf = Shelf::default();
        let one = startup(&mut shelf, &[("timezone", "UTC"), ("foo.bar", "it's\\")]);
        let two = startup(&mut shelf, &[("timezone", "UTC")]);
        let two = shelf.with(&two, "work_mem", Some(Value::Statement("SET work_mem = '1MB'".into())));
        assert_eq!(two.change_from(Some(&one)), "RESET \"foo\".\"bar\";SET work_mem = '1MB';");
        assert_eq!(
            one.change_from(Some(&two)),
            "RESET \"work_mem\";SELECT pg_catalog.set_config( E'foo.bar', E'it''s\\\\',false);"
        );
        assert_eq!(one.change_from(Some(&one)), "");
        assert!(two.change_from(None).starts_with("RESET SESSION AUTHORIZATION;RESET ALL;"));
    }

    #[test]
    fn what_is_carried_has_a_bound() {
        let mut shelf = Shelf::default();
        let value = |length: usize| Value::Statement("z".repeat(length).into());
        let mut settings = shelf.none();
        let mut many = 0;
        while settings.has_room(&format!("x.v{many}"), &value(10)) {
            settings = shelf.with(&settings, &format!("x.v{many}"), Some(value(10)));
            many += 1;
        }
        assert!((80..128).contains(&many), "{many}");
        assert!(settings.has_room("x.v0", &value(10)) && !settings.has_room("x.v0", &value(2_000)));
        assert!(!shelf.none().has_room("x", &value(BYTES_MAX)));
    }

    #[test]
    fn settings_nobody_has_are_forgotten() {
        let mut shelf = Shelf::default();
        for n in 0..5000 {
            startup(&mut shelf, &[("application_name", &n.to_string())]);
        }
        assert!(shelf.known.len() <= SWEEP_MIN, "{}", shelf.known.len());
    }
}
