//! `o7s usage`: what tenants used, from the meters of the routers.

use std::collections::BTreeMap;
use std::io::{self, Write};

use chrono::{DateTime, Utc};
use clap::{Args, ValueEnum};

use super::args::Input;
use super::load::load_desired;
use super::progress::say;
use super::report::Failure;
use super::session::Session;
use super::tenant::{size, tenant_name};
use super::{config, render};
use crate::store::{UsageFilter, UsageReport};
use crate::tenancy::{TenantId, Usage, UsageSpan};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  o7s usage                            every tenant over the last day, with a line of its queries by hour
  o7s usage acme --since 7d            one tenant, day by day
  o7s usage acme --since 1h            in steps of five minutes
  o7s usage --since 90d --format csv   all counters, one line a tenant and day

Counts reach the control database within seconds (see o7s router --usage-every). docs/metering.md says what is counted.

Exit codes: 0 shown, also when nothing was used; 1 no control database yet, 7 it is unreachable, 64 no such tenant,
65 invalid manifest, 77 not allowed")]
pub struct UsageArgs {
    /// Only of this tenant
    #[arg(value_name = "TENANT", value_parser = tenant_name)]
    tenant: Option<TenantId>,
    /// How far back; whole steps, the current one included
    #[arg(long, value_name = "TIME", default_value = "24h")]
    since: String,
    /// What is summed up; without it 5m, 1h, 1d or 7d by how far back
    #[arg(long, value_name = "TIME")]
    step: Option<String>,
    #[command(flatten)]
    input: Input,
    #[arg(long, value_enum, default_value_t = UsageFormat::Table)]
    format: UsageFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum UsageFormat {
    /// For people; steps in which nothing was used are left out
    #[value(alias = "text")]
    Table,
    /// One document with all counters
    Json,
    /// All counters, one line a tenant and step
    Csv,
}

pub async fn run(args: UsageArgs) -> Result<u8, Failure> {
    let UsageSpan { since, step } = UsageSpan::parse(&args.since, args.step.as_deref()).map_err(Failure::Usage)?;
    let desired = load_desired(&args.input.files).map_err(Failure::Manifests)?;
    let session = Session::read_only(config::parts(), &desired).await?;
    let (_, control) = session.load().await?;
    let filter = UsageFilter { tenant: args.tenant.clone(), since, step };
    let report = session.store.usage(&filter).await?;
    if let Some(tenant) = &args.tenant
        && report.rows.is_empty()
        && !control.routes.contains_key(tenant)
        && !desired.tenants.contains_key(tenant)
    {
        return Err(Failure::unknown(&control, &format!("tenant/{tenant}")));
    }
    let mut out = anstream::stdout().lock();
    match args.format {
        UsageFormat::Json => render::json(&mut out, &report)?,
        UsageFormat::Csv => csv(&mut out, &report)?,
        UsageFormat::Table => {
            let text = if args.tenant.is_some() { by_time(&report) } else { by_tenant(&report) };
            out.write_all(text.as_bytes())?;
            out.flush()?;
        }
    }
    for gap in &report.gaps {
        let (since, until) = (gap.since.format("%Y-%m-%d %H:%M:%S"), gap.until.format("%Y-%m-%d %H:%M:%S"));
        say(&format!(
            "router {} ended without a last flush: counts of {since} to {until} UTC may be missing",
            gap.router
        ));
    }
    Ok(0)
}

fn csv(out: &mut dyn Write, report: &UsageReport) -> io::Result<()> {
    writeln!(out, "tenant,at,{}", Usage::NAMES.join(","))?;
    for row in &report.rows {
        let counts: Vec<String> = row.usage.values().iter().map(u64::to_string).collect();
        writeln!(out, "{},{},{}", row.tenant, row.at.format("%Y-%m-%dT%H:%M:%SZ"), counts.join(","))?;
    }
    out.flush()
}

const HEAD: [&str; 9] =
    ["QUERIES", "READS", "WRITES", "ROWS", "SENT", "SERVER TIME", "CONNECTED", "ERRORS", "REFUSED"];

fn cells(usage: &Usage) -> [String; 9] {
    [
        usage.queries.to_string(),
        usage.reads.to_string(),
        usage.writes.to_string(),
        usage.rows.to_string(),
        size(usage.bytes_out),
        time(usage.server_micros / 1000),
        time(usage.connection_ms),
        usage.errors().to_string(),
        usage.rejections().to_string(),
    ]
}

/// Milliseconds in the largest unit that leaves two digits or more.
fn time(ms: u64) -> String {
    match ms {
        0..10_000 => format!("{}.{:03} s", ms / 1000, ms % 1000),
        10_000..600_000 => format!("{} s", ms / 1000),
        600_000..36_000_000 => format!("{} min", ms / 60_000),
        _ => format!("{} h", ms / 3_600_000),
    }
}

fn total<'a>(usages: impl Iterator<Item = &'a Usage>) -> Usage {
    usages.fold(Usage::default(), |mut sum, usage| {
        sum.add(usage);
        sum
    })
}

