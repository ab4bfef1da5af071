//! How a request leaves and its answer arrives: a trait, so that the simulation answers in process, and HTTP.

use std::time::Duration;

use futures_util::future::BoxFuture;

use super::error::Error;

/// An answer larger than this is not read on: a project of a thousand services is about 5 MiB.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// One GraphQL request. `Debug` shows the operation only: headers hold the token, the body secrets.
pub struct HttpRequest {
    pub operation: &'static str,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

/// `Debug` shows no body: the live state holds decrypted variables.
pub struct HttpResponse {
    pub status: u16,
    /// Names in any case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

/// Why there is no answer, told apart by the one thing that decides whether a mutation may be repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// Nothing left this machine: refused, no such host, no TLS.
    #[error("{reason}")]
    NotSent { reason: String },
    /// Timed out, reset or cut short: Railway may have carried it out.
    #[error("{reason}")]
    MaybeSent { reason: String },
}

/// Not cancel safe for mutations: a dropped future leaves open whether the request was carried out.
pub trait Transport: Send + Sync {
    fn send(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, TransportError>>;
}

/// HTTPS to Railway, or HTTP to a local Railway.
pub struct HttpTransport {
    http: reqwest::Client,
    url: reqwest::Url,
}

impl HttpTransport {
    /// `url` is the whole endpoint, ending in `/graphql/v2`.
    pub fn new(url: &str) -> Result<HttpTransport, Error> {
        let mut parsed = parse_endpoint(url)?;
        // Clients that do not name themselves are held to 10 requests a second by Railway's edge.
        parsed.query_pairs_mut().append_pair("source", "o7s");
        let http = reqwest::Client::builder()
            .user_agent(super::USER_AGENT)
            .connect_timeout(Duration::from_secs(10))
            // A redirect would carry the project token's header to another host.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| Error::BadEndpoint { url: url.to_owned(), reason: chain(&error) })?;
        Ok(HttpTransport { http, url: parsed })
    }

    async fn exchange(&self, request: HttpRequest) -> Result<HttpResponse, TransportError> {
        let mut builder = self.http.post(self.url.clone());
        for (name, value) in request.headers {
            builder = builder.header(name, value);
        }
        let mut response = builder.body(request.body).send().await.map_err(not_answered)?;
        let status = response.status().as_u16();
        let headers = response.headers().iter();
        let headers =
            headers.map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()));
        let headers = headers.collect();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(cut_short)? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                let reason = format!("the answer is larger than {} MiB", ANSWER_BYTES_MAX >> 20);
                return Err(TransportError::MaybeSent { reason });
            }
            body.extend_from_slice(&chunk);
        }
        let body = String::from_utf8_lossy(&body).into_owned();
        Ok(HttpResponse { status, headers, body })
    }
}

fn parse_endpoint(url: &str) -> Result<reqwest::Url, Error> {
    let bad = |url: &str, reason: &str| Error::BadEndpoint { url: url.to_owned(), reason: reason.to_owned() };
    let parsed = reqwest::Url::parse(url).map_err(|error| bad(url, &error.to_string()))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err(bad(url, "it must begin with https:// (or http:// for a local Railway)"));
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        // Not repeated: it may hold a password.
        return Err(bad("https://...@...", "a user or password does not belong into it"));
    }
    Ok(parsed)
}

impl Transport for HttpTransport {
    fn send(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, TransportError>> {
        Box::pin(self.exchange(request))
    }
}

impl HttpResponse {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(have, _)| have.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim())
    }
}

impl std::fmt::Debug for HttpRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HttpRequest({}, {} bytes)", self.operation, self.body.len())
    }
}

impl std::fmt::Debug for HttpResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HttpResponse({}, {} bytes)", self.status, self.body.len())
    }
}

fn not_answered(error: reqwest::Error) -> TransportError {
    let reason = chain(&error);
    if error.is_connect() || error.is_builder() {
        TransportError::NotSent { reason }
    } else {
        TransportError::MaybeSent { reason }
    }
}

fn cut_short(error: reqwest::Error) -> TransportError {
    TransportError::MaybeSent { reason: chain(&error) }
}

/// reqwest's own text leaves out the cause ("error sending request"), and repeats the URL, which we leave out.
fn chain(error: &reqwest::Error) -> String {
    let mut causes: Vec<String> = Vec::new();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    if causes.is_empty() { error.to_string() } else { causes.join(": ") }
}
