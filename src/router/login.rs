//! One client's way from its first byte to being handed over, or to its refusal.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::tenancy::Secret;

use super::credentials::Known;
use super::handover::{Client, Lasts, Proof, Session};
use super::identify::{self, Bearer, Identity, Who};
use super::listener::Doors;
use super::protocol::client_login::{ClientLogin, Failure, Progress, authentication_ok};
use super::protocol::error::{Report, SqlState};
use super::protocol::options::TokenBy;
use super::protocol::scram::NONCE_CHARS;
use super::protocol::startup::{Cancel, Hello, Startup, Step, Tls};
use super::table::Table;
use super::tls::ALPN;
use super::tokens::ApiKeys;
use super::wire::Wire;

/// How a login ended.
pub enum End {
    /// And what is owed to the client: the end of its login.
    LoggedIn(Box<Session>, Vec<u8>),
    Cancel(Cancel),
    Refused(Box<Report<'static>>),
    /// Refused, and counted.
    Wrong(Box<Wrong>),
    /// The client went away, or nothing it could read is left to say.
    Gone(io::Error),
}

pub struct Wrong {
    /// Empty where nobody of that name exists.
    pub tenant: Arc<str>,
    pub role: Arc<str>,
    pub answer: Report<'static>,
}

/// Why a step was the last.
enum Stop {
    Refused(Report<'static>),
    WrongPassword,
    Gone(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        Stop::Gone(error)
    }
}

impl From<Report<'static>> for Stop {
    fn from(report: Report<'static>) -> Stop {
        Stop::Refused(report)
    }
}

/// Checks what comes as a password and is a JWT or an API key.
pub trait Tokens: Send + Sync {
    /// `None` for one that is wrong in whatever way; an error when it cannot be told.
    fn check<'a>(&'a self, token: &'a Secret) -> BoxFuture<'a, Result<Option<Bears>, Report<'static>>>;

    /// Whose discovery document says how to get a token; `None` where nobody's does.
    fn issuer(&self) -> Option<String> {
        None
    }

    /// The API keys in use: a session ends with the one that began it.
    fn api_keys(&self) -> Option<watch::Receiver<Arc<ApiKeys>>> {
        None
    }
}

/// What a right token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bears {
    pub tenant: String,
    /// In any form that a user name has: `reader`, `acme_reader`, `reader.acme`; `acme` is the owner.
    pub role: String,
    /// How long a session goes on that it begins.
    pub lasts: Option<Lasts>,
}

/// What a connection is for.
enum Said {
    Hello(Box<Hello>),
    Cancel(Cancel),
}

pub struct Login<'a> {
    doors: &'a Doors,
    pub wire: Wire,
    id: u64,
    peer: SocketAddr,
    /// Read and not yet taken.
    buffer: Vec<u8>,
    /// Of the certificate that was shown.
    end_point: Option<Vec<u8>>,
}

