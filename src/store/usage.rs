//! Usage as people read it: summed by tenant and by minute, hour, day or longer. Each interval is read at the one level that has
//! all of it: days, hours of days that are not set yet, minutes of hours that are not.

use std::fmt::Write as _;
use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize, Serializer};

use super::connect::Store;
use super::error::Error;
use super::lease::{Lease, fenced};
use super::load::is_undefined;
use crate::tenancy::{TenantId, Usage};

/// Which usage is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageFilter {
    /// Every tenant's without one.
    pub tenant: Option<TenantId>,
    /// How far back, in seconds; rounded to whole steps, the current one included.
    pub since: u64,
    /// Seconds that are summed up. From 60 on minutes are read, from 3,600 on hours, from 86,400 on days.
    pub step: u64,
}

/// Of one tenant in one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageRow {
    pub tenant: String,
    /// When the step begins.
    pub at: DateTime<Utc>,
    /// Every counter is written, also those that are 0.
    #[serde(serialize_with = "whole")]
    pub usage: Usage,
}

fn whole<S: Serializer>(usage: &Usage, to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(Usage::NAMES.iter().zip(usage.values()))
}

/// What may be missing: a router ended without a last flush.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    pub router: String,
    pub since: DateTime<Utc>,
    pub until: DateTime<Utc>,
}

/// How large a tenant's database was when it was last measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stored {
    pub tenant: String,
    pub bytes: u64,
    pub measured_at: DateTime<Utc>,
}

/// All of one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageReport {
    /// By the control database's clock: the first step begins, and the last one ends.
    pub since: DateTime<Utc>,
    pub until: DateTime<Utc>,
    pub step: u64,
    /// By tenant, then time; a step without any usage has no row.
    pub rows: Vec<UsageRow>,
    pub gaps: Vec<Gap>,
    pub storage: Vec<Stored>,
}

static USAGE: LazyLock<String> = LazyLock::new(|| {
    let (mut names, mut sums, mut fields) = (String::new(), String::new(), String::new());
    for (at, name) in Usage::NAMES.iter().enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        let _ = write!(names, ", {name}");
        let _ = write!(sums, ", sum({name})::bigint AS {name}");
        let _ = write!(fields, "{comma}'{name}', {name}");
    }
    let between = "BETWEEN asked.since AND asked.until";
    format!(
        "WITH asked AS MATERIALIZED (SELECT $1->>'tenant' AS tenant, ($1->>'step')::bigint AS step,
            to_timestamp((extract(epoch FROM now())::bigint - ($1->>'since')::bigint)
                / ($1->>'step')::bigint * ($1->>'step')::bigint) AS since, now() AS until),
        place AS MATERIALIZED (SELECT id, p.tenant FROM o7s.meter_places p, asked
            WHERE asked.tenant IS NULL OR p.tenant = asked.tenant),
        dirty_hours AS MATERIALIZED (SELECT since AS hour FROM o7s.meter_dirty WHERE span = 'hour'),
        dirty_days AS MATERIALIZED (SELECT since AS day FROM o7s.meter_dirty WHERE span = 'day'),
        used AS (
            SELECT minute AS at, place{names} FROM o7s.meter_minutes, asked WHERE minute {between}
                AND (step < 3600 OR date_trunc('hour', minute, 'UTC') IN (SELECT hour FROM dirty_hours))
            UNION ALL SELECT hour, place{names} FROM o7s.meter_hours, asked WHERE step >= 3600 AND hour {between}
                AND hour NOT IN (SELECT hour FROM dirty_hours)
                AND (step < 86400 OR date_trunc('day', hour, 'UTC') IN (SELECT day FROM dirty_days))
            UNION ALL SELECT day, place{names} FROM o7s.meter_days, asked WHERE step >= 86400 AND day {between}
                AND day NOT IN (SELECT day FROM dirty_days)),
        summed AS (SELECT tenant, to_timestamp(extract(epoch FROM at)::bigint / step * step) AS at{sums}
            FROM used JOIN place ON id = place CROSS JOIN (SELECT step FROM asked) AS asked GROUP BY 1, 2)
        SELECT json_build_object('since', asked.since, 'until', asked.until, 'step', step,
            'rows', (SELECT coalesce(json_agg(json_build_object('tenant', tenant, 'at', at, 'usage',
                json_strip_nulls(json_build_object({fields}))) ORDER BY tenant, at), '[]') FROM summed),
            'gaps', (SELECT coalesce(json_agg(json_build_object('router', router, 'since', gap.since,
                'until', gap.until) ORDER BY gap.since), '[]') FROM o7s.meter_gaps gap WHERE gap.until >= asked.since),
            'storage', (SELECT coalesce(json_agg(json_build_object('tenant', s.tenant, 'bytes', bytes,
                'measuredAt', measured_at) ORDER BY s.tenant), '[]') FROM o7s.storage s
                WHERE asked.tenant IS NULL OR s.tenant = asked.tenant)
        )::text FROM asked"
    )
});

/// Of the tenants whose databases they are.
const SIZES: &str = fenced!(
    "written AS (INSERT INTO o7s.storage (tenant, bytes)
        SELECT tenant, bytes FROM fence, unnest($2::text[], $3::text[], $4::bigint[]) AS new (instance, database, bytes)
            JOIN o7s.routes USING (instance, database)
        ON CONFLICT (tenant) DO UPDATE SET bytes = excluded.bytes, measured_at = now())
    SELECT count(*) FROM fence"
);

impl Lease {
    /// Bytes by instance and database, as they are now.
    pub async fn save_sizes(&mut self, sizes: &[(String, String, u64)]) -> Result<(), Error> {
        let instances: Vec<&str> = sizes.iter().map(|(instance, ..)| instance.as_str()).collect();
        let databases: Vec<&str> = sizes.iter().map(|(_, database, _)| database.as_str()).collect();
        let bytes: Vec<i64> = sizes.iter().map(|(.., bytes)| i64::try_from(*bytes).unwrap_or(i64::MAX)).collect();
        let query = sqlx::query_scalar(SIZES).bind(self.epoch).bind(instances).bind(databases).bind(bytes);
        self.write("keep what tenants store", query).await
    }
}

impl Store {
    /// One query.
    pub async fn usage(&self, filter: &UsageFilter) -> Result<UsageReport, Error> {
        let doing = "tell its usage";
        let filter = UsageFilter { step: filter.step.max(60), ..filter.clone() };
        let filter = serde_json::to_value(filter)
            .map_err(|source| Error::Unreadable { what: "the filter of usage", source })?;
        let failed =
            |source| if is_undefined(&source) { Error::NotBootstrapped } else { Error::Sql { doing, source } };
        let text = self.read(doing, USAGE.as_str(), Some(&filter)).await?.map_err(failed)?;
        serde_json::from_str(&text).map_err(|source| Error::Unreadable { what: "usage", source })
    }
}
