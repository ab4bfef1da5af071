//! `/v1/usage`: what the tenant used whose token comes with the request, and nobody else's.

use hyper::StatusCode;
use hyper::header::HeaderMap;
use serde_json::json;

use super::{Answer, HttpState, authorize, json_text, problem};
use crate::store::{UsageFilter, UsageReport};
use crate::tenancy::{TenantId, UsageSpan};

/// `query` is that of the address: `since=24h&step=1h`, both may be left out.
pub async fn usage(state: &HttpState, headers: &HeaderMap, query: &str) -> Answer {
    let bears = match authorize::bearer(state, headers).await {
        Ok(bears) => bears,
        Err(answer) => return *answer,
    };
    let Some(read) = &state.usage else {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "this router serves a file of routes and keeps no usage");
    };
    let Ok(tenant) = TenantId::parse(&bears.tenant) else {
        return problem(StatusCode::FORBIDDEN, "the token's tenant does not exist here");
    };
    let UsageSpan { since, step } = match span(query) {
        Ok(span) => span,
        Err(why) => return problem(StatusCode::BAD_REQUEST, &why),
    };
    match read(UsageFilter { tenant: Some(tenant), since, step }).await {
        Ok(report) => json_text(StatusCode::OK, &told(&report), "application/json"),
        Err(()) => problem(StatusCode::SERVICE_UNAVAILABLE, "the usage cannot be read now; try again in a moment"),
    }
}

fn span(query: &str) -> Result<UsageSpan, String> {
    let (mut since, mut step) = ("24h", None);
    for (name, value) in
        query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    {
        match name {
            "since" => since = value,
            "step" => step = Some(value),
            _ => {
                return Err(format!("`{name}` is not known here; there are since and step, as in since=24h&step=1h"));
            }
        }
    }
    UsageSpan::parse(since, step)
}

/// Without the names of routers.
fn told(report: &UsageReport) -> serde_json::Value {
    let gaps: Vec<_> = report.gaps.iter().map(|gap| json!({ "since": gap.since, "until": gap.until })).collect();
    let UsageReport { since, until, step, rows, storage, .. } = report;
    json!({ "since": since, "until": until, "step": step, "rows": rows, "gaps": gaps, "storage": storage })
}
