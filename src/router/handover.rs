//! What passes between the async side, which logs in, and the workers, which forward. Values only.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::manifest::Pooling;
pub use crate::tenancy::ScramKeys;
use crate::tenancy::{Address, Secret};

use super::table::Entry;

/// A client past authentication: its proof was right, and nothing after it has been answered.
#[derive(Debug)]
pub struct Client {
    /// Non-blocking, with TCP_NODELAY.
    pub stream: TcpStream,
    pub tls: Option<Box<rustls::ServerConnection>>,
    /// Already read from it (plain text): whatever followed the last message of its login.
    pub received: Vec<u8>,
    /// Owed to it and not yet written (plain text): the end of its login, as AuthenticationSASLFinal and AuthenticationOk.
    pub unsent: Vec<u8>,
    pub session: Session,
}

/// Who a client is and what it asked for.
#[derive(Debug)]
pub struct Session {
    /// For logs and metrics; unique in this process.
    pub id: u64,
    pub peer: SocketAddr,
    pub entry: Arc<Entry>,
    /// The name Postgres knows: `acme_reader`.
    pub role: Arc<str>,
    /// What it asked for, else the entry's.
    pub pooling: Pooling,
    /// Minor of the protocol agreed on: 0 or 2.
    pub minor: u16,
    /// Its startup parameters but user, database, options and `_pq_.*`; the settings inside `options` among them, in
    /// order, later ones win. What named the tenant is taken out.
    pub settings: Vec<(String, String)>,
    /// `replication=true` or `database`: a server connection of its own, no pool.
    pub replication: Option<String>,
    pub proof: Proof,
    /// `None`: as long as its client likes.
    pub lasts: Option<Lasts>,
}

/// How long a session goes on that a token began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasts {
    /// From the login on, until the token expires.
    For(Duration),
    /// Until this API key is revoked.
    WhileKey(Uuid),
}

/// How the router logs in to the instance as a role.
#[derive(Debug, Clone)]
pub enum Proof {
    Trust,
    Password(Secret),
    /// From the client's own SCRAM proof, or derived with the verifier: no password is known or needed.
    Keys(Arc<ScramKeys>),
}

/// A server connection that has said ReadyForQuery for the first time.
#[derive(Debug)]
pub struct Server {
    /// Non-blocking, with TCP_NODELAY.
    pub stream: TcpStream,
    pub tls: Option<Box<rustls::ClientConnection>>,
    /// Where it is, for cancels, and for noticing that an entry has moved.
    pub address: Address,
    /// The one it is in, whatever the entry says by now.
    pub database: Arc<str>,
    /// ParameterStatus of its login, in the order sent.
    pub parameters: Vec<(String, String)>,
    /// Of its BackendKeyData: the process, and the secret as sent (4 bytes in 3.0, up to 256 in 3.2).
    pub process: u32,
    pub secret: Vec<u8>,
    /// Already read from it (plain text) after ReadyForQuery.
    pub received: Vec<u8>,
}

/// Why no server connection came of a request. Texts are safe for the tenant to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenError {
    /// Postgres refused: its own ErrorResponse body, forwarded as it is. `code` is its SQLSTATE.
    Refused { code: [u8; 5], body: Vec<u8> },
    /// No address answered within the time a client waits.
    Unreachable { detail: String },
    /// The server could not prove that it knows the role's password, or asked for less than SCRAM.
    Unproven { detail: String },
}
