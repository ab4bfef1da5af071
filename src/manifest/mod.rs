//! Manifests: text in, [`Desired`] out, or every error at the place it was written. Pure.
mod model;
pub use model::*;
