//! The door to Railway: a typed client of its GraphQL API that speaks in the words of `plan` and `tenancy`.
//!
//! It spends requests within Railway's limits, repeats only what is safe to repeat, and tells "refused" from "unknown
//! whether done". It never decides what to make or delete, never commits what a person has staged, and lets no GraphQL
//! shape and no variable's value out.
//! Read: client, answer, budget, transport; documents, batch; project, observe, config, create, patch, endpoints, take_over.

mod answer;
mod batch;
mod budget;
mod client;
#[cfg(test)]
mod client_tests;
mod code;
mod config;
mod create;
mod documents;
#[cfg(all(test, feature = "local"))]
mod documents_tests;
mod endpoints;
#[cfg(test)]
mod endpoints_tests;
mod error;
mod limits;
mod observe;
#[cfg(test)]
mod observe_tests;
mod patch;
#[cfg(test)]
mod patch_tests;
mod project;
#[cfg(test)]
mod project_tests;
#[cfg(test)]
mod scripted;
mod take_over;
mod transport;
#[cfg(test)]
mod transport_tests;

pub use client::{Client, ClientConfig, Heard, Requests, Token};
pub use code::Code;
pub use create::{BATCH_MAX, NewService, NewVolume};
pub use error::{BatchFailure, Error};
pub use limits::plan_limits;
pub use patch::{Patch, ServicePatch, VolumePatch};
pub use project::{Found, FoundProject, Reach};
pub use take_over::{Entrance, RELEASED};
pub use transport::{HttpRequest, HttpResponse, HttpTransport, Transport, TransportError};

/// How we present ourselves to Railway.
const USER_AGENT: &str = concat!("o7s/", env!("CARGO_PKG_VERSION"));

/// Where Railway's Postgres image insists on having its volume.
pub const POSTGRES_MOUNT: &str = "/var/lib/postgresql/data";
pub const POSTGRES_PORT: u16 = 5432;
