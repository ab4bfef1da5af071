//! Manifests: text in, [`Desired`] out, or every error at the place it was written. Pure: reading files is `cli`'s.
//!
//! Read: model (what comes out), source, raw, yaml (text to trees), read (typed values out of a tree), parse, head,
//! check and its kinds, resolve, set (objects together), code and error (what went wrong), schema and explain (what editors and people are told).

mod check;
mod check_fleet;
mod check_pool;
mod check_router;
mod check_tenant;
mod check_tier;
mod code;
mod edit;
mod error;
mod explain;
mod head;
mod model;
mod owners;
mod parse;
mod raw;
mod read;
mod resolve;
mod schema;
mod schema_values;
mod set;
mod source;
mod yaml;

pub use check::{load, load_beside};
pub use code::Code;
pub use edit::with_generation;
pub use error::{Problem, ProblemView, Problems};
pub use explain::{Explained, ExplainedKey, NotExplained, Takes, explain};
pub use head::API_VERSION;
pub use model::*;
pub use owners::{Owned, Owner, owners};
pub use schema::schema;
pub use source::Source;
pub use yaml::FILE_BYTES_MAX;

#[cfg(test)]
mod error_tests;
#[cfg(test)]
mod law_tests;
#[cfg(test)]
mod value_tests;
