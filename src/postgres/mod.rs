//! The servers of instances, as their administrator: looks at databases and roles in one query, and makes, changes and
//! removes those of tenants. Every change can run again after a crash between any two statements.
//!
//! Never touches a role or database without our mark, never sends a password as text (only SCRAM verifiers), and holds
//! all SQL of the tenants' side.
//! Read: server (a connection), observe, script, adopt and removal (what each change means in SQL, behind the guards of guard),
//! change (how they are sent), many, role_login and timeline (for routers), then ident.

mod adopt;
mod change;
mod code;
mod error;
mod guard;
mod ident;
mod many;
mod measure;
mod observe;
mod removal;
mod rename;
mod role_login;
mod script;
mod server;
mod timeline;

pub use code::Code;
pub use error::Error;
pub use many::{Many, Turn, change_many};
pub use measure::DatabaseUse;
pub use role_login::{ROLES_MAX, RoleLogin, role_logins};
pub use script::Maker;
pub use server::{ADMIN_ROLE, SUPERUSER, Server};
pub use timeline::{TIMELINE, timeline_from};
