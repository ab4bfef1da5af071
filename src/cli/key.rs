//! `o7s key`: API keys of tenants, for programs that log in through the router or pass an HTTP gateway.

use std::io::Write as _;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::args::{Format, Input, duration};
use super::progress::{Progress, say};
use super::reconcile::holder_named;
use super::render;
use super::report::Failure;
use super::signals::Signals;
use super::tenant::{World, role_name, tenant_name};
use crate::store::{ApiKeyInfo, Created, Lagging, Store};
use crate::tenancy::{ApiKey, RoleName, TenantId};

const POLL: Duration = Duration::from_millis(50);
const NAME_CHARS_MAX: usize = 64;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  o7s key create acme --name ci --role reader     prints the key, this once
  o7s key list acme
  o7s key revoke acme/ci

A key is a password of the user `token`, over TLS, where the Router manifest lists `apiKey` in `identify`:
  psql 'host=db.example.com user=token dbname=acme sslmode=require'
and a bearer token for /v1/authorize.")]
pub struct KeyArgs {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Make a key of one tenant and print it, this once; only its hash is kept
    Create(CreateArgs),
    /// List keys, without the keys themselves
    List(ListArgs),
    /// Let a key open nothing any more, at all routers
    Revoke(RevokeArgs),
}

#[derive(Debug, Args)]
struct Common {
    #[command(flatten)]
    input: Input,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  o7s key create acme --name ci                          as the tenant's owner
  PGPASSWORD=$(o7s key create acme --name ci --role reader) psql 'host=db.example.com user=token sslmode=require'

A key follows its tenant through a rename and ends with its deletion or release.

Exit codes: 0 made, 1 the tenant has no database yet, 4 it has a key of that name, 6 another run holds the lease,
7 the control database is unreachable, 64 no such tenant or role, 65 invalid manifest, 77 not allowed")]
struct CreateArgs {
    #[arg(value_name = "TENANT", value_parser = tenant_name)]
    tenant: TenantId,
    /// What people call it; one of a tenant's keys in use has the name
    #[arg(long, value_parser = key_name)]
    name: String,
    /// One of the tenant's declared roles; without it the owner
    #[arg(long, value_parser = role_name)]
    role: Option<RoleName>,
    #[command(flatten)]
    common: Common,
    /// How long to wait for another run's lease
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    lock_timeout: Duration,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  o7s key list                       of all tenants
  o7s key list acme --revoked        also those that open nothing any more

Exit codes: 0 listed, 7 the control database is unreachable, 64 no such tenant, 65 invalid manifest, 77 not allowed")]
struct ListArgs {
    #[arg(value_name = "TENANT", value_parser = tenant_name)]
    tenant: Option<TenantId>,
    /// Also keys that were revoked in the last 90 days
    #[arg(long)]
    revoked: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Needs no lease and waits for no run. Its sessions end at once, transactions too.

Examples:
  o7s key revoke acme/ci             the key in use of that name
  o7s key revoke 7f9c2ba4            the key in use whose id begins so
  o7s key revoke 7f9c2ba4-e88f-4a1e-a5c3-0d2d7a1b9f10

Exit codes: 0 revoked, also when it was before; 2 not in force at every router in time, 7 the control database is
unreachable, 64 no such key, 65 invalid manifest, 77 not allowed")]
struct RevokeArgs {
    /// TENANT/NAME, or its id or the id's first eight digits or more, as `o7s key list` shows them, or the key itself
    #[arg(value_name = "KEY", value_parser = named)]
    key: Named,
    /// How long to wait until every running router has it in force
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    timeout: Duration,
    #[command(flatten)]
    common: Common,
}

fn key_name(text: &str) -> Result<String, String> {
    let fits = (1..=NAME_CHARS_MAX).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    match fits && text.trim() == text {
        true => Ok(text.to_owned()),
        false => Err(format!("a name has 1 to {NAME_CHARS_MAX} characters, and no space around it")),
    }
}

/// Which key somebody means.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Named {
    Id(Uuid),
    /// How its id begins, in lower case.
    Begins(String),
    Name(TenantId, String),
}

/// Somebody may have nothing but a key that leaked; its id is in it.
fn named(text: &str) -> Result<Named, String> {
    if let Some(id) = ApiKey::id_of(text).or_else(|| Uuid::try_parse(text).ok()) {
        return Ok(Named::Id(id));
    }
    if let Some((tenant, name)) = text.split_once('/') {
        return Ok(Named::Name(tenant_name(tenant)?, key_name(name)?));
    }
    // Fewer digits are met by chance.
    let is_id = (8..36).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    match is_id {
        true => Ok(Named::Begins(text.to_ascii_lowercase())),
        false => Err("that is neither TENANT/NAME nor an id of a key, nor the first eight digits of one".to_owned()),
    }
}

/// Its id; of names and beginnings only those of keys in use count.
async fn find(store: &Store, key: &Named) -> Result<Uuid, Failure> {
    let none = |what: String| Failure::Usage(format!("there is no key {what}; o7s key list shows them"));
    match key {
        Named::Id(id) => Ok(*id),
        Named::Name(tenant, name) => {
            let keys = store.api_keys(Some(tenant), false).await?;
            let found = keys.iter().find(|key| key.name == *name);
            found.map(|key| key.id).ok_or_else(|| none(format!("{name:?} of {tenant} in use")))
        }
        Named::Begins(start) => {
            let keys = store.api_keys(None, false).await?;
            let found: Vec<Uuid> =
                keys.iter().map(|key| key.id).filter(|id| id.to_string().starts_with(start)).collect();
            match found[..] {
                [id] => Ok(id),
                [] => Err(none(format!("in use whose id begins with {start}"))),
                _ => Err(Failure::Usage(format!("{} keys begin with {start}: give more of the id", found.len()))),
            }
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Made<'a> {
    #[serde(flatten)]
    info: &'a ApiKeyInfo,
    key: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Revoked<'a> {
    #[serde(flatten)]
    info: &'a ApiKeyInfo,
    routers: &'a Lagging,
}

pub async fn run(args: KeyArgs) -> Result<u8, Failure> {
    let signals = Signals::listen()?;
    let work = async {
        match &args.command {
            KeyCommand::Create(args) => create(args).await,
            KeyCommand::List(args) => list(args).await,
            KeyCommand::Revoke(args) => revoke(args).await,
        }
    };
    let done = signals.token.run_until_cancelled(work).await;
    signals.settle(done.unwrap_or_else(|| Err(crate::operator::Error::Stopped.into())))
}

async fn create(args: &CreateArgs) -> Result<u8, Failure> {
    let world = World::open(&args.common.input).await?;
    let (tenant, route) = (&args.tenant, world.route(&args.tenant)?);
    if let Some(role) = args.role.as_ref().filter(|role| !route.roles.contains(role)) {
        let known: Vec<&str> = route.roles.iter().map(RoleName::as_str).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(Failure::Usage(format!("tenant {tenant} has no role {role}; its roles: {known}")));
    }
    let mut random = [0; 32];
    aws_lc_rs::rand::fill(&mut random).map_err(std::io::Error::other)?;
    let id = Uuid::new_v4();
    let (text, hash) = ApiKey::make(id, &random);
    let key = ApiKey { id, tenant: tenant.clone(), role: args.role.clone(), hash };
    let on_wait = |holder: &str| say(&format!("waiting for the lease of {holder}"));
    let mut lease = world.session.store.acquire(&holder_named("o7s key create"), args.lock_timeout, on_wait).await?;
    let created = lease.create_api_key(&key, &args.name).await;
    lease.release().await;
    let taken = |problem| Failure::NoKeyMade { object: format!("tenant/{tenant}"), problem };
    let info = match created? {
        Created::Key(info) => info,
        Created::NameTaken => return Err(taken(format!("has a key named {:?} in use", args.name))),
        Created::Full => return Err(taken("cannot have one more: 100,000 keys are in use".to_owned())),
    };
    let mut out = anstream::stdout().lock();
    match args.common.format {
        Format::Json => render::json(&mut out, &Made { info: &info, key: text.expose() })?,
        Format::Text => {
            say(&format!("key {id} of {tenant}; it is shown this once"));
            writeln!(out, "{}", text.expose())?;
            out.flush()?;
        }
    }
    Ok(0)
}

async fn list(args: &ListArgs) -> Result<u8, Failure> {
    let world = World::open(&args.common.input).await?;
    if let Some(tenant) = &args.tenant {
        world.check_known(tenant)?;
    }
    let keys = world.session.store.api_keys(args.tenant.as_ref(), args.revoked).await?;
    let mut out = anstream::stdout().lock();
    if args.common.format == Format::Json {
        render::json(&mut out, &keys)?;
        return Ok(0);
    }
    let day = |at: chrono::DateTime<chrono::Utc>| at.format("%Y-%m-%d %H:%M").to_string();
    let row = |key: &ApiKeyInfo| {
        let role = key.role.as_ref().map_or_else(|| "owner".to_owned(), ToString::to_string);
        let revoked = key.revoked_at.map(day).unwrap_or_default();
        vec![key.tenant.to_string(), key.name.clone(), role, key.id.to_string(), day(key.created_at), revoked]
    };
    let rows: Vec<Vec<String>> = keys.iter().map(row).collect();
    render::table(&mut out, &["TENANT", "NAME", "ROLE", "ID", "CREATED (UTC)", "REVOKED (UTC)"], &rows)?;
    Ok(0)
}

async fn revoke(args: &RevokeArgs) -> Result<u8, Failure> {
    let world = World::open(&args.common.input).await?;
    let store = &world.session.store;
    let id = find(store, &args.key).await?;
    let Some(info) = store.revoke_api_key(id).await? else {
        return Err(Failure::Usage(format!("there is no key {id}; o7s key list shows them")));
    };
    let routers = everywhere(store, &info, args.timeout).await?;
    let mut out = anstream::stdout().lock();
    match args.common.format {
        Format::Json => render::json(&mut out, &Revoked { info: &info, routers: &routers })?,
        Format::Text => {
            let (name, tenant) = (&info.name, &info.tenant);
            let there = routers.live - routers.lagging.len() as u64;
            writeln!(out, "revoked {name:?} of {tenant}; in force on {there} of {} routers", routers.live)?;
        }
    }
    for number in &routers.lost {
        say(&format!("router {number} was not seen for 15 s: gone, or cut off and still taking the key"));
    }
    Ok(if routers.lagging.is_empty() { 0 } else { 2 })
}

/// Waits for all routers that are seen.
async fn everywhere(store: &Store, info: &ApiKeyInfo, within: Duration) -> Result<Lagging, Failure> {
    let (until, progress) = (Instant::now() + within, Progress::new());
    loop {
        let routers = store.lagging(&info.tenant, info.version).await?;
        if routers.lagging.is_empty() || Instant::now() >= until {
            progress.clear();
            return Ok(routers);
        }
        progress.show(&format!("waiting for {} of {} routers", routers.lagging.len(), routers.live));
        sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_named_by_its_name_its_id_or_by_itself() {
        let id = Uuid::from_u128(7);
        let (text, _) = ApiKey::make(id, &[7; 32]);
        for text in [text.expose(), &id.to_string(), &id.simple().to_string()] {
            assert_eq!(named(text), Ok(Named::Id(id)));
        }
        assert_eq!(named("7F9C2BA4-e8"), Ok(Named::Begins("7f9c2ba4-e8".to_owned())));
        let acme: TenantId = tenant_name("acme").expect("a tenant");
        assert_eq!(named("acme/ci of web"), Ok(Named::Name(acme, "ci of web".to_owned())));
        for bad in ["ci", "7f9c2ba", "7f9c2baz", "acme/", "/ci", "Acme/ci", "acme/ ci"] {
            assert!(named(bad).is_err(), "{bad:?}");
        }
        assert!(key_name("ci of web").is_ok());
        for bad in ["", " ci", "a\nb", &"x".repeat(65)] {
            assert!(key_name(bad).is_err(), "{bad:?}");
        }
    }
}
