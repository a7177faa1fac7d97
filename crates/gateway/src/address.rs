//! Where a request comes from: the address of the connection or the Unix socket, or what a trusted proxy names.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use axum::http::HeaderMap;

/// Where a connection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    Address(IpAddr),
    /// The server's own Unix socket, which has no address.
    Socket,
}

/// Who may be a trusted proxy: addresses that begin alike, such as `10.0.0.0/8`, or whoever connects at the Unix socket
/// (`unix`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Net(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Addresses {
        base: u128,
        /// How many bits have to be the same, of those of IP version 6.
        bits: u32,
    },
    Socket,
}

/// What the Unix socket is called among addresses.
const UNIX: &str = "unix";
/// What it is counted as: no address, and no network of version 6.
const UNIX_NUMBER: u128 = u128::MAX;

/// As IP version 6 writes it, so that both versions compare alike.
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn mask(bits: u32) -> u128 {
    u128::MAX.checked_shl(128 - bits).unwrap_or(0)
}

impl FromStr for Net {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == UNIX {
            return Ok(Self(Kind::Socket));
        }
        let wrong =
            || format!("`{text}` is no address, no network such as 10.0.0.0/8, and not `unix`");
        let (address, bits) = match text.trim().split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u32>().map_err(|_| wrong())?)),
            None => (text.trim(), None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let own = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(own);
        if bits > own {
            return Err(wrong());
        }
        let bits = bits + (128 - own);
        Ok(Self(Kind::Addresses {
            base: number(address) & mask(bits),
            bits,
        }))
    }
}

impl Net {
    fn holds(self, peer: Peer) -> bool {
        match (self.0, peer) {
            (Kind::Addresses { base, bits }, Peer::Address(address)) => {
                number(address) & mask(bits) == base
            }
            (Kind::Socket, Peer::Socket) => true,
            (Kind::Addresses { .. } | Kind::Socket, _) => false,
        }
    }
}

impl Peer {
    /// An address of version 4 is one, however it is written.
    pub(crate) fn of(address: IpAddr) -> Self {
        Self::Address(address.to_canonical())
    }

    pub(crate) fn is_loopback(self) -> bool {
        matches!(self, Self::Address(address) if address.is_loopback())
    }
}

/// An address as proxies write it, with a port or without.
fn named(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let plain = text.parse().ok();
    let with_port = || {
        let socket: std::net::SocketAddr = text.parse().ok()?;
        Some(socket.ip())
    };
    let in_brackets = || {
        text.strip_prefix('[')?
            .strip_suffix(']')?
            .parse::<Ipv6Addr>()
            .ok()
            .map(IpAddr::V6)
    };
    let found = plain.or_else(with_port).or_else(in_brackets)?;
    Some(found.to_canonical())
}

/// Where the client is. Behind a trusted proxy it is the last of `X-Forwarded-For` that is no trusted proxy itself:
/// what stands before it the client may have written.
pub(crate) fn of_client(peer: Peer, headers: &HeaderMap, trusted: &[Net]) -> Peer {
    let is_trusted = |peer: Peer| trusted.iter().any(|net| net.holds(peer));
    let mut client = peer;
    if !is_trusted(client) {
        return client;
    }
    let lines = headers.get_all("x-forwarded-for").iter();
    let lines: Vec<&str> = lines.map(|line| line.to_str().unwrap_or("?")).collect();
    for hop in lines.iter().flat_map(|line| line.split(',')).rev() {
        let Some(address) = named(hop) else {
            return client;
        };
        client = Peer::Address(address);
        if !is_trusted(client) {
            return client;
        }
    }
    client
}

