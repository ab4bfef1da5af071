//! Typed client of Railway's GraphQL API.

#[cfg(all(test, feature = "local"))]
mod documents_tests;
