//! Forward auth: an HTTP gateway asks whether a request may pass, and as whom.

use std::sync::Arc;

use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};

use crate::tenancy::Secret;

use super::super::identify::{self, Bearer};
use super::super::login::Bears;
use super::super::refusal;
use super::super::requests::Refused;
use super::super::table::{Entry, State};
use super::{Answer, HttpState, problem};

/// Whom the request's token stands for, or the answer to a request without a good one.
pub async fn bearer(state: &HttpState, headers: &HeaderMap) -> Result<Bears, Box<Answer>> {
    let token = match tokens_of(headers).as_slice() {
        [] => {
            let detail = "send a token as Authorization: Bearer TOKEN, or an API key as x-api-key: KEY";
            return Err(unauthorized(detail, "Bearer").into());
        }
        [token] => Secret::new(*token),
        // The application may look at another one.
        [..] => {
            let detail = "authorization, x-api-key and apikey carry different tokens; send one";
            return Err(unauthorized(detail, "Bearer error=\"invalid_request\"").into());
        }
    };
    let unavailable = |text: &str| Box::new(problem(StatusCode::SERVICE_UNAVAILABLE, text));
    let Some(tokens) = &state.tokens else {
        return Err(unavailable("this router has no keys to check tokens with"));
    };
    match tokens.check(&token).await {
        Ok(Some(bears)) => Ok(bears),
        Ok(None) => Err(unauthorized("the token is not valid", "Bearer error=\"invalid_token\"").into()),
        Err(report) => Err(unavailable(&report.message)),
    }
}

pub async fn authorize(state: &HttpState, headers: &HeaderMap) -> Answer {
    let bears = match bearer(state, headers).await {
        Ok(bears) => bears,
        Err(answer) => return *answer,
    };
    let by_host =
        host(headers).and_then(|host| identify::label(&state.rules.borrow(), host).map(str::to_ascii_lowercase));
    if by_host.is_some_and(|tenant| tenant != bears.tenant) {
        return problem(StatusCode::FORBIDDEN, "the token is another tenant's");
    }
    let table = Arc::clone(&state.table.borrow());
    let bearer = Bearer { tenant: None, database: None, pooling: None };
    let who = identify::borne(&table, &bears.tenant, &bears.role, &bearer);
    let Some(entry) = &who.entry else {
        return problem(StatusCode::FORBIDDEN, "the token's tenant or role does not exist here");
    };
    match entry.state {
        State::Active => {}
        State::Paused { .. } => {
            let mut answer = problem(StatusCode::LOCKED, "the tenant is paused; try again in a moment");
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
            return answer;
        }
        State::Suspended => return problem(StatusCode::LOCKED, "the tenant is suspended; its data is kept"),
        State::Retired => return problem(StatusCode::FORBIDDEN, "the tenant was removed"),
    }
    // The one place where a request is admitted.
    if let Some(requests) = &state.requests
        && let Err(refused) = requests.admit(entry).await
    {
        return over(entry, refused);
    }
    let mut answer = Response::default();
    let told = [("x-o7s-tenant", &entry.tenant), ("x-o7s-tier", &entry.tier), ("x-o7s-role", &who.role)];
    for (name, value) in told {
        // An adopted role's name may be anything.
        let Ok(value) = HeaderValue::from_str(value) else {
            return problem(StatusCode::FORBIDDEN, "the role's name does not fit into a header");
        };
        answer.headers_mut().insert(HeaderName::from_static(name), value);
    }
    answer
}

fn over(entry: &Entry, refused: Refused) -> Answer {
    let Refused::Over { limit, full } = refused else {
        let detail = "the tenant's ceiling on requests cannot be checked; try again in a moment";
        return problem(StatusCode::SERVICE_UNAVAILABLE, detail);
    };
    let seconds = full.frees_in.unwrap_or(60_000).div_ceil(1000).max(1);
    let report = refusal::requests(entry, limit, full);
    let mut answer = problem(StatusCode::TOO_MANY_REQUESTS, &report);
    let told = [
        (RETRY_AFTER, seconds.to_string()),
        (HeaderName::from_static("ratelimit-limit"), limit.to_string()),
        (HeaderName::from_static("ratelimit-remaining"), "0".to_owned()),
        (HeaderName::from_static("ratelimit-reset"), seconds.to_string()),
    ];
    for (name, value) in told {
        if let Ok(value) = HeaderValue::from_str(&value) {
            answer.headers_mut().insert(name, value);
        }
    }
    answer
}

fn unauthorized(detail: &str, challenge: &'static str) -> Answer {
    let mut answer = problem(StatusCode::UNAUTHORIZED, detail);
    answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    answer
}

/// Those that a request carries, each once. Anything else in their place, as another scheme, makes it carry none.
fn tokens_of(headers: &HeaderMap) -> Vec<&str> {
    let names = [AUTHORIZATION.as_str(), "x-api-key", "apikey"];
    let values = names.into_iter().flat_map(|name| headers.get_all(name).iter().map(move |value| (name, value)));
    let tokens: Option<Vec<&str>> = values.map(|(name, value)| token_in(name, value)).collect();
    let mut tokens = tokens.unwrap_or_default();
    tokens.retain(|token| !token.is_empty());
    tokens.sort_unstable();
    tokens.dedup();
    tokens
}

fn token_in<'a>(name: &str, value: &'a HeaderValue) -> Option<&'a str> {
    let text = value.to_str().ok()?.trim();
    if name != AUTHORIZATION.as_str() {
        return Some(text);
    }
    let (scheme, token) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The host that the client asked the gateway for, without its port. With several gateways the first one's word counts.
fn host(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get("x-forwarded-host").or_else(|| headers.get(HOST))?.to_str().ok()?;
    let host = value.split(',').next()?.trim();
    Some(
        host.rsplit_once(':')
            .filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
            .map_or(host, |p| p.0),
    )
}
