//! Railway's published schema, parsed once, and the documents checked against it.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use apollo_compiler::collections::HashMap as Implementers;
use apollo_compiler::schema::Implementers as ImplementersOf;
use apollo_compiler::validation::Valid;
use apollo_compiler::{ExecutableDocument, Name, Schema};
use serde_json::{Value, json};

/// A constant, not a setting: the text is compiled in, and its parse costs some 30 ms.
static PUBLISHED: LazyLock<Published> = LazyLock::new(Published::parse);

/// Documents kept parsed. Clients send a handful; a client that invents thousands only pays for its own parses.
const DOCUMENTS_KEPT: usize = 256;

pub struct Published {
    pub schema: Valid<Schema>,
    pub implementers: Implementers<Name, ImplementersOf>,
}

impl Published {
    fn parse() -> Published {
        let text = include_str!("../../graphql/schema.graphql");
        let schema =
            Schema::parse_and_validate(text, "schema.graphql").expect("the tree's own schema is valid: tested");
        let implementers = schema.implementers_map();
        Published { schema, implementers }
    }

    pub fn get() -> &'static Published {
        &PUBLISHED
    }
}

/// Parsed documents by their text. A copy shares them: what a text means is the same for all.
#[derive(Clone, Default)]
pub struct Documents {
    parsed: Arc<Mutex<HashMap<String, Arc<Valid<ExecutableDocument>>>>>,
}

impl Documents {
    /// The document, or the errors to answer, with their positions.
    pub fn get(&self, text: &str) -> Result<Arc<Valid<ExecutableDocument>>, Vec<Value>> {
        let kept = || self.parsed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(document) = kept().get(text) {
            return Ok(Arc::clone(document));
        }
        let parsed = ExecutableDocument::parse_and_validate(&Published::get().schema, text, "request.graphql");
        let document = Arc::new(parsed.map_err(|invalid| {
            invalid.errors.iter().map(|error| validation_error(&error.to_json())).collect::<Vec<_>>()
        })?);
        let mut kept = kept();
        if kept.len() >= DOCUMENTS_KEPT {
            kept.clear();
        }
        kept.insert(text.to_owned(), Arc::clone(&document));
        Ok(document)
    }
}

fn validation_error(error: &apollo_compiler::response::GraphQLError) -> Value {
    let locations: Vec<Value> =
        error.locations.iter().map(|at| json!({ "line": at.line, "column": at.column })).collect();
    json!({
        "message": error.message,
        "locations": locations,
        "extensions": { "code": "GRAPHQL_VALIDATION_FAILED" },
    })
}
