//! Decides: `plan(desired, live)` is a pure function whose value is printed, saved, reviewed, priced and carried out.
//! It never reads a file, a clock or a network, and no secret enters a plan.
//! Read: live (what is), action and change (what a plan is made of), planner, then instances, place, tenants (with
//! compare, ceilings, route, suspended and cause), publish, rename, renamed, removals and deletions, held and preflight (how it is
//! decided), safety (a second opinion), text, about (of one object).

mod about;
mod action;
mod adopted;
mod adoption;
mod cause;
mod ceilings;
mod change;
mod code;
mod compare;
mod deletions;
mod diff;
mod document;
mod error;
mod export;
mod held;
mod instances;
mod keys;
mod live;
mod markdown;
mod needs;
mod observation;
mod page;
mod pin;
mod place;
mod planner;
mod preflight;
mod publish;
mod recognise;
mod removals;
mod rename;
mod renamed;
mod route;
mod routers;
mod safety;
mod spec;
mod suspended;
mod target;
mod tenants;
mod text;
mod unknown;

pub use action::{
    Action, Field, Forgotten, GuardTrip, InstanceStep, Plan, PriceChange, Problem, Reason, ReasonCode, RouteDraft,
    Snapshot, Step, Summary, Symbol, TenantStep, Warning, Wave,
};
pub use adopted::{may_be_joined, owner_to_join};
pub use adoption::{
    InstanceAdoption, Release, TenantAdoption, adopt_instance, adopt_tenant, release_instance, release_tenant,
};
pub use change::{DatabaseChange, DeletionIntent, VariableValue};
pub use code::Code;
pub use deletions::unrecorded_deletions;
pub use diff::render_diff;
pub use document::{Change, INSTANCES_AT_ONCE, Inputs, PLAN_FORMAT, PlanDocument, PlanPart, Reads};
pub use error::Error;
pub use export::{Export, ExportedFile, export, unrouted};
pub use held::{Held, HeldBy};
pub use instances::{control_step, patch_for, spec_digest, whole};
pub use live::{
    ControlLive, DatabaseLive, Deployment, InstanceRecord, InstanceState, Live, Ownership, PendingDeletion,
    Placement, PlanLimits, RailwayLive, Rename, RoleLive, RoleMark, RoleTimeout, ServerLive, ServiceConfig,
    ServiceEndpoint, ServiceLive, VolumeLive,
};
pub use markdown::page as plan_page;
pub use observation::{OBSERVATION_FORMAT, Observation};
pub use page::{Block, Entry, Page};
pub use pin::Pin;
pub use planner::{Consent, plan};
pub use recognise::{LiveValue, recognise};
pub use removals::GRACE_DAYS;
pub use renamed::found_places;
pub use routers::router_spec;
pub use safety::check;
pub use spec::{MOUNT_PATH, ServicePatchSpec, ServiceSpec};
pub use target::Target;
pub use tenants::role_name;
pub use text::{Seen, View, price_line, render, render_as, render_body, render_problem, summary_line};