impl<'a> Login<'a> {
    pub fn new(doors: &'a Doors, wire: Wire, id: u64, peer: SocketAddr) -> Login<'a> {
        Login { doors, wire, id, peer, buffer: Vec::new(), end_point: None }
    }

    /// Not cancel safe: afterwards the wire can only be closed. What few logins need has room of its own, so that the many that
    /// wait for a packet are small.
    ///
    /// `spoken` is called once the client has said what it wants.
    pub async fn run(&mut self, spoken: impl FnOnce()) -> End {
        let said = self.startup().await;
        spoken();
        let hello = match said {
            Ok(Said::Hello(hello)) => *hello,
            Ok(Said::Cancel(cancel)) => return End::Cancel(cancel),
            Err(Stop::Refused(report)) => return End::Refused(Box::new(report)),
            Err(Stop::Gone(error)) => return End::Gone(error),
            Err(Stop::WrongPassword) => return End::Gone(io::ErrorKind::InvalidData.into()),
        };
        let table = Arc::clone(&self.doors.table.borrow());
        let sni = self.wire.tls.as_deref().and_then(|tls| tls.server_name());
        let rules = Arc::clone(&self.doors.rules.borrow());
        if rules.require_tls && self.wire.tls.is_none() && !self.is_local() {
            return End::Refused(Box::new(unencrypted("this router takes encrypted connections only")));
        }
        let identity = identify::identify(&rules, &table, sni, &hello);
        let mut out = hello.negotiation.clone();
        let (who, proof, lasts) = match identity {
            Ok(Identity::Role(mut who)) => {
                let proof = self.prove(&mut who, &mut out).await;
                (who, proof, None)
            }
            Ok(Identity::Token(bearer, by)) => Box::pin(self.bear(&bearer, by, &mut out)).await,
            Err(report) => return End::Refused(Box::new(report)),
        };
        self.end(hello, who, proof.map(|proof| (proof, lasts)), out)
    }

    fn end(&self, hello: Hello, who: Who, proof: Result<(Proof, Option<Lasts>), Stop>, unsent: Vec<u8>) -> End {
        let (proof, lasts) = match (proof, who.refusal) {
            (Ok(_), Some(refusal)) => return End::Refused(Box::new(refusal)),
            (Ok(proof), None) => proof,
            (Err(Stop::Refused(report)), _) => return End::Refused(Box::new(report)),
            (Err(Stop::Gone(error)), _) => return End::Gone(error),
            (Err(Stop::WrongPassword), _) => {
                let tenant = who.entry.map_or_else(|| Arc::from(""), |entry| Arc::clone(&entry.tenant));
                return End::Wrong(Box::new(Wrong { tenant, role: who.role, answer: who.failure }));
            }
        };
        // No proof fits nobody's verifier.
        let Some(entry) = who.entry else { return End::Gone(io::ErrorKind::InvalidData.into()) };
        let pooling = who.pooling.unwrap_or(entry.pooling);
        let (id, peer) = (self.id, self.peer);
        let Hello { minor, settings, replication, .. } = hello;
        let session =
            Session { id, peer, entry, role: who.role, pooling, minor, settings, replication, proof, lasts };
        End::LoggedIn(Box::new(session), unsent)
    }

    pub fn into_client(self, session: Session, unsent: Vec<u8>) -> io::Result<Client> {
        let (stream, tls) = self.wire.into_parts()?;
        Ok(Client { stream, tls, received: self.buffer, unsent, session })
    }

    /// Up to the packet that says what the connection is for.
    async fn startup(&mut self) -> Result<Said, Stop> {
        let offered = if self.doors.tls.is_some() { Tls::Offered } else { Tls::Absent };
        let mut startup = Startup::new(offered);
        loop {
            let (taken, step) = startup.step(&self.buffer)?;
            self.buffer.drain(..taken);
            match step {
                Step::More => self.read().await?,
                Step::Decline => self.wire.write(b"N").await?,
                Step::BeginTls => {
                    self.wire.write(b"S").await?;
                    Box::pin(self.secure(false)).await?;
                    startup.secured();
                }
                Step::DirectTls => {
                    Box::pin(self.secure(true)).await?;
                    startup.secured();
                }
                Step::Hello(hello) => return Ok(Said::Hello(hello)),
                Step::Cancel(cancel) => return Ok(Said::Cancel(cancel)),
            }
        }
    }

    async fn secure(&mut self, direct: bool) -> io::Result<()> {
        let Some(tls) = &self.doors.tls else { return Err(io::ErrorKind::InvalidInput.into()) };
        if self.buffer.is_empty() {
            // Whoever says nothing takes nobody's turn.
            self.wire.read(&mut self.buffer).await?;
        }
        let first = std::mem::take(&mut self.buffer);
        let handshake = tls.handshake().map_err(io::Error::other)?;
        self.end_point = self.doors.handshakes.run(self.wire.secure(handshake, &first)).await?;
        let alpn = self.wire.tls.as_deref().and_then(|tls| tls.alpn_protocol());
        if direct && alpn != Some(ALPN) {
            let message = "direct TLS without the ALPN protocol postgresql";
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(())
    }

    async fn read(&mut self) -> io::Result<()> {
        match self.wire.read(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Whether the client is on this machine; IPv4 inside IPv6 counts.
    fn is_local(&self) -> bool {
        self.peer.ip().to_canonical().is_loopback()
    }

    /// Appends the end of the login to `out`, unsent.
    async fn prove(&mut self, who: &mut Who, out: &mut Vec<u8>) -> Result<Proof, Stop> {
        let (verifier, proof) = match self.doors.credentials.of(who.entry.as_ref(), &who.role).await? {
            Known::Trust if self.is_local() => {
                authentication_ok(out);
                return Ok(Proof::Trust);
            }
            Known::Trust => {
                let message = format!("role \"{}\" may log in from the router's own machine only", who.role);
                let hint = "Give it a password in the router's file of routes.";
                return Err(Report::fatal(SqlState::INVALID_AUTHORIZATION, message).hint(hint).into());
            }
            Known::Verifier { verifier, proof, hint } => {
                if let Some(hint) = hint {
                    who.failure.hint = Some(hint.into());
                }
                (verifier, proof)
            }
        };
        let mut login = ClientLogin::scram(verifier, nonce()?, self.end_point.clone(), out);
        match self.exchange(&mut login, out).await? {
            Progress::Proven(keys) => Ok(proof.unwrap_or_else(|| Proof::Keys(Arc::new(keys)))),
            Progress::More | Progress::Token(_) => Err(Stop::WrongPassword),
        }
    }

    /// The same for a token; who it is, is known only afterwards.
    async fn bear(
        &mut self,
        bearer: &Bearer,
        by: TokenBy,
        out: &mut Vec<u8>,
    ) -> (Who, Result<Proof, Stop>, Option<Lasts>) {
        let nobody = identify::borne(&Table::default(), "", "", bearer);
        let bears = match self.token(by, out).await {
            Ok(Some(bears)) if bearer.tenant.as_ref().is_none_or(|tenant| *tenant == bears.tenant) => bears,
            Ok(_) => return (nobody, Err(Stop::WrongPassword), None),
            Err(stop) => return (nobody, Err(stop), None),
        };
        let table = Arc::clone(&self.doors.table.borrow());
        let who = identify::borne(&table, &bears.tenant, &bears.role, bearer);
        let Some(entry) = &who.entry else { return (who, Err(Stop::WrongPassword), None) };
        let proof = self.doors.credentials.proof(entry, &who.role).await.map_err(Stop::from);
        authentication_ok(out);
        (who, proof, bears.lasts)
    }

    async fn token(&mut self, by: TokenBy, out: &mut Vec<u8>) -> Result<Option<Bears>, Stop> {
        if self.wire.tls.is_none() && !self.is_local() {
            let message = "a token is a password in the clear, and this connection is not encrypted";
            return Err(unencrypted(message).into());
        }
        let Some(tokens) = &self.doors.tokens else {
            let message = "this router has no keys to check tokens with";
            return Err(Report::fatal(SqlState::CANNOT_CONNECT_NOW, message).into());
        };
        let mut login = match by {
            TokenBy::Password => ClientLogin::token(out),
            TokenBy::OAuth => ClientLogin::bearer(tokens.issuer().as_deref(), out),
        };
        match self.exchange(&mut login, out).await? {
            Progress::Token(token) => {
                let bears = tokens.check(&token).await?;
                if bears.is_none() && login.deny(out) {
                    self.exchange(&mut login, out).await?;
                }
                Ok(bears)
            }
            Progress::More | Progress::Proven(_) => Ok(None),
        }
    }

    /// Steps until the login says more than "more".
    async fn exchange(&mut self, login: &mut ClientLogin, out: &mut Vec<u8>) -> Result<Progress, Stop> {
        loop {
            match login.step(&self.buffer, out) {
                Ok((0, Progress::More)) => {
                    self.wire.write(out).await?;
                    out.clear();
                    self.read().await?;
                }
                Ok((taken, progress)) => {
                    self.buffer.drain(..taken);
                    if !matches!(progress, Progress::More) {
                        return Ok(progress);
                    }
                }
                Err(Failure::WrongPassword) => return Err(Stop::WrongPassword),
                Err(Failure::Refused(report)) => return Err(Stop::Refused(report)),
            }
        }
    }
}

fn unencrypted(message: &'static str) -> Report<'static> {
    let hint = "Connect with sslmode=require, or better verify-full.";
    Report::fatal(SqlState::INVALID_AUTHORIZATION, message).hint(hint)
}

/// Fresh, as Postgres and libpq make theirs.
fn nonce() -> io::Result<String> {
    let mut bytes = [0; NONCE_CHARS / 4 * 3];
    rand::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(STANDARD.encode(bytes))
}
