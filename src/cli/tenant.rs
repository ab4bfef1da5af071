//! `o7s tenant`: what there is to know of one tenant, and how to connect as it.

mod connect;
mod limits;
mod list;
mod show;

use clap::{Args, Subcommand};

use super::args::{Format, Input};
use super::config;
use super::load::load_with_sources;
use super::report::Failure;
use super::session::Session;
use crate::manifest::{Desired, Source};
use crate::operator::{Measured, measure, not_awake};
use crate::plan::ControlLive;
use crate::store::FleetRow;
use crate::tenancy::{RoleName, Route, TenantId};

#[derive(Debug, Args)]
pub struct TenantArgs {
    #[command(subcommand)]
    command: TenantCommand,
}

#[derive(Debug, Subcommand)]
enum TenantCommand {
    /// List tenants, where they are and how they are
    List(list::ListArgs),
    /// Show one tenant: manifest, place, route, roles, ceilings, use and recent events
    Show(OneArgs),
    /// Print a tenant's connection URL, password included
    Url(connect::UrlArgs),
    /// Open psql as a tenant
    Connect(connect::ConnectArgs),
    /// Show a tenant's ceilings: who sets each, who holds it, what is used
    Limits(OneArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
An instance that sleeps is not woken for figures. With O7S_DATABASE_URL no Railway token is needed; without one an
instance that may sleep is not measured.

Exit codes: 0 shown, 1 the tenant has no database yet, 7 the control database is unreachable, 64 no such tenant,
65 invalid manifest, 77 not allowed")]
struct OneArgs {
    #[arg(value_name = "TENANT", value_parser = tenant_name)]
    tenant: TenantId,
    #[command(flatten)]
    input: Input,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// `acme`, or `tenant/acme` as other commands write it.
pub fn tenant_name(text: &str) -> Result<TenantId, String> {
    TenantId::parse(text.strip_prefix("tenant/").unwrap_or(text)).map_err(|error| format!("the name {error}"))
}

fn role_name(text: &str) -> Result<RoleName, String> {
    RoleName::parse(text).map_err(|error| format!("the name {error}"))
}

pub async fn run(args: TenantArgs) -> Result<u8, Failure> {
    match args.command {
        TenantCommand::List(args) => list::run(&args).await,
        TenantCommand::Show(args) => show::run(&args).await,
        TenantCommand::Url(args) => connect::url(&args).await,
        TenantCommand::Connect(args) => connect::connect(&args).await,
        TenantCommand::Limits(args) => limits::run(&args).await,
    }
}

/// The manifests and what the control database says beside them.
struct World {
    desired: Desired,
    sources: Vec<Source>,
    session: Session,
    fleet: Option<FleetRow>,
    control: ControlLive,
}

impl World {
    async fn open(input: &Input) -> Result<World, Failure> {
        let (desired, sources) = load_with_sources(&input.files).map_err(Failure::Manifests)?;
        let session = Session::read_only(config::parts(), &desired).await?;
        let (fleet, control) = session.load().await?;
        Ok(World { desired, sources, session, fleet, control })
    }

    fn is_known(&self, tenant: &TenantId) -> bool {
        let Self { desired, control, .. } = self;
        desired.tenants.contains_key(tenant)
            || control.routes.contains_key(tenant)
            || control.placements.contains_key(tenant)
            || control.deletions.contains_key(tenant)
    }

    fn check_known(&self, tenant: &TenantId) -> Result<(), Failure> {
        if self.is_known(tenant) { Ok(()) } else { Err(Failure::Unknown { object: format!("tenant/{tenant}") }) }
    }

    fn route(&self, tenant: &TenantId) -> Result<&Route, Failure> {
        self.check_known(tenant)?;
        self.control.routes.get(tenant).ok_or_else(|| Failure::NotMade { object: format!("tenant/{tenant}") })
    }

    /// This process runs inside the fleet's Railway environment.
    fn is_inside(&self) -> bool {
        self.fleet.as_ref().is_some_and(|fleet| self.session.is_inside(&fleet.environment))
    }

    /// Without token or key what can be known of its use is why nothing is.
    async fn measure(&self, route: &Route) -> Result<Measured, Failure> {
        let unasked = |error: Failure| Measured::Unreachable { reason: error.to_string(), help: error.help() };
        let keys = match self.session.keys() {
            Ok(keys) => keys,
            Err(error) => return Ok(unasked(error)),
        };
        let pool = self.desired.pools.get(&route.instance.pool());
        if pool.is_none_or(|pool| pool.sleep_when_idle) {
            // Only Railway knows whether it sleeps, and a connection would wake it.
            if let Err(error) = self.session.client() {
                return Ok(unasked(error));
            }
            let place = self.session.place(self.fleet.as_ref(), &self.desired).await?;
            let (stop, silent) = (tokio_util::sync::CancellationToken::new(), |_: &str| {});
            let door = self.session.door(place, &stop, &silent, std::time::Duration::ZERO)?;
            if let Some(told) = not_awake(&door, route).await {
                return Ok(told);
            }
        }
        let at = if self.is_inside() { &route.endpoint.private } else { &route.endpoint.public };
        Ok(measure(keys, at, route).await)
    }
}
