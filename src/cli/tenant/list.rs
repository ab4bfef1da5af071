//! `o7s tenant list`.

use std::io::Write as _;

use clap::Args;

use super::World;
use crate::cli::args::{Format, Input};
use crate::cli::render;
use crate::cli::report::Failure;
use crate::operator::{ObjectStatus, State, statuses};
use crate::tenancy::{PoolName, TierName};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  o7s tenant list --tier free --state suspended
  o7s tenant list --quiet             names only, one a line

Exit codes: 0 listed, 7 the control database is unreachable, 65 invalid manifest, 77 not allowed")]
pub(super) struct ListArgs {
    /// Only of this tier
    #[arg(long, value_parser = |text: &str| TierName::parse(text).map_err(|error| format!("the name {error}")))]
    tier: Option<TierName>,
    /// Only in this pool
    #[arg(long, value_parser = |text: &str| PoolName::parse(text).map_err(|error| format!("the name {error}")))]
    pool: Option<PoolName>,
    /// Only in this state: active, suspended, paused, pending, retained, retired, leaving, deleting, detached,
    /// renaming
    #[arg(long, value_parser = state)]
    state: Option<State>,
    /// Names only
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    input: Input,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

fn state(text: &str) -> Result<State, String> {
    let of_tenants = State::ALL.into_iter().filter(|state| !matches!(state, State::Running | State::Asleep));
    let known: Vec<State> = of_tenants.collect();
    known.iter().find(|state| state.as_str() == text).copied().ok_or_else(|| {
        let words: Vec<&str> = known.iter().map(|state| state.as_str()).collect();
        format!("expected one of {}", words.join(", "))
    })
}

pub(super) async fn run(args: &ListArgs) -> Result<u8, Failure> {
    let world = World::open(&args.input).await?;
    let conditions = world.session.store.conditions().await?;
    let all = statuses(&world.desired, &world.control, &conditions);
    let listed: Vec<ObjectStatus> =
        all.into_iter().filter(|one| one.kind == "tenant" && wanted(args, &world, one)).collect();
    let mut out = anstream::stdout().lock();
    match args.format {
        Format::Json if args.quiet => {
            let names: Vec<&str> = listed.iter().map(|one| one.name.as_str()).collect();
            render::json(&mut out, &names)?;
        }
        Format::Json => render::json(&mut out, &listed)?,
        Format::Text if args.quiet => {
            listed.iter().try_for_each(|one| writeln!(out, "{}", one.name))?;
            out.flush()?;
        }
        Format::Text => {
            let rows: Vec<Vec<String>> = listed.iter().map(|one| row(&world, one)).collect();
            render::table(&mut out, &["TENANT", "TIER", "POOL", "INSTANCE", "STATE", "READY", "MESSAGE"], &rows)?;
        }
    }
    Ok(0)
}

/// Where it is; before it is anywhere, where its manifest wants it.
fn pool(world: &World, one: &ObjectStatus) -> Option<PoolName> {
    let declared = world.desired.tenants.values().find(|tenant| tenant.name.as_str() == one.name);
    one.instance.as_ref().map(|instance| instance.pool()).or_else(|| declared.map(|tenant| tenant.pool.clone()))
}

fn wanted(args: &ListArgs, world: &World, one: &ObjectStatus) -> bool {
    args.tier.as_ref().is_none_or(|tier| one.tier.as_ref() == Some(tier))
        && args.state.is_none_or(|state| one.state == state)
        && args.pool.as_ref().is_none_or(|wanted| pool(world, one).as_ref() == Some(wanted))
}

fn row(world: &World, one: &ObjectStatus) -> Vec<String> {
    let text = |value: Option<String>| value.unwrap_or_default();
    vec![
        one.name.clone(),
        text(one.tier.as_ref().map(ToString::to_string)),
        text(pool(world, one).map(|pool| pool.to_string())),
        text(one.instance.as_ref().map(ToString::to_string)),
        one.state.to_string(),
        one.ready.as_str().to_owned(),
        one.message.clone(),
    ]
}
