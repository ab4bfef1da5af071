//! The way to a server: its name looked up anew each time, TCP, TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::OpenError;
use crate::router::protocol::server_login::SSL_REQUEST;
use crate::router::table::Encryption;
use crate::tenancy::Address;

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;
/// Until the next address of a name is tried beside the first (RFC 8305 recommends it).
const STAGGER: Duration = Duration::from_millis(250);
/// A server that acknowledges nothing for so long is gone.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(30);
/// Longer than Railway waits for quiet before it puts a service to sleep: a probe is answered, and the answer is traffic.
const KEEPALIVE: Duration = Duration::from_secs(11 * 60);

const PRIVATE: &str = ".railway.internal";

pub(super) struct Dialer {
    connect: Duration,
    tls: TlsConnector,
}

/// A connection to a server, encrypted or not.
pub(in crate::router) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Dialer {
    pub fn new(connect: Duration) -> Dialer {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for both versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth();
        Dialer { connect, tls: TlsConnector::from(Arc::new(config)) }
    }

    pub async fn connect(&self, address: &Address, encryption: Encryption) -> Result<Stream, OpenError> {
        let lost = |error: io::Error| OpenError::Unreachable { detail: format!("{address}: {error}") };
        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
        let stream = timeout(self.connect, tcp(address)).await.unwrap_or_else(|elapsed| Err(late(elapsed)));
        let stream = stream.map_err(lost)?;
        match encryption {
            Encryption::Disabled => Ok(Stream::Plain(stream)),
            Encryption::Required => self.encrypt(stream, address).await,
        }
    }

    /// By SSLRequest, which every server understands; TLS from the first byte needs Postgres 17.
    async fn encrypt(&self, mut stream: TcpStream, address: &Address) -> Result<Stream, OpenError> {
        let lost = |error: io::Error| OpenError::Unreachable { detail: format!("{address}: {error}") };
        stream.write_all(&SSL_REQUEST).await.map_err(lost)?;
        // One byte and no more: what an attacker put behind it must not be taken for something encrypted.
        match stream.read_u8().await.map_err(lost)? {
            b'S' => {}
            b'N' => {
                return Err(OpenError::Unproven { detail: format!("{address}: the server offers no encryption") });
            }
            _ => return Err(lost(io::Error::other("it is no Postgres server"))),
        }
        // Only sent, not verified; some hosts are no name that TLS can send.
        let name = ServerName::try_from(address.host.clone()).or_else(|_| ServerName::try_from("postgres"));
        let name = name.map_err(|error| lost(io::Error::other(error)))?;
        Ok(Stream::Tls(Box::new(self.tls.connect(name, stream).await.map_err(lost)?)))
    }
}

/// The first of the name's addresses that answers, whatever its family.
async fn tcp(address: &Address) -> io::Result<TcpStream> {
    let mut left = resolve(address).await?.into_iter();
    let mut tries = FuturesUnordered::new();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        match left.next() {
            Some(next) => tries.push(TcpStream::connect(next)),
            None if tries.is_empty() => return Err(failure),
            None => {}
        }
        let answer = tokio::select! {
            answer = tries.next() => answer,
            () = sleep(STAGGER), if left.len() > 0 => continue,
        };
        match answer {
            Some(Ok(stream)) => return prepared(stream),
            Some(Err(error)) => failure = error,
            None => {}
        }
    }
}

/// Clients read it, when they have waited in vain.
fn unknown(host: &str, error: io::Error) -> io::Error {
    if !host.ends_with(PRIVATE) {
        return error;
    }
    let text =
        format!("{error}; names of Railway's private network are known inside it only: elsewhere use --public");
    io::Error::new(error.kind(), text)
}

async fn resolve(address: &Address) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = address.host.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, address.port)]);
    }
    let found = tokio::net::lookup_host((address.host.as_str(), address.port)).await;
    Ok(found.map_err(|error| unknown(&address.host, error))?.take(ADDRESSES_MAX).collect())
}

fn prepared(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(Duration::from_secs(10)))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))?;
    Ok(stream)
}

impl Stream {
    /// Appends what has come; 0 at the end.
    pub async fn read(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Stream::Plain(stream) => stream.read_buf(buffer).await,
            Stream::Tls(stream) => stream.read_buf(buffer).await,
        }
    }

    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Stream::Plain(stream) => stream.write_all(bytes).await,
            Stream::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
        }
    }

    /// Terminate, so that the server logs no broken connection. It is over either way.
    pub async fn end(mut self) {
        let _ = self.write_all(b"X\0\0\0\x04").await;
    }

    /// The server's certificate, in DER.
    pub fn certificate(&self) -> Option<&[u8]> {
        match self {
            Stream::Plain(_) => None,
            Stream::Tls(stream) => stream.get_ref().1.peer_certificates()?.first().map(AsRef::as_ref),
        }
    }

    pub fn is_loopback(&self) -> bool {
        let socket = match self {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => stream.get_ref().0,
        };
        socket.peer_addr().is_ok_and(|address| address.ip().to_canonical().is_loopback())
    }

    /// Non-blocking.
    pub fn into_std(self) -> io::Result<(std::net::TcpStream, Option<Box<ClientConnection>>)> {
        match self {
            Stream::Plain(stream) => Ok((stream.into_std()?, None)),
            Stream::Tls(stream) => {
                let (stream, tls) = stream.into_inner();
                Ok((stream.into_std()?, Some(Box::new(tls))))
            }
        }
    }
}

/// Takes any certificate, but from its owner only: the handshake's signature is checked, or a copied certificate would
/// satisfy SCRAM's channel binding.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_a_private_name_elsewhere_is_told_the_way_out() {
        let told = |host: &str| unknown(host, io::Error::other("no such name")).to_string();
        assert_eq!(told("db.example.com"), "no such name");
        assert!(told("shared-1.railway.internal").ends_with("elsewhere use --public"));
    }
}
