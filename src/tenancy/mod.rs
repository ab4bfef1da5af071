//! The words everyone shares: tenant, tier, ceilings, route, instance, credentials. Pure: no I/O, no clock.
//! Read: id, quantity, limits, escrow, route, secret, keyring, scram, login, api_key, marker, meter, code, digest.

mod api_key;
mod code;
mod digest;
pub mod escrow;
#[cfg(test)]
mod escrow_model;
mod id;
mod keyring;
mod limits;
mod login;
mod marker;
mod meter;
mod quantity;
mod route;
pub mod scram;
mod secret;

pub use api_key::{API_KEY_PREFIX, ApiKey};
pub use code::ErrorCode;
pub(crate) use code::codes;
pub use digest::Digest;
pub use id::{
    BadName, CONTROL_SERVICE, EnvironmentId, FleetName, InstanceName, PoolName, ProjectId, RoleName, RouterName,
    ServiceId, TenantId, TierName, VolumeId,
};
pub use keyring::{Credential, Fingerprint, FleetUid, GENERATION_MAX, Keyring, WeakKey};
pub use limits::{Limits, Over, OverLimit, Upgrade};
pub use login::{Login, connection_url, role_name};
pub use marker::{DatabaseMarker, OWNER_VARIABLE, Purpose, RoleMarker, ServiceMarker, Unreadable, adopted_grants};
pub use meter::{Ceiling, Metered, Minute, Usage, UsageSpan};
pub use quantity::{BadQuantity, Bytes, Millis, Percent, counted};
pub use route::{Address, Endpoint, Route, RouteState};
pub use scram::{NoVerifier, ScramKeys, Verifier};
pub use secret::Secret;