/// Whom requests without credentials are counted for: of IP version 6 a network, because whoever has one address there
/// has all of it.
pub(crate) fn counted(peer: Peer) -> u128 {
    match peer {
        Peer::Address(address @ IpAddr::V4(_)) => number(address),
        Peer::Address(IpAddr::V6(address)) => address.to_bits() & mask(64),
        Peer::Socket => UNIX_NUMBER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<Net> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn client(peer: &str, lines: &[&str], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        let peer = match peer {
            UNIX => Peer::Socket,
            address => Peer::of(address.parse().unwrap()),
        };
        match of_client(peer, &headers, &nets(trusted)) {
            Peer::Address(address) => address.to_string(),
            Peer::Socket => UNIX.to_owned(),
        }
    }

    #[test]
    fn a_unix_socket_is_no_address_and_trusted_by_its_own_name_only() {
        assert_eq!(client("unix", &["1.1.1.1"], &["127.0.0.1", "::1"]), "unix");
        assert_eq!(client("unix", &["1.1.1.1"], &["unix"]), "1.1.1.1");
        assert_eq!(client("unix", &[], &["unix"]), "unix");
        assert_eq!(client("127.0.0.1", &["1.1.1.1"], &["unix"]), "127.0.0.1");
        assert!(!Peer::Socket.is_loopback());
        for address in [
            "127.0.0.1",
            "::1",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        ] {
            let address = Peer::of(address.parse().unwrap());
            assert_ne!(counted(address), counted(Peer::Socket));
        }
    }

    #[test]
    fn only_a_trusted_proxy_is_believed_and_only_its_own_word() {
        let proxy = &["10.0.0.0/8", "::1"];
        assert_eq!(client("192.0.2.7", &["1.1.1.1"], proxy), "192.0.2.7");
        assert_eq!(client("10.1.2.3", &["1.1.1.1"], &[]), "10.1.2.3");
        assert_eq!(client("10.1.2.3", &["1.1.1.1"], proxy), "1.1.1.1");
        assert_eq!(client("::ffff:10.1.2.3", &["1.1.1.1"], proxy), "1.1.1.1");
        // What the client has written itself stands before.
        assert_eq!(client("10.1.2.3", &["8.8.8.8, 1.1.1.1"], proxy), "1.1.1.1");
        assert_eq!(
            client("10.1.2.3", &["8.8.8.8", "1.1.1.1"], proxy),
            "1.1.1.1"
        );
        assert_eq!(client("10.1.2.3", &["1.1.1.1, 10.9.9.9"], proxy), "1.1.1.1");
        assert_eq!(client("10.1.2.3", &["1.1.1.1, rubbish"], proxy), "10.1.2.3");
        assert_eq!(client("10.1.2.3", &[], proxy), "10.1.2.3");
        assert_eq!(client("::1", &["[2001:db8::1]:99"], proxy), "2001:db8::1");
        assert_eq!(client("::1", &["1.2.3.4:5678"], proxy), "1.2.3.4");
    }

    #[test]
    fn networks_are_read_and_nonsense_is_not() {
        let net: Net = "192.0.2.128/25".parse().unwrap();
        let holds = |net: Net, text: &str| net.holds(Peer::of(text.parse().unwrap()));
        assert!(holds(net, "192.0.2.200"));
        assert!(!holds(net, "192.0.2.100"));
        let all: Net = "0.0.0.0/0".parse().unwrap();
        assert!(holds(all, "8.8.8.8"));
        assert!(!holds(all, "2001:db8::1"));
        for bad in [
            "",
            "10.0.0.0/33",
            "::/129",
            "host",
            "10.0.0.0/x",
            "10.0.0/8",
        ] {
            assert!(bad.parse::<Net>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_network_of_version_6_is_one_client() {
        let of = |text: &str| counted(Peer::of(text.parse().unwrap()));
        assert_eq!(of("2001:db8::1"), of("2001:db8::2:3"));
        assert_ne!(of("2001:db8:0:1::1"), of("2001:db8::1"));
        assert_ne!(of("1.2.3.4"), of("1.2.3.5"));
        assert_eq!(of("::ffff:1.2.3.4"), of("1.2.3.4"));
    }
}
