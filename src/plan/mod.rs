//! Decides: `plan(desired, live)` is a pure function whose value is printed, saved, reviewed, priced and carried out.
//! Read: live, change, …
mod change;
mod live;

pub use change::{DatabaseChange, DeletionIntent, ServiceSpec, VariableValue};
pub use live::{
    ControlLive, DatabaseLive, Deployment, InstanceRecord, InstanceState, Live, Ownership, PendingDeletion,
    Placement, PlanLimits, RailwayLive, RoleLive, RoleMark, ServerLive, ServiceConfig, ServiceEndpoint, ServiceLive,
    VolumeLive,
};
