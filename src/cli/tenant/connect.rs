//! `o7s tenant url` and `o7s tenant connect`: the two places where a tenant's password leaves, as their purpose is.

use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use clap::Args;
use serde::Serialize;

use super::{World, role_name, tenant_name};
use crate::cli::args::{Format, Input};
use crate::cli::progress::say;
use crate::cli::render;
use crate::cli::report::Failure;
use crate::tenancy::{Login, RoleName, Route, RouteState, TenantId};

#[derive(Debug, Args)]
struct Who {
    #[arg(value_name = "TENANT", value_parser = tenant_name)]
    tenant: TenantId,
    /// One of the tenant's declared roles instead of its owner
    #[arg(long, value_name = "NAME", value_parser = role_name)]
    role: Option<RoleName>,
    /// The address inside Railway's private network
    #[arg(long, conflicts_with = "public")]
    private: bool,
    /// The address that is reached from anywhere; the default outside the fleet's own environment
    #[arg(long)]
    public: bool,
    #[command(flatten)]
    input: Input,
}

#[derive(Debug, Args)]
#[command(after_help = "\
The URL holds a password and is all that is on stdout. It is derived from O7S_MASTER_KEY, and is the one that the last
reconcile set. With O7S_DATABASE_URL no Railway token is needed.

Examples:
  psql \"$(o7s tenant url acme)\"
  o7s tenant url acme --role reader --private

Exit codes: 0 printed, 1 the tenant has no database yet, 7 the control database is unreachable, 64 no such tenant or role,
65 invalid manifest, 77 not allowed")]
pub(super) struct UrlArgs {
    #[command(flatten)]
    who: Who,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Args)]
#[command(after_help = "\
psql gets the password by its environment, so no list of processes shows it.

Examples:
  o7s tenant connect acme
  o7s tenant connect acme --role reader -- -c 'select now()'

Exit codes: those of psql; 1 psql is not installed or the tenant has no database yet, 7 the control database is
unreachable, 64 no such tenant or role, 65 invalid manifest, 77 not allowed")]
pub(super) struct ConnectArgs {
    #[command(flatten)]
    who: Who,
    /// Handed to psql
    #[arg(last = true, value_name = "PSQL ARGUMENTS")]
    psql: Vec<String>,
}

#[derive(Serialize)]
struct Printed<'a> {
    tenant: &'a TenantId,
    role: Option<&'a RoleName>,
    state: RouteState,
    user: &'a str,
    password: &'a str,
    host: &'a str,
    port: u16,
    database: &'a str,
    url: &'a str,
}

async fn login(who: &Who) -> Result<(Route, Login), Failure> {
    let world = World::open(&who.input).await?;
    let route = world.route(&who.tenant)?;
    if let Some(role) = who.role.as_ref().filter(|role| !route.roles.contains(role)) {
        return Err(Failure::Unknown { object: format!("role `{role}` of tenant/{}", who.tenant) });
    }
    let private = who.private || (world.is_inside() && !who.public);
    Ok((route.clone(), Login::of(route, who.role.as_ref(), world.session.keys()?, private)))
}

fn warn_of_state(route: &Route) {
    let why = match route.state {
        RouteState::Active => return,
        RouteState::Suspended => "is suspended: its logins are off",
        RouteState::Retired => "is retired: its logins are off",
    };
    say(&format!("tenant/{} {why}", route.tenant));
}

pub(super) async fn url(args: &UrlArgs) -> Result<u8, Failure> {
    let (route, login) = login(&args.who).await?;
    warn_of_state(&route);
    if io::stderr().is_terminal() {
        say("this URL holds a password: keep it out of logs, chats and shell history");
    }
    let url = login.url();
    let mut out = anstream::stdout().lock();
    match args.format {
        Format::Text => writeln!(out, "{}", url.expose())?,
        Format::Json => {
            let printed = Printed {
                tenant: &route.tenant,
                role: args.who.role.as_ref(),
                state: route.state,
                user: &login.user,
                password: login.password.expose(),
                host: &login.address.host,
                port: login.address.port,
                database: &login.database,
                url: url.expose(),
            };
            render::json(&mut out, &printed)?;
        }
    }
    out.flush()?;
    Ok(0)
}

/// psql takes this process's place, so that its signals, its terminal and its exit code are its own.
pub(super) async fn connect(args: &ConnectArgs) -> Result<u8, Failure> {
    let (route, login) = login(&args.who).await?;
    warn_of_state(&route);
    let mut psql = Command::new("psql");
    psql.args(&args.psql)
        .env("PGHOST", &login.address.host)
        .env("PGPORT", login.address.port.to_string())
        .env("PGUSER", &login.user)
        .env("PGDATABASE", &login.database)
        .env("PGPASSWORD", login.password.expose())
        // These would lead elsewhere; and what psql starts has no use for the keys of the fleet.
        .env_remove("PGHOSTADDR")
        .env_remove("PGSERVICE")
        .env_remove("O7S_MASTER_KEY")
        .env_remove("O7S_DATABASE_URL")
        .env_remove("RAILWAY_TOKEN")
        .env_remove("RAILWAY_API_TOKEN");
    let error = psql.exec();
    Err(Failure::Psql { source: error })
}
