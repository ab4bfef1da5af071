//! Tokens against a key server on the loopback, which is a few lines over a socket.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::super::jwt::tests::{Issuer as Signer, settings};
use super::*;
use crate::tenancy::{RoleName, TenantId};

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).expect("a time")
}

fn checker(identify: &[Identify], jwt: Option<Issuer>, keys: ApiKeys) -> Checker {
    let rules = Rules { identify: identify.to_vec(), domain: None, notices: false, require_tls: false };
    Checker {
        rules: watch::channel(Arc::new(rules)).1,
        issuer: watch::channel(jwt.map(Arc::new)).1,
        api_keys: watch::channel(Arc::new(keys)).1,
        clock: now,
    }
}

fn claims() -> Value {
    json!({ "tenant": "acme", "role": "reader", "exp": now().timestamp() + 60 })
}

/// Of [`claims`].
fn reader() -> Bears {
    let lasts = Some(Lasts::For(Duration::from_secs(90)));
    Bears { tenant: "acme".to_owned(), role: "reader.acme".to_owned(), lasts }
}

async fn ask(checker: &Checker, token: &str) -> Result<Option<Bears>, Report<'static>> {
    checker.check(&Secret::new(token)).await
}

/// Answers what it is given, and counts.
struct KeyServer {
    url: String,
    body: Arc<Mutex<Option<String>>>,
    asked: Arc<AtomicU32>,
    _task: JoinSet<()>,
}

impl KeyServer {
    async fn start(body: Option<String>) -> KeyServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/keys", listener.local_addr().expect("bound"));
        let (body, asked) = (Arc::new(Mutex::new(body)), Arc::new(AtomicU32::new(0)));
        let (bodies, count) = (Arc::clone(&body), Arc::clone(&asked));
        let mut task = JoinSet::new();
        task.spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let _ = socket.read(&mut [0; 4096]).await;
                let body = bodies.lock().expect("not poisoned").clone();
                let (status, body) = body.map_or(("503 Down", String::new()), |body| ("200 OK", body));
                let length = body.len();
                let answer =
                    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        });
        KeyServer { url, body, asked, _task: task }
    }

    fn says(&self, body: Option<String>) {
        *self.body.lock().expect("not poisoned") = body;
    }

    fn issuer(&self) -> Issuer {
        let jwt = Jwt { keys: JwtKeys::Jwks(self.url.clone()), ..settings() };
        Issuer::new(jwt, &(Box::new(|_: &str| None) as Environment), None)
    }

    fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn published_keys_are_fetched_once_and_outlive_their_server() {
    let signer = Signer::shared();
    let server = KeyServer::start(Some(signer.jwks().to_string())).await;
    let checker = checker(&[Identify::Jwt], Some(server.issuer()), ApiKeys::new());
    let token = signer.sign(&json!({ "alg": "ES256", "kid": "ec" }), &claims());
    for _ in 0..3 {
        assert_eq!(ask(&checker, &token).await, Ok(Some(reader())));
    }
    assert_eq!(server.asked(), 1);
    server.says(None);
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(3600)).await;
    tokio::time::resume();
    assert_eq!(ask(&checker, &token).await, Ok(Some(reader())));
    assert_eq!(server.asked(), 2);
}

#[tokio::test]
async fn an_unknown_key_is_asked_for_at_a_bounded_rate() {
    let (old, new) = (Signer::shared(), Signer::new());
    let mut next = new.jwks();
    next["keys"][1]["kid"] = json!("next");
    let server = KeyServer::start(Some(old.jwks().to_string())).await;
    let checker = checker(&[Identify::Jwt], Some(server.issuer()), ApiKeys::new());
    let token = new.sign_as("ec", &json!({ "alg": "ES256", "kid": "next" }), &claims());
    for _ in 0..20 {
        assert_eq!(ask(&checker, &token).await, Ok(None));
    }
    assert_eq!(server.asked(), 1);
    server.says(Some(next.to_string()));
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(11)).await;
    tokio::time::resume();
    assert_eq!(ask(&checker, &token).await, Ok(Some(reader())));
    assert_eq!(server.asked(), 2);
}

#[tokio::test]
async fn without_keys_it_cannot_be_told_and_a_huge_answer_is_none() {
    let server = KeyServer::start(Some(format!("{{\"keys\":[{}", " ".repeat(300 * 1024)))).await;
    let far = checker(&[Identify::Jwt], Some(server.issuer()), ApiKeys::new());
    let none = checker(&[Identify::Jwt], None, ApiKeys::new());
    let unset = Issuer::new(settings(), &(Box::new(|_: &str| None) as Environment), None);
    let unset = checker(&[Identify::Jwt], Some(unset), ApiKeys::new());
    for checker in [far, none, unset] {
        let code = ask(&checker, "a.b.c").await.map_err(|report| report.code);
        assert_eq!(code, Err(SqlState::CANNOT_CONNECT_NOW));
    }
}

#[tokio::test]
async fn each_kind_is_taken_only_where_the_manifest_lists_it() {
    let secret = |name: &str| (name == "JWT_SECRET").then(|| Secret::new("a shared secret of more than 32 bytes"));
    let issuer = || Some(Issuer::new(settings(), &(Box::new(secret) as Environment), None));
    let jwt = Signer::shared().sign(&json!({ "alg": "HS256" }), &claims());
    let id = Uuid::from_u128(7);
    let (text, hash) = ApiKey::make(id, &[7; 32]);
    let (tenant, role) = (TenantId::parse("acme").expect("valid"), RoleName::parse("reader").ok());
    let keys = ApiKeys::from([(id, ApiKey { id, tenant, role, hash })]);
    for (ways, takes_jwt, takes_key) in
        [(&[Identify::Jwt][..], true, false), (&[Identify::ApiKey], false, true), (&[Identify::User], false, false)]
    {
        let checker = checker(ways, issuer(), keys.clone());
        assert_eq!(ask(&checker, &jwt).await, Ok(takes_jwt.then(reader)));
        let by_key = || Bears { lasts: Some(Lasts::WhileKey(id)), ..reader() };
        assert_eq!(ask(&checker, text.expose()).await, Ok(takes_key.then(by_key)));
    }
    let checker = checker(&[Identify::ApiKey], None, ApiKeys::new());
    assert_eq!(ask(&checker, text.expose()).await, Ok(None));
}

#[tokio::test]
async fn a_session_lasts_as_long_as_its_token_unless_the_manifest_says_otherwise() {
    let secret = |name: &str| (name == "JWT_SECRET").then(|| Secret::new("a shared secret of more than 32 bytes"));
    for (exp, outlive, lasts) in [
        (json!(now().timestamp() + 600), false, Some(Lasts::For(Duration::from_secs(630)))),
        (json!(now().timestamp() - 10), false, Some(Lasts::For(Duration::from_secs(20)))),
        (json!(now().timestamp() + 600), true, None),
        (json!(1e300), false, Some(Lasts::For(Duration::from_secs((i64::MAX - now().timestamp()).unsigned_abs())))),
    ] {
        let jwt = Jwt { sessions_outlive: outlive, ..settings() };
        let issuer = Issuer::new(jwt, &(Box::new(secret) as Environment), None);
        let checker = checker(&[Identify::Jwt], Some(issuer), ApiKeys::new());
        let token = Signer::shared().sign(&json!({ "alg": "HS256" }), &json!({ "tenant": "acme", "exp": exp }));
        let bears = ask(&checker, &token).await.expect("told").expect("right");
        assert_eq!(bears.lasts, lasts, "{exp}");
    }
}
