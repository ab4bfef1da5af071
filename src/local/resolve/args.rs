//! Arguments as the schema coerced them. An input this does not simulate is refused by name, never ignored.

use apollo_compiler::response::JsonMap;
use serde_json::{Map, Value};

use super::Refusal;

pub struct Args(Map<String, Value>);

impl Args {
    pub fn new(coerced: &JsonMap) -> Args {
        // The executor's JSON shares its texts and is another type than ours; it always serialises to an object.
        match serde_json::to_value(coerced) {
            Ok(Value::Object(map)) => Args(map),
            _ => Args(Map::new()),
        }
    }

    pub fn input(&self) -> Args {
        self.0.get("input").and_then(Value::as_object).cloned().map_or_else(|| Args(Map::new()), Args)
    }

    /// A text the schema makes sure of.
    pub fn text(&self, name: &str) -> String {
        self.maybe(name).unwrap_or_default()
    }

    pub fn maybe(&self, name: &str) -> Option<String> {
        self.0.get(name).and_then(Value::as_str).map(str::to_owned)
    }

    pub fn flag(&self, name: &str) -> bool {
        self.0.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    pub fn count(&self, name: &str) -> Option<i64> {
        self.0.get(name).and_then(Value::as_i64)
    }

    pub fn number(&self, name: &str) -> Option<f64> {
        self.0.get(name).and_then(Value::as_f64)
    }

    /// `None` when left out, `Some(Null)` when null was sent.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    pub fn value(&self, name: &str) -> Value {
        self.0.get(name).cloned().unwrap_or(Value::Null)
    }

    /// Refuses arguments other than `known`; null and false ask for nothing.
    pub fn only(&self, of: &str, known: &[&str]) -> Result<(), Refusal> {
        let asks = |value: &Value| !matches!(value, Value::Null | Value::Bool(false));
        match self.0.iter().find(|(name, value)| asks(value) && !known.contains(&name.as_str())) {
            None => Ok(()),
            Some((name, _)) => Err(Refusal::NotSimulated(format!("input `{of}.{name}`"))),
        }
    }
}