/// The begin of each step.
fn steps(report: &UsageReport) -> Vec<DateTime<Utc>> {
    let step = i64::try_from(report.step).unwrap_or(i64::MAX).max(1);
    let (first, last) = (report.since.timestamp(), report.until.timestamp());
    let steps = usize::try_from((last - first) / step + 1).unwrap_or(0).min(10_000);
    (0i64..).take(steps).filter_map(|at| DateTime::from_timestamp(first + at * step, 0)).collect()
}

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// One bar a step; nothing is a blank.
fn sparkline(values: &[u64]) -> String {
    let most = values.iter().copied().max().unwrap_or(0).max(1);
    let bar = |&value: &u64| match value {
        0 => ' ',
        value => BARS[usize::try_from((u128::from(value) * 8).div_ceil(u128::from(most)) - 1).unwrap_or(0).min(7)],
    };
    values.iter().map(bar).collect()
}

fn by_tenant(report: &UsageReport) -> String {
    let steps = steps(report);
    let line = |name: &str, rows: &[&crate::store::UsageRow], stored: Option<u64>| {
        let queries = |at: &DateTime<Utc>| rows.iter().filter(|row| row.at == *at).map(|row| row.usage.queries).sum();
        let spark = sparkline(&steps.iter().map(queries).collect::<Vec<u64>>());
        let usage = total(rows.iter().map(|row| &row.usage));
        let stored = stored.map(size).unwrap_or_default();
        [vec![name.to_owned()], cells(&usage).to_vec(), vec![stored, spark]].concat()
    };
    let all: Vec<&crate::store::UsageRow> = report.rows.iter().collect();
    let stored = |tenant: &str| report.storage.iter().find(|one| one.tenant == tenant).map(|one| one.bytes);
    let of_one = all.chunk_by(|one, other| one.tenant == other.tenant);
    let mut lines: Vec<Vec<String>> =
        of_one.map(|rows| line(&rows[0].tenant, rows, stored(&rows[0].tenant))).collect();
    if lines.len() > 1 {
        lines.push(line("all", &all, Some(report.storage.iter().map(|one| one.bytes).sum())));
    }
    let head: Vec<&str> = ["TENANT"].into_iter().chain(HEAD).chain(["STORED", "QUERIES OVER TIME"]).collect();
    render::table_text(&head, &lines)
}

