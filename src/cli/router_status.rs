//! `o7s router status`: which routers run, and what one of them is doing.

use std::io::Write as _;
use std::time::Duration;

use clap::Args;

use super::args::{Format, Input};
use super::progress::say;
use super::render;
use super::report::Failure;
use super::tenant::World;
use crate::router::http::Status;
use crate::store::Routers;

/// A router's own limit for an answer is 10 s.
const ANSWER_MAX: Duration = Duration::from_secs(12);

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  o7s router status                                which routers run and what each has applied, from the control database
  o7s router status --address 127.0.0.1:8080       that router's clients, servers and counts, by tenant

Exit codes: 0 shown; 7 the control database or the router is unreachable, 65 invalid manifest, 77 not allowed")]
pub struct StatusArgs {
    /// What a router was given as --http; a URL with `https` where something in front of it ends TLS
    #[arg(long, value_name = "ADDR")]
    address: Option<String>,
    #[command(flatten)]
    input: Input,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub async fn run(args: &StatusArgs) -> Result<u8, Failure> {
    let mut out = anstream::stdout().lock();
    if let Some(address) = &args.address {
        let status = ask(address).await?;
        match args.format {
            Format::Json => render::json(&mut out, &status)?,
            Format::Text => {
                write!(out, "{}", text_of_one(&status))?;
                out.flush()?;
            }
        }
        return Ok(0);
    }
    let world = World::open(&args.input).await?;
    let routers = world.session.store.routers().await?;
    match args.format {
        Format::Json => render::json(&mut out, &routers)?,
        Format::Text if routers.routers.is_empty() => {
            say(
                "no router runs, and none was lost within a day (one that ends in order is not kept); o7s router starts one",
            );
        }
        Format::Text => {
            write!(out, "{}", text_of_all(&routers))?;
            out.flush()?;
        }
    }
    Ok(0)
}

async fn ask(address: &str) -> Result<Status, Failure> {
    let base = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    let url = format!("{}/v1/status", base.trim_end_matches('/'));
    let asked = async {
        let http = reqwest::Client::builder().no_proxy().timeout(ANSWER_MAX).build()?;
        http.get(&url).send().await?.error_for_status()?.json().await
    };
    let cause = |error: reqwest::Error| {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(error) = source {
            text = error.to_string();
            source = error.source();
        }
        text
    };
    asked.await.map_err(|error| Failure::NoRouter { address: address.to_owned(), problem: cause(error) })
}

fn text_of_all(routers: &Routers) -> String {
    let time = |at: chrono::DateTime<chrono::Utc>| at.format("%Y-%m-%d %H:%M:%S").to_string();
    let rows = routers.routers.iter().map(|one| {
        let state = match (one.live, routers.version.saturating_sub(one.applied)) {
            (false, _) => "lost".to_owned(),
            (true, 0) => "in step".to_owned(),
            (true, behind) => format!("{behind} behind"),
        };
        let address = one.address.clone().unwrap_or_default();
        vec![
            one.replica.to_string(),
            state,
            one.applied.to_string(),
            time(one.started_at),
            time(one.seen_at),
            address,
        ]
    });
    let head = ["REPLICA", "STATE", "VERSION", "STARTED (UTC)", "SEEN (UTC)", "PEER ADDRESS"];
    let table = render::table_text(&head, &rows.collect::<Vec<_>>());
    let paused: Vec<&str> = routers.paused.iter().map(|tenant| tenant.as_str()).collect();
    let paused = if paused.is_empty() { "none".to_owned() } else { paused.join(", ") };
    format!("{table}routing table: version {}; paused tenants: {paused}\n", routers.version)
}

fn text_of_one(status: &Status) -> String {
    let ready = if status.ready { "ready".to_owned() } else { format!("not ready: {}", status.reasons.join("; ")) };
    let (replica, version, table, routes) = (status.replica, &status.version, status.table_version, status.routes);
    let mut text =
        format!("replica {replica}, o7s {version}, {ready}; routing table: version {table}, {routes} routes\n");
    status.warnings.iter().for_each(|warning| text.push_str(&format!("warning: {warning}\n")));
    if status.tenants.is_empty() {
        return text + "no tenant has had a session since it started\n";
    }
    let rows = status.tenants.iter().map(|one| {
        let counts = [one.clients, one.waiting, one.pinned, one.servers, one.idle_servers].map(u64::from);
        let counts = counts.into_iter().chain([one.queries, one.errors]).map(|count| count.to_string());
        [&one.tenant, &one.instance, &one.state].into_iter().cloned().chain(counts).collect()
    });
    let head =
        ["TENANT", "INSTANCE", "STATE", "CLIENTS", "WAITING", "PINNED", "SERVERS", "IDLE", "QUERIES", "ERRORS"];
    text + &render::table_text(&head, &rows.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::http::TenantStatus;
    use crate::store::RouterSeen;
    use crate::tenancy::TenantId;

    #[test]
    fn the_routers_are_listed_with_how_far_each_has_come() {
        let at = |seconds: i64| chrono::DateTime::from_timestamp(1_800_000_000 + seconds, 0).expect("a time");
        let router = |replica, applied, live| RouterSeen {
            replica,
            address: (replica == 0).then(|| "10.0.0.7:5432".to_owned()),
            applied,
            started_at: at(0),
            seen_at: at(60),
            live,
        };
        let routers = vec![router(0, 42, true), router(1, 40, true), router(7, 12, false)];
        let paused = vec![TenantId::parse("acme").expect("valid")];
        insta::assert_snapshot!(text_of_all(&Routers { version: 42, routers, paused }));
    }

    #[test]
    fn one_router_is_shown_with_its_tenants() {
        let tenant = TenantStatus {
            tenant: "acme".into(),
            instance: "shared-1".into(),
            tier: "pro".into(),
            state: "paused".into(),
            version: 42,
            clients: 3,
            waiting: 1,
            pinned: 0,
            servers: 2,
            idle_servers: 1,
            sessions: 9,
            queries: 1234,
            errors: 5,
            bytes_in: 6,
            bytes_out: 7,
        };
        let mut status = Status {
            version: "0.1.0".into(),
            replica: 3,
            table_version: 42,
            routes: 17,
            ready: false,
            reasons: vec!["the router is stopping".into()],
            warnings: vec!["the control database cannot be followed".into()],
            tenants: Vec::new(),
        };
        let empty = text_of_one(&status);
        status.tenants.push(tenant);
        insta::assert_snapshot!(format!("{empty}\n{}", text_of_one(&status)));
    }
}
