//! `o7s tenant`: what there is to know of one tenant, and how to connect as it.

mod connect;
mod limits;
mod list;
mod pause;
mod show;

use clap::{Args, Subcommand};
pub use limits::size;

use super::args::{Format, Input};
use super::config;
use super::load::load_with_sources;
use super::report::Failure;
use super::session::Session;
use crate::manifest::{Desired, Source, TenantState};
use crate::operator::{Measured, Tell, is_detached, measure, not_awake};
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
    /// Let new transactions of a tenant wait, at all routers
    Pause(pause::PauseArgs),
    /// Let a paused tenant go on
    Resume(pause::ResumeArgs),
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

pub fn role_name(text: &str) -> Result<RoleName, String> {
    RoleName::parse(text).map_err(|error| format!("the name {error}"))
}

pub async fn run(args: TenantArgs) -> Result<u8, Failure> {
    match args.command {
        TenantCommand::List(args) => list::run(&args).await,
        TenantCommand::Show(args) => show::run(&args).await,
        TenantCommand::Url(args) => connect::url(&args).await,
        TenantCommand::Connect(args) => connect::connect(&args).await,
        TenantCommand::Limits(args) => limits::run(&args).await,
        TenantCommand::Pause(args) => pause::pause(&args).await,
        TenantCommand::Resume(args) => pause::resume(&args).await,
    }
}

/// The manifests and what the control database says beside them.
pub(super) struct World {
    desired: Desired,
    sources: Vec<Source>,
    pub session: Session,
    fleet: Option<FleetRow>,
    control: ControlLive,
}

impl World {
    pub async fn open(input: &Input) -> Result<World, Failure> {
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

    pub fn check_known(&self, tenant: &TenantId) -> Result<(), Failure> {
        if self.is_known(tenant) { Ok(()) } else { Err(Failure::unknown(&self.control, &format!("tenant/{tenant}"))) }
    }

    pub fn route(&self, tenant: &TenantId) -> Result<&Route, Failure> {
        self.check_known(tenant)?;
        // A deleted one has a route still, for whoever asks why; it leads nowhere.
        let route = self.control.routes.get(tenant).filter(|_| !self.control.deletions.contains_key(tenant));
        route.ok_or_else(|| self.not_made(tenant))
    }

    /// Why there is no database to connect to.
    fn not_made(&self, tenant: &TenantId) -> Failure {
        let wanted = self.desired.tenants.get(tenant);
        let (lacks, help) = match (self.control.deletions.get(tenant), wanted) {
            (Some(kept), _) => {
                let (name, until) = (&kept.renamed_to, kept.due_at.format("%Y-%m-%d %H:%M"));
                let lacks =
                    format!("is deleted; its database is kept as {name} on {} until {until} UTC", kept.instance);
                (lacks, "with `state: present` in its manifest o7s reconcile --once brings it back")
            }
            (None, Some(wanted)) if is_detached(wanted) => {
                ("is detached: its database stays and o7s has forgotten it".into(), "o7s adopt takes it back")
            }
            (None, Some(wanted)) if wanted.state == TenantState::Absent => {
                let help = "with `state: present` in its manifest o7s reconcile --once makes it, new and empty";
                ("is declared absent and has no database".into(), help)
            }
            (None, _) => ("has no database yet".into(), "make it: o7s reconcile --once"),
        };
        Failure::NotMade { object: format!("tenant/{tenant}"), lacks, help }
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
            let (stop, silent) = (tokio_util::sync::CancellationToken::new(), |_: Tell<'_>| {});
            let door = self.session.door(place, &stop, &silent, std::time::Duration::ZERO)?;
            if let Some(told) = not_awake(&door, route).await {
                return Ok(told);
            }
        }
        let at = if self.is_inside() { &route.endpoint.private } else { &route.endpoint.public };
        Ok(measure(keys, at, route).await)
    }
}
