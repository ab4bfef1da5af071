//! The local Railway on a socket of 127.0.0.1: Railway's endpoint, and beside it a page for people and our own controls,
//! which count as no requests; the controls need the account token too.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Json, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, middleware};
use chrono::Utc;
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::gateway::{Fate, Headers, LocalResponse};
use super::live::{Live, Status};
use super::world::{RULES_MAX, Rule};

pub const STATUS_PATH: &str = "/__local/status";
pub const FAULTS_PATH: &str = "/__local/faults";

/// The largest patch of a large project is a fraction of this.
const BODY_BYTES_MAX: usize = 16 << 20;
/// How long an answer that never comes keeps its connection; clients give up before.
const NEVER: Duration = Duration::from_secs(300);
/// How long open connections may go on after the end was asked for.
const DRAIN: Duration = Duration::from_secs(2);

#[derive(Clone)]
struct Shared {
    live: Arc<Live>,
    ready: Arc<AtomicBool>,
    stop: CancellationToken,
}

/// Serves until `stop`, then lets open requests finish for a moment.
pub async fn serve(
    listener: TcpListener,
    live: Arc<Live>,
    ready: Arc<AtomicBool>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let shared = Shared { live, ready, stop: stop.clone() };
    let controls = Router::new()
        .route(STATUS_PATH, get(status))
        .route(FAULTS_PATH, get(list_faults).post(order_fault).delete(clear_faults))
        .route_layer(middleware::from_fn_with_state(shared.clone(), guard));
    let router = Router::new()
        .route("/graphql/v2", post(graphql))
        .route("/", get(overview))
        .merge(controls)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(shared);
    let serving = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
    let drained = async {
        stop.cancelled().await;
        sleep(DRAIN).await;
    };
    tokio::select! {
        served = async { serving.await } => served,
        () = drained => Ok(()),
    }
}

async fn graphql(State(shared): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    let Ok(body) = String::from_utf8(body.into()) else { return StatusCode::BAD_REQUEST.into_response() };
    let headers = plain(&headers);
    let live = Arc::clone(&shared.live);
    // It saves the world, which is a write of a file.
    let handled = tokio::task::spawn_blocking(move || live.handle(Utc::now(), &headers, &body)).await;
    let Ok(answer) = handled else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    match answer.fate {
        Fate::Delivered => whole(answer),
        Fate::Cut => cut(answer),
        Fate::Never => {
            let _ = timeout(NEVER, shared.stop.cancelled()).await;
            cut(answer)
        }
    }
}

/// Nothing may be loaded, run or framed: what names of services say is shown, never obeyed.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'";

/// The page needs no token, so it is told to those only who ask for this machine by its own name: a web page somewhere
/// whose name was bent to 127.0.0.1 would otherwise read it.
async fn overview(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    if !matches!(name, "127.0.0.1" | "localhost") {
        return (StatusCode::MISDIRECTED_REQUEST, "ask for http://127.0.0.1 or http://localhost").into_response();
    }
    let live = Arc::clone(&shared.live);
    let ready = shared.ready.load(Relaxed);
    let Ok(page) = tokio::task::spawn_blocking(move || live.overview(ready, Utc::now())).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let headers = [
        (header::CONTENT_SECURITY_POLICY, PAGE_POLICY),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, Html(page)).into_response()
}

fn plain(headers: &HeaderMap) -> Headers {
    let text = |value: &HeaderValue| value.to_str().ok().map(str::to_owned);
    headers.iter().filter_map(|(name, value)| Some((name.as_str().to_owned(), text(value)?))).collect()
}

fn response(answer: &LocalResponse, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in &answer.headers {
        if let (Ok(name), Ok(value)) = (name.parse::<axum::http::HeaderName>(), HeaderValue::from_str(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn whole(answer: LocalResponse) -> Response {
    let body = Body::from(answer.body.clone());
    response(&answer, body)
}

/// The connection breaks before anything of the body has passed.
fn cut(answer: LocalResponse) -> Response {
    let broken = futures_util::stream::once(async { Err::<Bytes, _>(std::io::Error::other("cut on order")) });
    response(&answer, Body::from_stream(broken))
}

/// The account token, as on Railway's endpoint.
async fn guard(State(shared): State<Shared>, request: axum::extract::Request, next: middleware::Next) -> Response {
    let expected = format!("Bearer {}", shared.live.identity.token.expose());
    let sent = request.headers().get("authorization").and_then(|value| value.to_str().ok());
    if sent == Some(&*expected) { next.run(request).await } else { StatusCode::UNAUTHORIZED.into_response() }
}

async fn status(State(shared): State<Shared>) -> Json<Status> {
    Json(shared.live.status(shared.ready.load(Relaxed)))
}

async fn list_faults(State(shared): State<Shared>) -> Json<Vec<Rule>> {
    Json(shared.live.status(false).faults)
}

async fn order_fault(State(shared): State<Shared>, Json(rule): Json<Rule>) -> Response {
    if shared.live.order(rule) {
        StatusCode::NO_CONTENT.into_response()
    } else {
        let reason = format!("{RULES_MAX} faults are open already; clear them first");
        (StatusCode::CONFLICT, reason).into_response()
    }
}

async fn clear_faults(State(shared): State<Shared>) -> StatusCode {
    shared.live.clear_faults();
    StatusCode::NO_CONTENT
}
