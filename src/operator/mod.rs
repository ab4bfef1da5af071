//! Makes reality match the manifests: observe, plan, check, carry out, look again, record.
//!
//! Decides nothing that `plan` could decide, and never touches what a plan does not name.
//! Read: reconcile (a run in one page), observe, apply (the waves), then services, volumes, configure and ready (how an
//! instance comes to be), databases, find, bootstrap, watch, leading; status, measure and doctor (what people are told), tell (while they
//! wait); world says what a run needs of the outside.

mod adopt;
mod apply;
mod bootstrap;
mod code;
mod configure;
mod databases;
pub mod doctor;
mod error;
mod find;
mod leading;
mod measure;
mod observe;
mod outcome;
mod ready;
mod real;
mod reconcile;
mod record;
mod release;
mod services;
mod status;
mod tell;
mod volumes;
mod watch;
mod world;

pub use adopt::{Hindrance, adopt_instance, adopt_tenant, foreign_fleet};
pub use apply::apply;
pub use bootstrap::{Bootstrapped, Ground, bootstrap, control_url};
pub use code::Code;
pub use doctor::{Finding, Level};
pub use error::{Error, store_exit_code};
pub use find::{FoundControl, Search};
pub use leading::{Leading, Look, TRUSTED_FOR};
pub use measure::{Measured, measure, not_awake};
pub use observe::observe;
pub use outcome::{Failure, Outcome, Report, Verdict};
pub use real::{ControlDatabase, Instances};
pub use reconcile::{Reconciled, reconcile};
pub use record::{Noted, note};
pub use release::release;
pub use status::{ObjectStatus, Readiness, State, is_detached, statuses};
pub use tell::Tell;
pub use watch::{Seen, Watch, watch};
pub use world::{Control, Door, Memory, ServerFailure, Servers, Timing};
