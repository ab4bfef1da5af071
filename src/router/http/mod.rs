//! The router's HTTP side: health, readiness, metrics, status, and forward auth for HTTP gateways.
//!
//! One small server, bounded in connections, header bytes and time; no request's body is read.
//! Read: authorize, metrics, status, usage.

mod authorize;
mod metrics;
mod status;
#[cfg(test)]
mod tests;
mod usage;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::identify::Rules;
use super::login::Tokens;
use super::metering::Delivery;
use super::requests::Requests;
use super::table::Table;
use super::worker::{Team, TenantReport};
use crate::store::{UsageFilter, UsageReport};
pub use status::{Status, TenantStatus};

const CONNECTIONS_MAX: usize = 1024;
/// For the head of a request; a connection at rest is closed after it.
const HEAD_MAX: Duration = Duration::from_secs(30);
/// A token has 64 KiB at most.
const HEAD_BYTES_MAX: usize = 96 * 1024;
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Workers answer between two rounds.
const REPORT_MAX: Duration = Duration::from_secs(2);
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
/// Requests that are answered when the router stops have this long.
const DRAIN_MAX: Duration = Duration::from_secs(2);

type Answer = Response<Full<Bytes>>;

/// What is told, and where it comes from.
pub struct HttpState {
    pub table: watch::Receiver<Arc<Table>>,
    pub rules: watch::Receiver<Arc<Rules>>,
    pub tokens: Option<Arc<dyn Tokens>>,
    /// The ceiling on what `/v1/authorize` is asked; none without a control database.
    pub requests: Option<Arc<Requests>>,
    pub condition: watch::Receiver<Condition>,
    pub reports: Reports,
    /// Absent where none is kept.
    pub usage: Option<UsageReader>,
    /// Likewise.
    pub delivery: Option<watch::Receiver<Delivery>>,
    /// This replica's number.
    pub replica: u8,
}

pub type Reports = Box<dyn Fn() -> BoxFuture<'static, Vec<TenantReport>> + Send + Sync>;

/// Why it fails is logged by whoever reads.
pub type UsageReader = Box<dyn Fn(UsageFilter) -> BoxFuture<'static, Result<UsageReport, ()>> + Send + Sync>;

/// How a router is, besides whether it ever read routes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Condition {
    /// Since when the control database cannot be followed; what was read last is served on.
    pub stale_since: Option<DateTime<Utc>>,
    /// Told to stop: new clients belong to another replica.
    pub draining: bool,
}

/// The reports of all workers, by tenant; a worker that does not answer in time is left out.
pub async fn reports(team: &Team) -> Vec<TenantReport> {
    let (give, mut given) = tokio::sync::mpsc::channel(team.size().max(1));
    team.report(&move |report| drop(give.try_send(report)));
    let mut tenants: Vec<TenantReport> = Vec::new();
    while let Ok(Some(report)) = timeout(REPORT_MAX, given.recv()).await {
        tenants.extend(report.tenants);
    }
    tenants.sort_by(|one, other| one.tenant.cmp(&other.tenant).then(other.version.cmp(&one.version)));
    // One that has moved to another instance is known to two workers; the newer one says where it is.
    tenants.dedup_by(|old, new| {
        old.tenant == new.tenant && {
            new.clients += old.clients;
            new.waiting += old.waiting;
            new.pinned += old.pinned;
            new.servers += old.servers;
            new.idle_servers += old.idle_servers;
            new.counts.add(&old.counts);
            true
        }
    });
    tenants
}

/// Answers until `stop`; what is under way then has two seconds.
pub async fn serve_http(listener: TcpListener, state: Arc<HttpState>, stop: CancellationToken) {
    let (tasks, room) = (TaskTracker::new(), Arc::new(Semaphore::new(CONNECTIONS_MAX)));
    // The semaphore is never closed, so this goes on.
    while let Some(Ok(permit)) = stop.run_until_cancelled(Arc::clone(&room).acquire_owned()).await {
        match stop.run_until_cancelled(listener.accept()).await {
            Some(Ok((socket, _))) => {
                let (state, stop) = (Arc::clone(&state), stop.clone());
                tasks.spawn(async move {
                    serve_one(socket, state, stop).await;
                    drop(permit);
                });
            }
            Some(Err(error)) => {
                warn!(%error, "an HTTP connection cannot be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
            None => break,
        }
    }
    tasks.close();
    let _ = timeout(DRAIN_MAX, tasks.wait()).await;
}

async fn serve_one(socket: TcpStream, state: Arc<HttpState>, stop: CancellationToken) {
    let service = service_fn(move |request| {
        let state = Arc::clone(&state);
        async move { Ok::<_, Infallible>(answer(&state, &request).await) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_MAX).max_buf_size(HEAD_BYTES_MAX);
    let connection = http.serve_connection(TokioIo::new(socket), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "an HTTP connection ended");
    }
}

async fn answer(state: &HttpState, request: &Request<Incoming>) -> Answer {
    let path = request.uri().path();
    // A gateway passes its client's method on.
    if path != "/v1/authorize" && !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut answer = problem(StatusCode::METHOD_NOT_ALLOWED, "this address is only read");
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return answer;
    }
    let answer = async {
        match path {
            "/healthz" => text("ok\n".to_owned(), "text/plain; charset=utf-8"),
            "/readyz" => status::readyz(state),
            "/metrics" => text(metrics::text(state).await, "text/plain; version=0.0.4; charset=utf-8"),
            "/v1/status" => json_text(StatusCode::OK, &json!(status::of(state).await), "application/json"),
            "/v1/usage" => usage::usage(state, request.headers(), request.uri().query().unwrap_or_default()).await,
            "/v1/authorize" => authorize::authorize(state, request.headers()).await,
            _ => problem(StatusCode::NOT_FOUND, "there is nothing here; see docs/router-http.md for what there is"),
        }
    };
    let late = |_| problem(StatusCode::SERVICE_UNAVAILABLE, "no answer could be found in time");
    timeout(ANSWER_MAX, answer).await.unwrap_or_else(late)
}

fn text(body: String, kind: &'static str) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

fn json_text(status: StatusCode, body: &Value, kind: &'static str) -> Answer {
    let mut answer = text(format!("{body}\n"), kind);
    *answer.status_mut() = status;
    answer
}

/// RFC 9457. `detail` is for the caller to read.
fn problem(status: StatusCode, detail: &str) -> Answer {
    let title = status.canonical_reason().unwrap_or("Error");
    let body = json!({ "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail });
    json_text(status, &body, "application/problem+json")
}
