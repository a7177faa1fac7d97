//! Where a server is reached: its address, with TLS where it has a certificate, and a Unix socket besides.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use netra_gateway::{Door, Tls};
use tokio::net::TcpListener;

use crate::config::Config;
use crate::node::Error;

/// Doors that are open, and how programs on this machine reach the first of them.
pub(crate) struct Opened {
    pub(crate) doors: Vec<Door>,
    pub(crate) url: String,
    pub(crate) tls: Option<Tls>,
}

/// Opens what the configuration names.
pub(crate) async fn open(config: &Config) -> Result<Opened, Error> {
    let listener = listen(config.listen).await?;
    let address = listener.local_addr();
    let address = address.map_err(|error| Error::Other(error.into()))?;
    let tls = tls(config)?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let mut doors = vec![Door::tcp(listener, tls.clone())];
    if let Some(path) = &config.socket {
        doors.push(socket(path)?);
    }
    Ok(Opened {
        doors,
        url: format!("{scheme}://{}", reachable(address)),
        tls,
    })
}

fn tls(config: &Config) -> Result<Option<Tls>, Error> {
    let read = |(certificate, key): &(PathBuf, PathBuf)| Tls::read(certificate, key);
    config
        .tls
        .as_ref()
        .map(read)
        .transpose()
        .map_err(Error::Tls)
}

fn socket(path: &Path) -> Result<Door, Error> {
    Door::unix(path).map_err(|error| Error::Socket {
        path: path.display().to_string(),
        reason: match error.kind() {
            std::io::ErrorKind::AddrInUse => "another program listens there".into(),
            std::io::ErrorKind::AlreadyExists => "there is something else".into(),
            _ => error.to_string(),
        },
    })
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address)
        .await
        .map_err(|error| Error::Address {
            address,
            reason: match error.kind() {
                std::io::ErrorKind::AddrInUse => {
                    "another program listens there; --listen takes another port, 0 a free one"
                        .into()
                }
                std::io::ErrorKind::AddrNotAvailable => "it is no address of this machine".into(),
                std::io::ErrorKind::PermissionDenied => "ports below 1024 need a permission".into(),
                _ => error.to_string(),
            },
        })
}

/// The address that a program on this machine reaches the server at.
fn reachable(address: SocketAddr) -> SocketAddr {
    let mut reachable = address;
    if address.ip().is_unspecified() {
        reachable.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    reachable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_listens_everywhere_is_reached_on_this_machine() {
        let shown = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(shown("0.0.0.0:80"), "127.0.0.1:80");
        assert_eq!(shown("[::]:80"), "[::1]:80");
        assert_eq!(shown("192.0.2.1:80"), "192.0.2.1:80");
    }
}
