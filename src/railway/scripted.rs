//! The far side of the transport, for tests: answers from a list and remembers what was asked.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Client, ClientConfig, HttpRequest, HttpResponse, Token, Transport, TransportError};
use crate::tenancy::Secret;

pub enum Reply {
    Http(u16, Vec<(&'static str, &'static str)>, String),
    NotSent,
    Reset,
    /// No answer, for ever.
    Silence,
}

/// HTTP 200 with `data`.
pub fn data(data: Value) -> Reply {
    Reply::Http(200, vec![], json!({ "data": data }).to_string())
}

/// HTTP 200 with nothing but an error, as Railway answers; `alias` is the root field it blames.
pub fn refusal(message: &str, alias: Option<&str>) -> Reply {
    let mut error =
        json!({ "message": message, "extensions": { "code": "INTERNAL_SERVER_ERROR" }, "traceId": "t-1" });
    if let Some(alias) = alias {
        error["path"] = json!([alias]);
    }
    Reply::Http(200, vec![], json!({ "data": null, "errors": [error] }).to_string())
}

pub struct Sent {
    pub operation: &'static str,
    pub headers: Vec<(&'static str, String)>,
    pub body: Value,
    pub at: Instant,
}

pub struct Script {
    replies: Mutex<VecDeque<Reply>>,
    sent: Mutex<Vec<Sent>>,
}

impl Script {
    pub fn new(replies: impl IntoIterator<Item = Reply>) -> Arc<Script> {
        Arc::new(Script { replies: Mutex::new(replies.into_iter().collect()), sent: Mutex::default() })
    }

    pub fn sent(&self) -> std::sync::MutexGuard<'_, Vec<Sent>> {
        self.sent.lock().expect("no test panics while it holds it")
    }

    pub fn operations(&self) -> Vec<&'static str> {
        self.sent().iter().map(|sent| sent.operation).collect()
    }

    /// When each request left, in whole seconds after the first.
    pub fn seconds(&self) -> Vec<u64> {
        let sent = self.sent();
        sent.iter().map(|one| (one.at - sent[0].at).as_secs()).collect()
    }

    pub fn client(self: &Arc<Script>) -> Client {
        self.client_with(ClientConfig::new(Token::Api(Secret::new("api-token")), 7))
    }

    pub fn client_with(self: &Arc<Script>, config: ClientConfig) -> Client {
        Client::new(config, Arc::clone(self) as Arc<dyn Transport>)
    }

    async fn reply(&self, request: HttpRequest) -> Result<HttpResponse, TransportError> {
        let body = serde_json::from_str(&request.body).expect("a request is JSON");
        let sent = Sent { operation: request.operation, headers: request.headers, body, at: Instant::now() };
        self.sent().push(sent);
        let reply = self.replies.lock().expect("no test panics while it holds it").pop_front();
        match reply.expect("the script has an answer for every request") {
            Reply::Http(status, headers, body) => {
                let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
                Ok(HttpResponse { status, headers, body })
            }
            Reply::NotSent => Err(TransportError::NotSent { reason: "connection refused".into() }),
            Reply::Reset => Err(TransportError::MaybeSent { reason: "connection reset".into() }),
            Reply::Silence => std::future::pending().await,
        }
    }
}

impl Transport for Script {
    fn send(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, TransportError>> {
        Box::pin(self.reply(request))
    }
}