fn by_time(report: &UsageReport) -> String {
    let most = report.rows.iter().map(|row| row.usage.queries).max().unwrap_or(0).max(1);
    let mut by_step: BTreeMap<DateTime<Utc>, Usage> = BTreeMap::new();
    report.rows.iter().for_each(|row| by_step.entry(row.at).or_default().add(&row.usage));
    let mut lines: Vec<Vec<String>> = by_step
        .into_iter()
        .map(|(at, usage)| {
            let width = usize::try_from(u128::from(usage.queries) * 20 / u128::from(most)).unwrap_or(0);
            let bar = if usage.queries > 0 { "█".repeat(width.max(1)) } else { String::new() };
            let at = at.format("%Y-%m-%d %H:%M").to_string();
            [vec![at], cells(&usage).to_vec(), vec![bar]].concat()
        })
        .collect();
    let all = total(report.rows.iter().map(|row| &row.usage));
    lines.push([vec!["all".to_owned()], cells(&all).to_vec(), vec![String::new()]].concat());
    let head: Vec<&str> = ["FROM (UTC)"].into_iter().chain(HEAD).chain(["QUERIES"]).collect();
    render::table_text(&head, &lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Stored, UsageRow};

    fn report() -> UsageReport {
        let at = |hours: i64| DateTime::from_timestamp(1_800_000_000 + hours * 3600, 0).expect("a time");
        let row = |tenant: &str, hours, queries: u64| UsageRow {
            tenant: tenant.to_owned(),
            at: at(hours),
            usage: Usage {
                queries,
                reads: queries,
                rows: 3 * queries,
                bytes_out: queries << 20,
                server_micros: queries * 1_500_000,
                connection_ms: 3_600_000,
                errors_constraint: queries / 7,
                ..Usage::default()
            },
        };
        let rows = vec![row("acme", 0, 1), row("acme", 1, 80), row("acme", 5, 40), row("beta", 2, 7)];
        let storage = vec![Stored { tenant: "acme".into(), bytes: 12 << 20, measured_at: at(0) }];
        UsageReport { since: at(0), until: at(5), step: 3600, rows, gaps: Vec::new(), storage }
    }

    #[test]
    fn tables_add_up_and_show_when() {
        insta::assert_snapshot!(by_tenant(&report()) + "\n" + &by_time(&report()), @r"
        TENANT  QUERIES  READS  WRITES  ROWS  SENT      SERVER TIME  CONNECTED  ERRORS  REFUSED  STORED  QUERIES OVER TIME
        acme    121      121    0       363   121Mi     181 s        180 min    16      0        12Mi    ▁█   ▄
        beta    7        7      0       21    7168 kiB  10 s         60 min     1       0                  █
        all     128      128    0       384   128Mi     192 s        240 min    17      0        12Mi    ▁█▁  ▄

        FROM (UTC)        QUERIES  READS  WRITES  ROWS  SENT      SERVER TIME  CONNECTED  ERRORS  REFUSED  QUERIES
        2027-01-15 08:00  1        1      0       3     1024 kiB  1.500 s      60 min     0       0        █
        2027-01-15 09:00  80       80     0       240   80Mi      120 s        60 min     11      0        ████████████████████
        2027-01-15 10:00  7        7      0       21    7168 kiB  10 s         60 min     1       0        █
        2027-01-15 13:00  40       40     0       120   40Mi      60 s         60 min     5       0        ██████████
        all               128      128    0       384   128Mi     192 s        240 min    17      0
        ");
        let mut out = Vec::new();
        csv(&mut out, &report()).expect("written");
        let text = String::from_utf8(out).expect("text");
        assert_eq!(text.lines().count(), 5);
        assert!(text.starts_with("tenant,at,sessions,queries,reads,"), "{text}");
        assert!(text.contains("\nacme,2027-01-15T08:00:00Z,0,1,1,0,"), "{text}");
    }

    #[test]
    fn the_line_of_bars_shows_the_most_as_the_highest_and_nothing_as_nothing() {
        assert_eq!(sparkline(&[0, 1, 2, 3, 4, 5, 6, 7, 8]), " ▁▂▃▄▅▆▇█");
        assert_eq!(sparkline(&[0, 0]), "  ");
        assert_eq!(sparkline(&[u64::MAX, 1]), "█▁");
    }
}
