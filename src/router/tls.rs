//! TLS towards clients: which certificate is shown, by the name a client asks for, and what that certificate binds SCRAM to.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ProducesTickets, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection};
use tokio_util::sync::CancellationToken;

use super::protocol::scram::end_point;

pub const ALPN: &[u8] = b"postgresql";
/// libpq reads a record in one go; 8 KiB of text, as in Postgres' own buffers.
const RECORD_BYTES_MAX: usize = 8192;
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// One certificate with its chain, and its key; both in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PemFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read {}", .path.display())]
    File { path: PathBuf, source: rustls::pki_types::pem::Error },
    #[error("{} and {} do not go together", .files.certificate.display(), .files.key.display())]
    Pair { files: PemFiles, source: rustls::Error },
    #[error("no certificate was given")]
    None,
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

/// What new connections are served with; follows its files.
pub struct Tls {
    files: Vec<PemFiles>,
    /// Kept over a change of certificates: sessions resume.
    tickets: Arc<dyn ProducesTickets>,
    served: RwLock<Served>,
}

#[derive(Clone)]
struct Served {
    config: Arc<ServerConfig>,
    certificates: Arc<Certificates>,
    /// Of every file, in order.
    changed: Vec<Option<SystemTime>>,
}

#[derive(Debug)]
struct Certificates(Vec<Certificate>);

#[derive(Debug)]
struct Certificate {
    key: Arc<CertifiedKey>,
    end_point: Option<Vec<u8>>,
}

impl Certificates {
    /// By the name alone, so that it can be told afterwards which one was shown. The first where no other fits better.
    fn choose(&self, name: Option<&str>) -> &Certificate {
        let (first, others) = self.0.split_first().expect("one at least");
        if others.is_empty() {
            return first;
        }
        let Some(name) = name.and_then(|name| ServerName::try_from(name).ok()) else { return first };
        let fits = |certificate: &&Certificate| {
            let parsed = certificate.key.end_entity_cert().and_then(ParsedCertificate::try_from);
            parsed.is_ok_and(|parsed| rustls::client::verify_server_name(&parsed, &name).is_ok())
        };
        self.0.iter().find(fits).unwrap_or(first)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.choose(hello.server_name()).key))
    }
}

/// A handshake about to begin, and the certificates it will be made with.
pub struct Handshake {
    pub connection: ServerConnection,
    certificates: Arc<Certificates>,
}

impl Handshake {
    /// The connection, and what SCRAM binds to; after the handshake.
    pub fn done(self) -> (ServerConnection, Option<Vec<u8>>) {
        let end_point = self.certificates.choose(self.connection.server_name()).end_point.clone();
        (self.connection, end_point)
    }
}

impl Tls {
    /// The first certificate is for all names that none of the others has.
    pub fn load(files: Vec<PemFiles>) -> Result<Tls, TlsError> {
        let tickets = aws_lc_rs::Ticketer::new().map_err(TlsError::Setup)?;
        let served = RwLock::new(serve(&files, &tickets)?);
        Ok(Tls { files, tickets, served })
    }

    pub fn handshake(&self) -> Result<Handshake, rustls::Error> {
        let served = self.served();
        let connection = ServerConnection::new(served.config)?;
        Ok(Handshake { connection, certificates: served.certificates })
    }

    fn served(&self) -> Served {
        self.served.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the files had changed and are served now. On an error what was served before stays.
    pub fn reload(&self) -> Result<bool, TlsError> {
        if changed(&self.files) == self.served().changed {
            return Ok(false);
        }
        let served = serve(&self.files, &self.tickets)?;
        *self.served.write().unwrap_or_else(PoisonError::into_inner) = served;
        Ok(true)
    }

    /// Follows the files until `stop`.
    pub async fn follow(self: Arc<Tls>, stop: CancellationToken) {
        let mut failing = false;
        while stop.run_until_cancelled(tokio::time::sleep(LOOK_AGAIN)).await.is_some() {
            let tls = Arc::clone(&self);
            match tokio::task::spawn_blocking(move || tls.reload()).await {
                Ok(Ok(true)) => tracing::info!("serving the changed TLS certificates"),
                // Half a change is met while the files are being written; said once, not at every look.
                Ok(Err(error)) if !failing => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "the changed TLS files are not used");
                    failing = true;
                    continue;
                }
                Ok(Err(_)) => continue,
                Ok(Ok(false)) | Err(_) => {}
            }
            failing = false;
        }
    }
}

fn serve(files: &[PemFiles], tickets: &Arc<dyn ProducesTickets>) -> Result<Served, TlsError> {
    // Before they are read: a change in between is seen at the next look.
    let changed = changed(files);
    let provider = Arc::new(aws_lc_rs::default_provider());
    let certificates: Vec<Certificate> =
        files.iter().map(|files| read(files, &provider)).collect::<Result<_, _>>()?;
    if certificates.is_empty() {
        return Err(TlsError::None);
    }
    let certificates = Arc::new(Certificates(certificates));
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(TlsError::Setup)?.with_no_client_auth();
    let mut config = builder.with_cert_resolver(Arc::clone(&certificates) as Arc<dyn ResolvesServerCert>);
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.max_fragment_size = Some(RECORD_BYTES_MAX);
    config.ticketer = Arc::clone(tickets);
    config.send_tls13_tickets = 1;
    Ok(Served { config: Arc::new(config), certificates, changed })
}

fn read(files: &PemFiles, provider: &CryptoProvider) -> Result<Certificate, TlsError> {
    let failed = |path: &PathBuf| {
        let path = path.clone();
        move |source| TlsError::File { path, source }
    };
    let chain = CertificateDer::pem_file_iter(&files.certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(failed(&files.certificate))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(failed(&files.key))?;
    let end_point = chain.first().and_then(|certificate| end_point(certificate));
    let key = CertifiedKey::from_der(chain, key, provider);
    let key = key.map_err(|source| TlsError::Pair { files: files.clone(), source })?;
    Ok(Certificate { key: Arc::new(key), end_point })
}

fn changed(files: &[PemFiles]) -> Vec<Option<SystemTime>> {
    let paths = files.iter().flat_map(|files| [&files.certificate, &files.key]);
    paths.map(|path| path.metadata().and_then(|data| data.modified()).ok()).collect()
}

#[cfg(test)]
#[path = "tls_tests.rs"]
pub(in crate::router) mod tests;
