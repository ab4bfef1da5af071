//! The local Railway in memory as a transport of the Railway client. Its clock is tokio's: in a test with paused time it
//! moves only when everybody waits.

use std::sync::{Arc, Mutex, MutexGuard};

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use ogelnates::local::world::{Fault, Plan, Rule};
use ogelnates::local::{Fate, Headers, InProcess};
use ogelnates::railway::{Client, ClientConfig, HttpRequest, HttpResponse, Token, Transport, TransportError};
use tokio::time::Instant;

/// The far side: a world whose clock is tokio's paused one.
pub struct Far {
    inside: Mutex<InProcess>,
    begun: Instant,
    epoch: DateTime<Utc>,
}

impl Far {
    pub fn new(plan: Plan) -> Arc<Far> {
        let epoch = DateTime::from_timestamp(1_795_514_400, 0).expect("in range");
        Arc::new(Far { inside: Mutex::new(InProcess::new(plan, 7, epoch)), begun: Instant::now(), epoch })
    }

    pub fn inside(&self) -> MutexGuard<'_, InProcess> {
        self.inside.lock().expect("no test panics while it holds it")
    }

    /// The world's time.
    pub fn now(&self) -> DateTime<Utc> {
        self.epoch + self.begun.elapsed()
    }

    /// Trouble for the next request it fits.
    pub fn order(&self, fault: Fault) {
        self.inside().order(Rule::once(fault));
    }

    /// A client with a token of its own.
    pub fn client(self: &Arc<Far>, token: Token) -> Client {
        Client::new(ClientConfig::new(token, 7), Arc::clone(self) as Arc<dyn Transport>)
    }

    /// A client with the account's token, which may do everything.
    pub fn account(self: &Arc<Far>) -> Client {
        let token = Token::Api(self.inside().token().clone());
        self.client(token)
    }

    async fn exchange(&self, request: HttpRequest) -> Result<HttpResponse, TransportError> {
        let headers: Headers = request.headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let response = self.inside().handle(self.now(), &headers, &request.body);
        match response.fate {
            Fate::Delivered => {}
            Fate::Cut => return Err(TransportError::MaybeSent { reason: "connection reset".into() }),
            Fate::Never => std::future::pending().await,
        }
        let mut headers = response.headers;
        // Its reset times are dates on the world's clock, which is not this machine's.
        headers.push(("date".into(), self.now().to_rfc2822()));
        Ok(HttpResponse { status: response.status, headers, body: response.body })
    }
}

impl Transport for Far {
    fn send(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, TransportError>> {
        Box::pin(self.exchange(request))
    }
}
