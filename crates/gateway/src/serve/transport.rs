//! What connections are carried by: TCP, TLS over it, or a Unix socket.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::RwLock;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::server::TlsStream;

use crate::address::Peer;

/// Certificate and key of the server, for TLS. Clones are the same.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ServerConfig>,
    current: Arc<Current>,
}

/// The certificate that new connections are shown.
#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().clone())
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

fn certified(certificate: &Path, key: &Path) -> Result<CertifiedKey, String> {
    let at =
        |path: &Path, problem: &dyn std::fmt::Display| format!("{}: {problem}", path.display());
    let chain = CertificateDer::pem_file_iter(certificate)
        .map_err(|error| at(certificate, &error))?
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| at(certificate, &error))?;
    if chain.is_empty() {
        return Err(at(certificate, &"there is no certificate in it"));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| at(key, &error))?;
    let certified = CertifiedKey::from_der(chain, private, &ring::default_provider());
    certified.map_err(|error| at(key, &error))
}

impl Tls {
    /// Reads a chain of certificates and a private key, both as PEM.
    ///
    /// # Errors
    /// In words, where a file cannot be read, holds none, or the two do not belong together.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, String> {
        let current = Arc::new(Current(RwLock::new(Arc::new(certified(certificate, key)?))));
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_no_client_auth()
            .with_cert_resolver(current.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self {
            config: Arc::new(config),
            current,
        })
    }

    /// Reads what stands in the files now, to be shown to new connections.
    ///
    /// # Errors
    /// As [`Tls::read`].
    pub fn read_again(&self, certificate: &Path, key: &Path) -> Result<FreshCertificate, String> {
        let certified = Arc::new(certified(certificate, key)?);
        let current = Arc::clone(&self.current);
        Ok(FreshCertificate { current, certified })
    }
}

/// A certificate that was read, and is not shown yet.
#[must_use = "it is not shown by itself"]
pub struct FreshCertificate {
    current: Arc<Current>,
    certified: Arc<CertifiedKey>,
}

impl FreshCertificate {
    /// Shows it to new connections.
    pub fn show(self) {
        *self.current.0.write() = self.certified;
    }
}

/// Where connections come in.
pub struct Door(Kind);

enum Kind {
    Tcp(TcpListener, Option<TlsAcceptor>),
    Unix {
        listener: UnixListener,
        _file: Socket,
    },
}

/// The file of a Unix socket, removed when nobody listens there any more.
struct Socket(PathBuf);

impl Drop for Socket {
    fn drop(&mut self) {
        // Somebody else may have taken it away.
        std::fs::remove_file(&self.0).ok();
    }
}

impl Door {
    /// TCP, with TLS where there is a certificate.
    pub fn tcp(listener: TcpListener, tls: Option<Tls>) -> Self {
        Self(Kind::Tcp(
            listener,
            tls.map(|tls| TlsAcceptor::from(tls.config)),
        ))
    }

    /// A Unix socket at this path, which only the server's own user can reach. One that a killed server left behind
    /// is replaced.
    ///
    /// # Errors
    /// Where somebody listens there, or the path cannot be used.
    pub fn unix(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
        if let Ok(metadata) = std::fs::symlink_metadata(path) {
            if !metadata.file_type().is_socket() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            std::fs::remove_file(path)?;
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self(Kind::Unix {
            listener,
            _file: Socket(path.to_owned()),
        }))
    }

    pub(crate) async fn accept(&self) -> io::Result<(Knock, Peer)> {
        match &self.0 {
            Kind::Tcp(listener, tls) => {
                let (stream, address) = listener.accept().await?;
                let tls = tls.clone();
                Ok((Knock::Tcp { stream, tls }, Peer::of(address.ip())))
            }
            Kind::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                Ok((Knock::Unix(stream), Peer::Socket))
            }
        }
    }
}

/// A connection that was accepted, and has not said anything yet.
pub(crate) enum Knock {
    Tcp {
        stream: TcpStream,
        tls: Option<TlsAcceptor>,
    },
    Unix(UnixStream),
}

impl Knock {
    /// The TCP connection below, where there is one.
    pub(crate) fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp { stream, .. } => Some(stream),
            Self::Unix(_) => None,
        }
    }

    /// Agrees on keys, where the connection is to be private.
    pub(crate) async fn open(self) -> io::Result<Transport> {
        Ok(match self {
            Self::Unix(stream) => Transport::Unix(stream),
            Self::Tcp { stream, tls: None } => Transport::Tcp(stream),
            Self::Tcp {
                stream,
                tls: Some(tls),
            } => Transport::Tls(Box::new(tls.accept(stream).await?)),
        })
    }
}

/// A connection.
pub(crate) enum Transport {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

impl Transport {
    /// Whether the client has chosen HTTP/2.
    pub(crate) fn is_http2(&self) -> bool {
        match self {
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
            Self::Tcp(_) | Self::Unix(_) => false,
        }
    }
}

macro_rules! of_each {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Transport::Tcp($stream) => $call,
            Transport::Tls($stream) => $call,
            Transport::Unix($stream) => $call,
        }
    };
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        of_each!(self, stream => Pin::new(stream).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        of_each!(self, stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        of_each!(self, stream => Pin::new(stream).poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        of_each!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        of_each!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
